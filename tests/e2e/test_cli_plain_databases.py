"""SQLite files in use, in the vaults that hold plain files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.conftest import Cli

KINDS = pytest.mark.parametrize("kind", ["mirror", "versioned"])


@pytest.fixture
def live(documents: Path) -> Iterator[sqlite3.Connection]:
    """A database whose rows are all in its log, among many small files."""
    for number in range(20):
        (documents / f"small{number}").write_text(str(number))
    with closing(sqlite3.connect(documents / "app.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("CREATE TABLE notes (id)")
        database.executemany("INSERT INTO notes VALUES (?)", [(number,) for number in range(300)])
        yield database


def new(cli: Cli, tmp_path: Path, kind: str) -> tuple[str, Path]:
    place = tmp_path / "vault"
    assert cli("init", "--kind", kind, place).code == 0
    return str(place), place


def rows(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(database.execute("SELECT count(*) FROM notes").fetchone()[0])


@KINDS
def test_the_copy_is_of_one_instant_and_nothing_lies_beside_it(
    cli: Cli, documents: Path, tmp_path: Path, live: sqlite3.Connection, kind: str
) -> None:
    vault, place = new(cli, tmp_path, kind)
    os.chmod(documents / "app.db", 0o640)
    assert cli("backup", documents, "--to", vault).code == 0
    copy = Path(f"{place}{documents}/app.db")
    assert rows(copy) == 300
    assert sorted(path.name for path in copy.parent.glob("app.db*")) == ["app.db"]
    assert copy.stat().st_mode & 0o777 == 0o640
    assert cli("check", "--vault", vault).code == 0
    before = sorted(path.name for path in documents.iterdir())

    live.execute("INSERT INTO notes VALUES (1)")
    dry = cli("backup", documents, "--to", vault, "-n", "--json").summary
    assert (dry["files_changed"], dry["files_new"]) == (1, 0)
    assert cli("backup", documents, "--to", vault, "--json").summary["files_changed"] == 1
    assert rows(copy) == 301
    assert sorted(path.name for path in documents.iterdir()) == before  # and the live one is left as it was

    for name in ("app.db", "app.db-wal"):  # so long ago that nothing can have changed in the same moment
        os.utime(documents / name, ns=(10**18, 10**18))
    cli("backup", documents, "--to", vault)
    again = cli("backup", documents, "--to", vault, "--json").summary
    assert (again["files_changed"], again["files_new"], again["files_removed"]) == (0, 0, 0)

    restored = tmp_path / "restored"
    assert cli("restore", "latest", "--vault", vault, "--target", restored).code == 0
    assert rows(Path(f"{restored}{documents}/app.db")) == 301


@KINDS
def test_a_single_file_and_a_look_at_all_content(
    cli: Cli, documents: Path, tmp_path: Path, live: sqlite3.Connection, kind: str
) -> None:
    vault, place = new(cli, tmp_path, kind)
    assert cli("backup", documents / "app.db", "--to", vault).code == 0
    copy = Path(f"{place}{documents}/app.db")
    assert rows(copy) == 300
    os.utime(documents / "app.db", ns=(10**18, 10**18))
    os.utime(documents / "app.db-wal", ns=(10**18, 10**18))
    cli("backup", documents / "app.db", "--to", vault)
    done = cli("backup", documents / "app.db", "--to", vault, "--checksum", "--json")
    assert done.summary["files_changed"] == 0
    assert sorted(path.name for path in copy.parent.iterdir()) == ["app.db"]


@KINDS
def test_what_cannot_be_copied_so_is_saved_as_it_is_and_told(
    cli: Cli, documents: Path, tmp_path: Path, kind: str
) -> None:
    vault, place = new(cli, tmp_path, kind)
    (documents / "bad.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4080)
    (documents / "bad.db-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(60))
    done = cli("backup", documents, "--to", vault)
    assert "bad.db" in done.err and "saved as plain files" in done.err
    found = Path(f"{place}{documents}")
    for name in ("bad.db", "bad.db-wal"):
        assert (found / name).read_bytes() == (documents / name).read_bytes()


@KINDS
def test_off_saves_them_as_they_are(
    cli: Cli, documents: Path, tmp_path: Path, live: sqlite3.Connection, kind: str
) -> None:
    vault, place = new(cli, tmp_path, kind)
    assert cli("backup", documents, "--to", vault, "--sqlite", "off").code == 0
    assert Path(f"{place}{documents}/app.db-wal").stat().st_size
    assert cli("backup", documents, "--to", vault, "--json").summary["files_removed"] == 2
    assert rows(Path(f"{place}{documents}/app.db")) == 300
