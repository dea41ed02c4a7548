"""Live SQLite files inside saved folders: one consistent file in their own place, and nothing read twice."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.archivekit import files, new_vault, save

from holdfast.kernel.events import Event, Fact
from holdfast.sources import sqlitecopy
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import BackupSummary, Outcome


@pytest.fixture
def vault(tmp_path: Path) -> ArchiveVault:
    return new_vault(tmp_path / "vault", tmp_path / "memo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    return place


@pytest.fixture
def live(folder: Path) -> Iterator[sqlite3.Connection]:
    """An open database in write-ahead mode, whose rows are in the log only."""
    with closing(sqlite3.connect(folder / "app.db", isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA journal_mode = wal")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("CREATE TABLE words (word TEXT)")
        database.executemany("INSERT INTO words VALUES (?)", [(f"word {number}",) for number in range(2000)])
        yield database


def keep(vault: ArchiveVault, *paths: Path, **changes: object) -> BackupSummary:
    return save(vault, *paths, sqlite=True, **changes)


def rows(content: bytes, table: str = "words") -> int:
    """Rows of a table in a saved database."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(content[:18] + b"\1\1" + content[20:])  # in memory there is no log
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_what_is_in_the_log_is_saved_in_one_file(vault: ArchiveVault, folder: Path, live: sqlite3.Connection) -> None:
    (folder / "notes-wal").write_bytes(b"not a companion of anything")
    summary = keep(vault, folder)
    assert summary.outcome is Outcome.OK
    assert summary.databases == 1
    saved = files(vault, folder)
    assert set(saved) == {b"app.db", b"notes-wal"}
    assert rows(saved[b"app.db"]) == 2000
    assert {path.name for path in folder.iterdir()} == {"app.db", "app.db-wal", "app.db-shm", "notes-wal"}


def test_an_unchanged_database_is_not_copied_again(
    vault: ArchiveVault, folder: Path, live: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keep(vault, folder)

    def copied(*_: object) -> None:
        raise AssertionError("it was copied again")

    with monkeypatch.context() as patched:
        patched.setattr(sqlitecopy, "consistent_copy", copied)
        for _ in range(2):
            again = keep(vault, folder)
            assert (again.files_unmodified, again.files_changed, again.databases) == (1, 0, 0)
        without_memo = ArchiveVault(vault.repository)
        assert keep(without_memo, folder).files_unmodified == 1
        (folder / "another").write_bytes(b"x")  # the folder is looked at, the database in it is not opened
        assert keep(vault, folder).files_unmodified == 1
    live.execute("INSERT INTO words VALUES ('only in the log')")
    changed = keep(vault, folder)
    assert (changed.files_changed, changed.databases) == (1, 1)
    assert rows(files(vault, folder)[b"app.db"]) == 2001


def test_a_closed_database_is_left_as_it_was(vault: ArchiveVault, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "app.db", isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA journal_mode = wal")
        database.execute("CREATE TABLE words (word TEXT)")
    before = (folder / "app.db").read_bytes(), (folder / "app.db").stat().st_mtime_ns
    assert keep(vault, folder).databases == 1
    assert [path.name for path in folder.iterdir()] == ["app.db"]
    assert ((folder / "app.db").read_bytes(), (folder / "app.db").stat().st_mtime_ns) == before
    assert files(vault, folder)[b"app.db"][100:] == before[0][100:]  # the header has a counter of changes


def test_a_single_file_that_is_named(vault: ArchiveVault, folder: Path, live: sqlite3.Connection) -> None:
    keep(vault, folder / "app.db")
    assert rows(files(vault, folder)[b"app.db"]) == 2000
    assert keep(vault, folder / "app.db").files_unmodified == 1


def test_a_locked_database_is_told_and_makes_the_backup_partial(
    vault: ArchiveVault, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlitecopy, "WAIT", 0.2)
    monkeypatch.setattr(sqlitecopy.consistent_copy.__wrapped__, "__defaults__", (0.2,))  # type: ignore[attr-defined]
    with closing(sqlite3.connect(folder / "app.db", isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE words (word TEXT)")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("INSERT INTO words VALUES ('unfinished')")
        summary = keep(vault, folder)
        database.execute("ROLLBACK")
    assert summary.outcome is Outcome.PARTIAL
    assert "locked" in summary.problems[0].message
    assert summary.databases == 0
    assert set(files(vault, folder)) == {b"app.db", b"app.db-journal"}
    assert keep(vault, folder).outcome is Outcome.OK
    assert set(files(vault, folder)) == {b"app.db"}


@pytest.mark.parametrize("damage", [slice(16, 100), slice(100, 4000), slice(9000, 9400)])
def test_a_damaged_database_is_saved_with_a_warning(vault: ArchiveVault, folder: Path, damage: slice) -> None:
    with closing(sqlite3.connect(folder / "app.db")) as database:
        database.execute("CREATE TABLE words (word TEXT)")
        database.executemany("INSERT INTO words VALUES (?)", [(f"word {number}" * 9,) for number in range(3000)])
        database.commit()
    content = bytearray((folder / "app.db").read_bytes())
    content[damage] = random.Random(7).randbytes(damage.stop - damage.start)
    (folder / "app.db").write_bytes(content)
    summary = keep(vault, folder)
    assert summary.outcome is Outcome.OK
    assert len(summary.warnings) == 1
    saved = files(vault, folder)
    assert set(saved) == {b"app.db"}
    assert saved[b"app.db"][100:] == content[100:]


def test_an_encrypted_database_in_use_is_warned_of(vault: ArchiveVault, folder: Path) -> None:
    (folder / "secret.db").write_bytes(random.Random(3).randbytes(8192))
    (folder / "secret.db-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(100))
    summary = keep(vault, folder)
    assert summary.outcome is Outcome.OK
    assert "encrypted" in summary.warnings[0].message
    assert set(files(vault, folder)) == {b"secret.db", b"secret.db-wal"}


def test_an_unfinished_transaction_of_a_dead_program_is_kept_with_its_journal(
    vault: ArchiveVault, folder: Path
) -> None:
    with closing(sqlite3.connect(folder / "app.db", isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE words (word TEXT)")
        database.executemany("INSERT INTO words VALUES (?)", [(f"word {number}",) for number in range(9000)])
        database.execute("PRAGMA cache_size = 1")
        database.execute("BEGIN")
        database.execute("UPDATE words SET word = 'changed'")
        live = {path.name: path.read_bytes() for path in folder.iterdir()}
        database.execute("ROLLBACK")
    for name, content in live.items():
        (folder / name).write_bytes(content)
    summary = keep(vault, folder)
    saved = {os.fsdecode(name): content for name, content in files(vault, folder).items()}
    assert saved == live
    assert summary.problems or summary.warnings
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == live


def test_few_changed_pages_add_little(vault: ArchiveVault, folder: Path) -> None:
    draw = random.Random(5)
    with closing(sqlite3.connect(folder / "big.db", isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE blobs (id INTEGER PRIMARY KEY, data BLOB)")
        database.execute("BEGIN")
        database.executemany("INSERT INTO blobs (data) VALUES (?)", [(draw.randbytes(3500),) for _ in range(8000)])
        database.execute("COMMIT")
        first = keep(vault, folder)
        for row in (17, 4000, 7990):
            database.execute("UPDATE blobs SET data = ? WHERE id = ?", (draw.randbytes(3500), row))
        second = keep(vault, folder)
    assert first.data_added > 30_000_000
    assert second.data_added < 5 * 65_536 + 100_000
    assert rows(files(vault, folder)[b"big.db"], "blobs") == 8000


def test_the_integrity_check_is_told(vault: ArchiveVault, folder: Path, live: sqlite3.Connection) -> None:
    told: list[Event] = []
    keep(vault, folder, emit=told.append)
    checks = [event for event in told if isinstance(event, Fact) and event.kind == "item.checked"]
    assert [(fact.data["path"], fact.message) for fact in checks] == [
        (os.fsencode(folder / "app.db"), "integrity check: ok")
    ]


def test_nothing_is_left_of_the_copy(
    vault: ArchiveVault, folder: Path, live: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    left = scratch / "holdfast-sqlite-killed"
    left.mkdir(parents=True)
    (left / "copy").write_bytes(b"of a process that was killed")
    os.utime(left, (0, 0))
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    keep(vault, folder)
    assert list(scratch.iterdir()) == []
