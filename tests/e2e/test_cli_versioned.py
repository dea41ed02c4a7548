"""A versioned vault as people use it: made, filled, looked into, restored, thinned out, checked."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.conftest import Cli
from tests.versionedkit import with_ordinary_tools

from holdfast.vaults.versioned import VersionedVault


@pytest.fixture
def vault(cli: Cli, documents: Path, tmp_path: Path) -> str:
    """A versioned vault with two snapshots of the documents."""
    place = str(tmp_path / "versions")
    assert cli("init", "--kind", "versioned", place).code == 0
    (documents / "notes.txt").write_text("".join(f"line {number}\n" for number in range(50)))
    assert cli("backup", documents, "--to", place).code == 0
    (documents / "notes.txt").write_text("".join(f"line {number}\n" for number in range(50) if number != 20))
    (documents / "added").write_text("x")
    assert cli("backup", documents, "--to", place, "--note", "second").code == 0
    return place


def ids(cli: Cli, vault: str) -> list[str]:
    return [
        event["id"] for event in cli("snapshots", "--vault", vault, "--json").events if event["event"] == "snapshot"
    ]


def test_init_says_what_it_made_and_refuses_what_is_not_for_it(cli: Cli, tmp_path: Path) -> None:
    done = cli("init", "--kind", "versioned", tmp_path / "v")
    assert done.code == 0
    assert "versioned" in done.out
    assert "not encrypted" in done.out
    assert cli("init", "--kind", "versioned", tmp_path / "w", "--json").summary["kind"] == "versioned"
    assert cli("init", "--kind", "versioned", tmp_path / "x", "--protect").code == 2
    again = cli("init", "--kind", "versioned", tmp_path / "v")
    assert again.code != 0
    assert again.err


def test_backup_tells_true_counts(cli: Cli, documents: Path, vault: str) -> None:
    done = cli("backup", documents, "--to", vault)
    assert done.code == 0
    assert "0 new, 0 changed, 0 removed" in done.out
    (documents / "added").unlink()
    (documents / "notes.txt").write_text("short\n")
    dry = cli("backup", documents, "--to", vault, "--dry-run")
    assert "removed" in dry.out
    assert "notes.txt" in dry.out
    summary = cli("backup", documents, "--to", vault, "--json").summary
    assert (summary["files_new"], summary["files_changed"], summary["files_removed"]) == (0, 1, 1)
    assert summary["kind"] == "versioned"


def test_snapshots_ls_find_diff_and_dump(cli: Cli, documents: Path, vault: str) -> None:
    first, second = ids(cli, vault)
    shown = cli("snapshots", "--vault", vault)
    assert first[:8] in shown.out
    assert "notes.txt" in cli("ls", first[:8], "--vault", vault).out
    assert "added" in cli("find", "added", "--vault", vault).out
    diff = cli("diff", first[:8], second[:8], "--vault", vault)
    assert diff.code == 0
    assert "added" in diff.out
    lines = cli("diff", first[:8], second[:8], "--text", documents / "notes.txt", "--vault", vault)
    assert "-line 20" in lines.out
    same = cli("diff", documents / "notes.txt", "--from", first[:8], "--to", second[:8], "--vault", vault)
    assert same.out == lines.out
    shown = cli(
        "diff", first[:8], second[:8], "--text", documents / "notes.txt", "--open", "--vault", vault, EDITOR="cat"
    )
    assert "-line 20" in shown.out
    broken = cli(
        "diff", first[:8], second[:8], "--text", documents / "notes.txt", "--open", "--vault", vault, EDITOR="false"
    )  # fmt: skip
    assert broken.code == 75
    assert "EDITOR" in broken.err
    assert cli("diff", first[:8], "--open", "--vault", vault).code == 2
    dumped = cli("dump", f"{first[:8]}:{documents}/notes.txt", "--vault", vault)
    assert "line 20\n" in dumped.out


def test_restore_of_an_older_state_and_in_place(cli: Cli, documents: Path, vault: str, tmp_path: Path) -> None:
    first = ids(cli, vault)[0]
    done = cli("restore", f"{first[:8]}:{documents}", "--target", tmp_path / "out", "--vault", vault)
    assert done.code == 0, done.err
    assert "line 20\n" in (tmp_path / "out/notes.txt").read_text()
    assert not (tmp_path / "out/added").exists()
    (documents / "notes.txt").write_text("ruined")
    assert cli("restore", "latest", "--in-place", "--vault", vault).code == 0
    assert "line 21\n" in (documents / "notes.txt").read_text()


def test_forget_shows_its_plan_and_frees_history(cli: Cli, documents: Path, vault: str) -> None:
    before = ids(cli, vault)
    dry = cli("forget", "--keep-last", "1", "--dry-run", "--vault", vault)
    assert "1 snapshot would be forgotten" in dry.out
    assert ids(cli, vault) == before
    assert list(Path(vault, ".holdfast/history").rglob("*.diff"))
    done = cli("forget", "--keep-last", "1", "--vault", vault)
    assert done.code == 0
    assert "1 snapshot forgotten, 1 kept" in done.out
    assert ids(cli, vault) == before[1:]
    assert not list(Path(vault, ".holdfast/history").rglob("*.diff"))
    assert cli("check", "--vault", vault).code == 0
    assert cli("forget", before[0], "--vault", vault).code == 10


def test_check_names_what_rotted_and_rebuilds_a_lost_index(cli: Cli, documents: Path, vault: str) -> None:
    done = cli("check", "--vault", vault)
    assert done.code == 0
    assert "No damage found" in done.out
    Path(vault, ".holdfast/index.sqlite").write_bytes(b"not a database")
    assert cli("check", "--rebuild", "--vault", vault).code == 0
    copy = Path(vault + str(documents / "notes.txt"))
    copy.write_text("something else")
    found = cli("check", "--vault", vault)
    assert found.code == 13
    assert "notes.txt" in found.out + found.err


def test_a_locked_vault_and_commands_for_archives(cli: Cli, documents: Path, vault: str) -> None:
    with Path(vault, ".holdfast/lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = cli("backup", documents, "--to", vault)
    assert done.code == 11
    assert "in use" in done.err
    for words in (["prune"], ["key", "list"], ["copy", "--from", vault]):
        refused = cli(*words, "--vault", vault)
        assert refused.code not in (0, 70), (words, refused)
        assert "versioned" in refused.err


def test_ordinary_tools_bring_back_what_the_command_saved(
    cli: Cli, documents: Path, vault: str, need: Callable[[str], str]
) -> None:
    patch, zstd = need("patch"), need("zstd")
    opened = VersionedVault.open(vault.encode())
    with opened.reading() as browser:
        first = browser.state(opened.snapshots()[0]).step
    found = with_ordinary_tools(opened, str(documents / "notes.txt").encode(), first, patch, zstd)
    assert found == "".join(f"line {number}\n" for number in range(50)).encode()
