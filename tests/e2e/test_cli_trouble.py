"""When things go wrong: the message, the hint, the exit code, and proof that what was there is still there."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.format.config import RepoConfig
from holdfast.format.crypto import seal
from holdfast.kernel.secret import Secret
from holdfast.repository import Repository
from holdfast.storage import LocalStorage


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system in memory at ``folder``. Skips where that is not allowed."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def rewrite_config(cli, version: int) -> None:
    """Give the default vault another format version."""
    secret = Secret(cli.default_key.read_bytes().strip(), random=True)
    repository = Repository.open(LocalStorage(str(cli.default_vault)), secret)
    config = RepoConfig(version, repository.config.id, repository.config.polynomial)
    path = cli.default_vault / "config"
    path.chmod(0o600)
    path.write_bytes(seal(repository.master, os.urandom(16), config.encode()))


def test_a_format_version_of_the_future(cli, documents: Path, snapshot_of) -> None:
    cli("backup", documents)
    rewrite_config(cli, 3)
    before = snapshot_of(cli.default_vault)
    for words in (["backup", documents], ["snapshots"], ["restore", "latest", "-t", "x"], ["check"]):
        done = cli(*words)
        assert done.code == 1, (words, done)
        assert "version 3" in done.err and "hint: " in done.err
    assert snapshot_of(cli.default_vault) == before


def test_format_version_1_is_served(cli, documents: Path, need, tmp_path: Path) -> None:
    vault = tmp_path / "old"
    environ = {**cli.environ, "RESTIC_PASSWORD": "x"}
    made = subprocess.run(
        [need("restic"), "init", "-q", "-r", vault, "--repository-version", "1"],
        env=environ,
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("this restic makes no version 1 any more")
    assert cli("backup", documents, "--to", vault, RESTIC_PASSWORD="x").code == 0
    assert cli("check", "--read-data", "--vault", vault, RESTIC_PASSWORD="x").code == 0
    checked = subprocess.run(
        [need("restic"), "check", "--read-data", "-r", vault], env=environ, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for index in (vault / "index").iterdir():
        words = [need("restic"), "cat", "index", index.name, "-r", vault]
        content = subprocess.run(words, env=environ, capture_output=True, check=True).stdout
        assert b'"packs"' in content and b"uncompressed_length" not in content, "version 1 has no compressed blobs"


@pytest.mark.parametrize("kept", [0, 10, 100])
def test_a_truncated_config(cli, documents: Path, kept: int, snapshot_of) -> None:
    cli("backup", documents)
    config = cli.default_vault / "config"
    config.chmod(0o600)
    config.write_bytes(config.read_bytes()[:kept])
    before = snapshot_of(cli.default_vault)
    for words in (["backup", documents], ["snapshots"], ["check"]):
        done = cli(*words)
        assert done.code == 13, (words, done)
        assert "config" in done.err and "hint: " in done.err
    assert snapshot_of(cli.default_vault) == before


@pytest.mark.parametrize("kind", ["index", "snapshots", "data"])
@pytest.mark.parametrize("how", ["flipped", "truncated", "gone"])
def test_damage_is_found_by_check_and_nothing_is_made_worse(
    cli, documents: Path, kind: str, how: str, snapshot_of
) -> None:
    cli("backup", documents)
    (victim, *_) = [path for path in sorted((cli.default_vault / kind).rglob("*")) if path.is_file()]
    victim.chmod(0o600)
    data = bytearray(victim.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 0x40
        victim.write_bytes(data)
    elif how == "truncated":
        victim.write_bytes(data[: len(data) // 2])
    else:
        victim.unlink()
    before = snapshot_of(cli.default_vault)
    done = cli("check", "--read-data")
    if (kind, how) == ("snapshots", "gone"):
        assert done.code == 0, "nothing says that it was ever there"
    else:
        assert done.code == 13, done
        assert "damage: " in done.out or "damaged" in done.err
    assert snapshot_of(cli.default_vault) == before


def test_a_full_disk(cli, documents: Path, tmp_path: Path, snapshot_of) -> None:
    with mounted(tmp_path / "small", "size=2m") as small:
        vault = small / "vault"
        assert cli("init", vault, HOLDFAST_PASSWORD="x").code == 0
        assert cli("backup", documents, "--to", vault, HOLDFAST_PASSWORD="x").code == 0
        before = snapshot_of(vault)
        (documents / "big").write_bytes(random.Random(1).randbytes(4 << 20))
        done = cli("backup", documents, "--to", vault, HOLDFAST_PASSWORD="x")
        assert done.code == 1, done
        assert "hint: " in done.err and ("space" in done.err.lower() or "full" in done.err.lower())
        after = snapshot_of(vault)
        assert {name: after[name] for name in before} == before
        (documents / "big").unlink()
        assert cli("backup", documents, "--to", vault, HOLDFAST_PASSWORD="x").code == 0
        assert cli("check", "--read-data", "--vault", vault, HOLDFAST_PASSWORD="x").code == 0


def test_a_read_only_vault_can_be_looked_into_without_a_lock(cli, documents: Path, tmp_path: Path, snapshot_of) -> None:
    with mounted(tmp_path / "disk", "size=8m") as disk:
        vault = disk / "vault"
        cli("init", vault, HOLDFAST_PASSWORD="x")
        cli("backup", documents, "--to", vault, HOLDFAST_PASSWORD="x")
        before = snapshot_of(vault)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        done = cli("backup", documents, "--to", vault, HOLDFAST_PASSWORD="x")
        assert done.code == 12 and "hint: " in done.err, done
        assert cli("ls", "latest", "--vault", vault, "--no-lock", HOLDFAST_PASSWORD="x").code == 0
        assert cli("check", "--read-data", "--vault", vault, "--no-lock", HOLDFAST_PASSWORD="x").code == 0
        assert snapshot_of(vault) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_no_permission_for_the_vault(cli, documents: Path) -> None:
    cli("backup", documents)
    cli.default_vault.chmod(0)
    try:
        for words in (["backup", documents], ["snapshots"], ["check"]):
            done = cli(*words)
            assert done.code == 12 and "hint: " in done.err
    finally:
        cli.default_vault.chmod(0o700)


def test_the_vault_is_deleted_while_a_backup_runs(cli, documents: Path) -> None:
    cli("backup", documents)
    content = random.Random(2)
    for number in range(400):
        (documents / f"{number}.bin").write_bytes(content.randbytes(200_000))
    process = subprocess.Popen(
        [*cli.words, "backup", documents, "--json", "-v"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**cli.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    process.stdout.readline()
    shutil.rmtree(cli.default_vault, ignore_errors=True)
    _, err = process.communicate(timeout=100)
    assert process.returncode not in (0, 3, -9), "a backup that is nowhere must not be called a success"
    assert b"Traceback" not in err and b"holdfast: " in err
    # The files to protect are all there.
    assert len(list(documents.glob("*.bin"))) == 400


def test_a_file_where_the_vault_should_be(cli, documents: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for words in (["init", tmp_path / "file"], ["snapshots", "--vault", tmp_path / "file"]):
        done = cli(*words, HOLDFAST_PASSWORD="x")
        assert done.code in (2, 10, 12), done
        assert "hint: " in done.err
    assert (tmp_path / "file").read_text() == "precious"


def test_a_second_backup_may_run_at_the_same_time(cli, documents: Path) -> None:
    cli("backup", documents)
    begin = time.monotonic()
    running = [
        subprocess.Popen(
            [*cli.words, "backup", documents, "--force"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=cli.environ,
        )
        for _ in range(2)
    ]
    for process in running:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert cli("check", "--read-data").code == 0, time.monotonic() - begin
    assert cli("snapshots", "--json").summary["snapshots"] == 3
