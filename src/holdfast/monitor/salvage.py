"""Set a damaged journal aside, and make a new one of every fact that can still be read in it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import Corrupt, Denied
from holdfast.kernel.events import Fact
from holdfast.monitor.database import DAMAGED, Database
from holdfast.monitor.journal import Journal
from holdfast.monitor.record import Record
from holdfast.monitor.rows import add_facts

_PARTS = ("", "-wal", "-shm")
_WAITING, _DONE = ".damaged-", ".aside-"
_BLOCK = 256
_COLUMNS = "id, at_ns, kind, level, message, host, role, pid, run, operation, plan, vault, job, data"


def open_sound(url: str, *, clock: Clock | None = None, tell: Callable[[str], None]) -> Journal:
    """Open the journal at ``url``. A damaged file of SQLite is set aside, with a fact ``journal.rebuilt`` in the new
    journal, which holds what could be read; ``tell`` hears of it. Otherwise as :meth:`Journal.open`.

    Killed anywhere, the next call goes on: what is set aside has another name until all of it was brought over.
    """
    clock = clock or SystemClock()
    database = Database(url, clock)
    if not database.is_sqlite:
        return Journal.open(url, clock=clock)
    try:
        journal = _opened(database, url, clock)
        for damaged in _waiting(database.path):
            _bring_over(damaged, journal, tell)
    except OSError as error:
        raise Denied(
            f"the damaged journal {database.path} cannot be set aside: {error.strerror}",
            hint="Look at the owner and the permissions of its folder.",
        ) from None
    return journal


def _opened(database: Database, url: str, clock: Clock) -> Journal:
    if not os.path.lexists(database.path + DAMAGED):
        with contextlib.suppress(Corrupt):
            return Journal.open(url, clock=clock)
    _set_aside(database, clock)
    return Journal.open(url, clock=clock)


def _set_aside(database: Database, clock: Clock) -> None:
    with database.turn():
        if not _is_sound(database.path):  # perhaps somebody else was quicker
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock.now_ns() // 1_000_000_000))
            aside = f"{database.path}{_WAITING}{stamp}-{os.getpid()}"
            # The log first: if we are killed in between, the file without it is still found damaged, or marked so.
            for end in reversed(_PARTS):
                _rename(database.path + end, aside + end)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(database.path + DAMAGED)


def _waiting(path: str) -> list[Path]:
    """The damaged files of which not everything was brought over yet."""
    try:
        names = os.listdir(os.path.dirname(path))
    except OSError:
        return []
    front = os.path.basename(path) + _WAITING
    found = [name for name in names if name.startswith(front) and not name.endswith(_PARTS[1:])]
    return [Path(path).with_name(name) for name in sorted(found)]


def _rename(old: str, new: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(old, new)


def _is_sound(path: str) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False


def _bring_over(damaged: Path, journal: Journal, tell: Callable[[str], None]) -> None:
    kept = _copied(damaged, journal)
    aside = str(damaged).replace(_WAITING, _DONE)
    for end in reversed(_PARTS):
        _rename(str(damaged) + end, aside + end)
    message = f"The journal was damaged: it is now at {aside}, and a new one has the {kept:,} facts that it still had."
    with journal.transaction() as connection:
        journal.record(connection, Fact("journal.rebuilt", message, "error", {"aside": aside, "facts": kept}))
    tell(message)


def _copied(damaged: Path, journal: Journal) -> int:
    """Copy what can be read, some rows at a time; where some cannot, one by one."""
    kept = 0
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(damaged)) as old:
        last = old.execute("SELECT seq FROM sqlite_sequence WHERE name = 'facts'").fetchone()
        for first in range(0, int(last[0]) + 1 if last else 0, _BLOCK):
            records = _read(old, first, first + _BLOCK)
            if records is None:
                records = [each for seq in range(first, first + _BLOCK) for each in _read(old, seq, seq + 1) or ()]
            with journal.transaction() as connection:
                add_facts(connection, records)
            kept += len(records)
    return kept


def _read(old: sqlite3.Connection, first: int, end: int) -> list[Record] | None:
    import json

    names = _COLUMNS.split(", ")
    wanted = f"SELECT {_COLUMNS} FROM facts WHERE seq >= ? AND seq < ? ORDER BY seq"
    try:
        rows = [dict(zip(names, row, strict=True)) for row in old.execute(wanted, (first, end))]
        return [Record(**{**row, "data": json.loads(row["data"])}) for row in rows]
    except (sqlite3.Error, ValueError, TypeError):
        return None
