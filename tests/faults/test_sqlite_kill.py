"""SQLite files that are saved while somebody writes, and saved and replaced by processes that are killed."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.archivekit import files, new_vault, save
from tests.faults.test_versioned_kill import killed_at

from holdfast.kernel.cancel import Cancel
from holdfast.sources.sqliteload import put
from holdfast.vaults.base import Outcome

PATIENCE = 60.0


def make(path: Path, rows: int, *, wal: bool, mark: str = "old") -> None:
    with closing(sqlite3.connect(path)) as database:
        if wal:
            database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE pairs (a INTEGER, b INTEGER, mark TEXT)")
        database.executemany("INSERT INTO pairs VALUES (?, ?, ?)", ((n, n, mark * 50) for n in range(rows)))
        database.commit()


def summary(path: Path) -> tuple[str, int, int, set[str]]:
    """(integrity, rows, by how much both columns differ, marks)."""
    with closing(sqlite3.connect(path)) as database:
        (check,) = database.execute("PRAGMA integrity_check").fetchone()
        rows, difference = database.execute("SELECT count(*), coalesce(sum(a) - sum(b), 0) FROM pairs").fetchone()
        marks = {mark[:3] for (mark,) in database.execute("SELECT DISTINCT mark FROM pairs")}
    return check, rows, difference, marks


def _write_on(path: Path, going: Path) -> None:
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as database:
        for number in range(10**9):
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO pairs VALUES (?, 0, 'old')", (number,))
            database.execute("UPDATE pairs SET b = a WHERE b = 0 AND a <> 0")
            database.execute("COMMIT")
            time.sleep(0.002)  # others have their turn
            if number == 20:
                going.touch()


@contextmanager
def writer(path: Path) -> Iterator[multiprocessing.process.BaseProcess]:
    """A program that writes without pause, two columns that are the same whenever a transaction has ended."""
    going = path.with_name("going")
    program = multiprocessing.get_context("spawn").Process(target=_write_on, args=(path, going))
    program.start()
    until = time.monotonic() + PATIENCE
    while not going.exists():
        assert program.is_alive() and time.monotonic() < until
        time.sleep(0.01)
    try:
        yield program
    finally:
        program.kill()
        program.join()


@pytest.mark.parametrize("wal", [True, False], ids=["wal", "rollback journal"])
def test_a_database_in_use_is_saved_as_of_one_instant(tmp_path: Path, wal: bool) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    make(folder / "live.db", 2000, wal=wal)
    vault = new_vault(tmp_path / "vault")
    with writer(folder / "live.db"):
        for _ in range(3):
            done = save(vault, folder, sqlite=True)
            assert done.outcome is Outcome.OK, done.problems
            copy = tmp_path / "copy.db"
            copy.write_bytes(files(vault, folder)[b"live.db"])
            check, rows, difference, _ = summary(copy)
            assert (check, difference) == ("ok", 0) and rows > 2000


class Deadly(Cancel):
    """Kills its process when it is asked while a copy is being made."""

    def __init__(self, scratch: Path) -> None:
        super().__init__()
        self._scratch = scratch

    def check(self) -> None:
        if list(self._scratch.glob("holdfast-sqlite-*/copy")):
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("wal", [True, False], ids=["wal", "rollback journal"])
def test_a_killed_backup_leaves_the_database_alone(tmp_path: Path, wal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, scratch = tmp_path / "data", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    make(folder / "live.db", 6000, wal=wal)
    before = hashlib.sha256((folder / "live.db").read_bytes()).digest()
    vault = new_vault(tmp_path / "vault")
    child = os.fork()
    if child == 0:
        try:
            save(vault, folder, cancel=Deadly(scratch), sqlite=True)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(scratch.glob("holdfast-sqlite-*/copy"))
    assert vault.repository.snapshots() == []
    with closing(sqlite3.connect(folder / "live.db", timeout=0, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")  # nobody holds a lock
        database.execute("ROLLBACK")
    assert hashlib.sha256((folder / "live.db").read_bytes()).digest() == before
    assert {path.name for path in folder.iterdir()} == {"live.db"}
    left = list(scratch.iterdir())
    for path in left:
        os.utime(path, (0, 0))  # as if it had been a while ago
    assert save(vault, folder, sqlite=True).outcome is Outcome.OK
    assert list(scratch.iterdir()) == []
    assert files(vault, folder)[b"live.db"]


@pytest.mark.parametrize("logged", [True, False], ids=["log of a killed program", "closed"])
def test_a_killed_replacement_leaves_the_old_database_or_the_new_one(tmp_path: Path, logged: bool) -> None:
    pristine, fresh = tmp_path / "pristine", tmp_path / "fresh.db"
    pristine.mkdir()
    live = pristine / "live.db"
    make(live, 300, wal=logged)
    if logged:
        with writer(live) as program:
            program.kill()
            program.join()
        (pristine / "going").unlink()
        assert (pristine / "live.db-wal").stat().st_size
    make(fresh, 500, wal=False, mark="new")
    new = summary(fresh)
    shutil.copytree(pristine, tmp_path / "looked at")
    old = summary(tmp_path / "looked at/live.db")
    step, seen, lived = 0, [], False
    while not lived:
        place = tmp_path / "place"
        shutil.copytree(pristine, place)
        path = os.fsencode(place / "live.db")
        lived = killed_at(
            step,
            replacing(path, fresh, "1"),
            ("open", "link", "rename", "replace", "unlink", "fsync", "fchmod", "write"),
        )
        state = summary(place / "live.db")
        assert state in (old, new), step
        seen.append(state == new)
        if state == new:
            assert not (place / "live.db-wal").exists()
            (kept,) = (found for found in place.glob("live.db.before-*") if not found.name.endswith(("-wal", "-shm")))
            assert summary(kept) == old, step
        replacing(path, fresh, "2")()
        assert summary(place / "live.db") == new
        shutil.rmtree(place)
        step += 1
    assert seen == sorted(seen) and seen[-1] and step > 5


def replacing(path: bytes, fresh: Path, stamp: str) -> Callable[[], object]:
    return lambda: put(path, [fresh.read_bytes()], Cancel(), mode=0o600, replace=True, stamp=stamp)
