"""Small mistakes of people and scripts: empty variables, closed streams, the wrong place. All told, nothing lost."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
from pathlib import Path

import pytest

full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


@pytest.mark.parametrize("option", ["--vault", "--password-file", "--password-command"])
def test_an_empty_option_does_not_mean_the_default(cli, documents: Path, option: str) -> None:
    cli("backup", documents)
    for words in ([option, "", "snapshots"], ["snapshots", option, ""]):
        done = cli(*words)
        assert done.code == 2 and option in done.err and "empty" in done.err, done


def test_an_empty_path_or_destination_does_not_mean_something_else(cli, documents: Path, snapshot_of) -> None:
    cli("backup", documents)
    before = snapshot_of(cli.default_vault)
    assert "empty" in cli("backup", documents, "", cwd=documents).err
    assert cli("backup", documents, "", cwd=documents).code == 2
    assert cli("backup", documents, "--to", "").code == 2
    assert snapshot_of(cli.default_vault) == before


def test_a_place_without_a_vault_is_told_before_a_password_is_wanted(cli, documents: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for place in (plain, tmp_path / "missing"):
        for words in (["snapshots"], ["backup", documents], ["check"], ["restore", "latest", "-t", tmp_path / "out"]):
            done = cli(*words, "--vault", place)
            assert done.code == 10 and "no vault" in done.err and "hint: " in done.err, done
    assert list(plain.iterdir()) == [], "nothing may be made where no vault is"
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("part", ["", "/", "/data", "/../vault"])
def test_a_vault_is_never_saved_into_itself(cli, documents: Path, part: str, snapshot_of) -> None:
    cli("backup", documents)
    before = snapshot_of(cli.default_vault)
    done = cli("backup", documents, f"{cli.default_vault}{part}")
    assert done.code == 2 and "hint: " in done.err, done
    assert cli("backup", ".", cwd=cli.default_vault).code == 2
    assert snapshot_of(cli.default_vault) == before
    # What holds the vault is saved without it.
    assert cli("backup", cli.default_vault.parent, "-v").code == 0
    assert "snapshots" not in cli("ls", "-R", "latest").out


def test_of_several_vaults_the_first_failure_is_the_exit_code(cli, documents: Path, tmp_path: Path) -> None:
    cli("backup", documents)
    done = cli("backup", documents, tmp_path / "missing", "--to", tmp_path / "none", "--to", cli.default_vault)
    assert done.code == 10, done  # not 3, though the second one is partial
    assert cli("snapshots", "--json").summary["snapshots"] == 2


def test_closed_standard_streams(cli, documents: Path, snapshot_of) -> None:
    shell = " ".join(f"'{word}'" for word in cli.words)

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line.replace("holdfast", shell).replace("DOCUMENTS", f"'{documents}'")],
            capture_output=True, env=cli.environ, text=True, check=False,
        )  # fmt: skip

    for line in (
        *("holdfast backup -v DOCUMENTS >&- 2>&- <&-", "holdfast backup -v DOCUMENTS >&-"),
        *("holdfast snapshots <&-", "holdfast backup DOCUMENTS 2>&-", "holdfast ls latest >&-"),
    ):
        done = run(line)
        assert done.returncode == 0 and "Traceback" not in done.stderr and "mistake" not in done.stderr, done
    assert run("holdfast ls 00 2>&-").returncode == 10
    assert cli("check", "--read-data").code == 0, "no message may have ended in a file of the vault"


@full_device
def test_a_full_disk_behind_json_is_told_on_standard_error(cli, documents: Path) -> None:
    cli("backup", documents)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*cli.words, "--json", "snapshots"], stdout=full, stderr=subprocess.PIPE, env=cli.environ, check=False
        )
    assert done.returncode == 1 and b"No space left" in done.stderr


def test_a_new_key_without_a_source_names_the_right_options(cli, documents: Path) -> None:
    cli("backup", documents)
    for verb in ("add", "passwd"):
        done = cli("key", verb)
        assert done.code == 2 and "--new-key-file" in done.err and "--new-password-file" in done.err


def test_no_lock_with_a_command_that_writes(cli, documents: Path, snapshot_of) -> None:
    cli("backup", documents)
    before = snapshot_of(cli.default_vault)
    done = cli("--no-lock", "backup", documents)
    assert done.code == 12 and "only read" in done.err
    assert snapshot_of(cli.default_vault) == before


def test_dump_names_the_file_that_was_asked_for(cli, documents: Path, tmp_path: Path) -> None:
    cli("backup", documents)
    done = cli("dump", "latest", "-o", tmp_path / "missing" / "x.tar")
    assert done.code == 10 and f"{tmp_path}/missing/x.tar: " in done.err
    assert cli("dump", "latest", "-o", tmp_path / "x.tar").code == 0
    assert stat.S_IMODE((tmp_path / "x.tar").stat().st_mode) == 0o600


def test_all_snapshots_are_damaged(cli, documents: Path, tmp_path: Path) -> None:
    cli("backup", documents)
    (snapshot,) = (cli.default_vault / "snapshots").iterdir()
    snapshot.chmod(0o600)
    snapshot.write_bytes(b"x" * 100)
    for words in (["ls", "latest"], ["restore", "latest", "-t", tmp_path / "out"], ["diff", "latest"]):
        done = cli(*words)
        assert done.code == 13 and "no snapshot yet" not in done.err, done


def test_damage_is_told_once_and_with_its_path(cli, documents: Path, tmp_path: Path) -> None:
    cli("backup", documents)
    big = documents / "big"
    big.write_bytes(random.Random(3).randbytes(100_000))
    cli("backup", documents)
    packs = [path for path in (cli.default_vault / "data").rglob("*") if path.is_file()]
    pack = max(packs, key=lambda path: path.stat().st_size)
    pack.unlink()
    done = cli("check")
    assert done.code == 13
    assert (done.out + done.err).count("it is not there") == 1, done
    restored = cli("restore", "latest", "-t", tmp_path / "out")
    warnings = [line for line in restored.err.splitlines() if line.startswith("warning: ")]
    assert restored.code == 13 and warnings and all(f"{documents}" in line for line in warnings), restored


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_an_unreadable_path_is_a_problem_not_bad_usage(cli, documents: Path) -> None:
    (documents / "letters").chmod(0)
    try:
        done = cli("backup", documents / "letters")
        assert done.code == 3 and "Permission denied" in done.err, done
    finally:
        (documents / "letters").chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_lock_that_cannot_be_written_names_the_way_out(cli, documents: Path) -> None:
    cli("backup", documents)
    locks = cli.default_vault / "locks"
    locks.chmod(0o500)
    try:
        done = cli("ls", "latest")
        assert done.code == 12 and "--no-lock" in done.err, done
        assert cli("ls", "latest", "--no-lock").code == 0
    finally:
        locks.chmod(0o700)


@pytest.mark.parametrize(
    "words",
    [
        ["ls", "--bogus", "--json"],
        ["ls", "--json", "--bogus"],
        ["find", "*", "--newer", "2026-13-45", "--json"],
        ["history", "--limit", "9" * 30, "--json"],
        ["manifest", "deadbeef", "--json"],
    ],
)
def test_a_mistake_is_an_event_wherever_json_stands(cli, documents: Path, words: list[str]) -> None:
    cli("backup", documents)
    done = cli(*words)
    assert done.events[-1]["event"] == "error" and done.events[-1]["exit_code"] == done.code != 0, done
    assert "hint: " in done.err


def test_json_behind_two_dashes_is_of_another_command(cli) -> None:
    done = cli("run", "nightly", "--bogus", "--", "echo", "--json")
    assert done.code == 2 and done.out == "" and "--bogus" in done.err


def test_a_manifest_is_one_document_also_with_json(cli, documents: Path) -> None:
    cli("backup", documents)
    assert json.loads(cli("manifest", "latest", "--json").out)["totals"]["files"] == 3


@pytest.mark.parametrize(
    "words", [["rewrite", "", "-e", "x"], ["repair", "snapshots", ""], ["forget", ""], ["tag", ""]]
)
def test_an_empty_snapshot_does_not_mean_all_of_them(cli, documents: Path, words: list[str], snapshot_of) -> None:
    cli("backup", documents)
    before = snapshot_of(cli.default_vault)
    done = cli(*words)
    assert done.code == 2 and "is not a snapshot" in done.err, done
    assert snapshot_of(cli.default_vault) == before


def test_a_working_folder_that_was_removed_is_named(cli, documents: Path, tmp_path: Path) -> None:
    words = " ".join(f"'{word}'" for word in cli.words)
    line = f"mkdir gone && cd gone && rmdir ../gone && {words} backup ."
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, env=cli.environ, cwd=tmp_path, text=True, check=False
    )
    assert done.returncode == 10 and "was removed" in done.stderr and "hint: " in done.stderr, done
