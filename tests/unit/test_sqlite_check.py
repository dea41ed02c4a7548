"""The integrity check beside other work: it finds damage, ends with its block, and leaves no thread."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled
from holdfast.sources.sqlitecheck import Checking, check_file

HOURS = """
    WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless) SELECT count(*) FROM endless
"""


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    with closing(sqlite3.connect(tmp_path / "odd ?#% name.db", isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE words (word TEXT)")
        database.execute("CREATE INDEX by_word ON words (word)")
        database.executemany("INSERT INTO words VALUES (?)", [(f"{number:064}",) for number in range(500)])
    return os.fsencode(tmp_path / "odd ?#% name.db")


def test_a_sound_file_is_ok_and_left_alone(path: bytes) -> None:
    before = Path(os.fsdecode(path)).read_bytes()
    with Checking(path) as check:
        assert check.result(Cancel()) == "ok"
        assert check.result(Cancel()) == "ok"
    assert check_file(path) == "ok"
    assert Path(os.fsdecode(path)).read_bytes() == before
    assert len(os.listdir(os.path.dirname(path))) == 1


def test_damage_is_found(path: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(4096 * 5)
        file.write(b"\xa5" * 4096)
    with Checking(path) as check:
        assert check.result(Cancel()) not in ("ok", "")


def test_what_is_no_database_is_told(path: bytes) -> None:
    Path(os.fsdecode(path)).write_bytes(b"x" * 8192)
    with Checking(path) as check:
        assert "not a database" in check.result(Cancel())


def test_without_threads_the_work_is_done_all_the_same(path: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Checking(path) as check:
        assert check.result(Cancel()) == "ok"


def test_a_block_that_fails_does_not_wait_for_a_long_check(path: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = endless(monkeypatch)
    with pytest.raises(OSError, match="no space"), Checking(path):
        assert begun.wait(60)
        raise OSError("no space")


def test_the_stop_button_ends_a_long_check(path: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, cancel = endless(monkeypatch), Cancel()
    with pytest.raises(Cancelled), Checking(path) as check:
        assert begun.wait(60)
        cancel.cancel()
        check.result(cancel)


def endless(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Make the check one that SQLite works at for hours, unless it is interrupted."""
    begun = threading.Event()

    class Slow(sqlite3.Connection):
        def execute(self, sql: str, *words: Any) -> sqlite3.Cursor:
            if "integrity_check" in sql:
                begun.set()
                sql = HOURS
            return super().execute(sql, *words)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *words, **named: connect(*words, **named, factory=Slow))
    return begun
