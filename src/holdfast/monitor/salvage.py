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
_BLOCK = 256
_COLUMNS = "id, at_ns, kind, level, message, host, role, pid, run, operation, plan, vault, job, data"


def open_sound(url: str, *, clock: Clock | None = None, tell: Callable[[str], None]) -> Journal:
    """Open the journal at ``url``. A damaged file of SQLite is set aside, with a fact ``journal.rebuilt`` in the new
    journal, which holds what could be read; ``tell`` hears of it. Otherwise as :meth:`Journal.open`.

    Killed anywhere, either the damaged file is still in its place, or it stands aside whole.
    """
    clock = clock or SystemClock()
    database = Database(url, clock)
    if not database.is_sqlite or not os.path.lexists(database.path + DAMAGED):
        try:
            return Journal.open(url, clock=clock)
        except Corrupt:
            if not database.is_sqlite:
                raise
    try:
        aside = _set_aside(database, clock)
        journal = Journal.open(url, clock=clock)
        if aside is None:
            return journal
        kept = _bring_over(aside, journal)
    except OSError as error:
        raise Denied(
            f"the damaged journal {database.path} cannot be set aside: {error.strerror}",
            hint="Look at the owner and the permissions of its folder.",
        ) from None
    message = (
        f"The journal was damaged: it is now at {aside}, and a new one holds the {kept:,} facts that it still had."
    )
    with journal.transaction() as connection:
        journal.record(connection, Fact("journal.rebuilt", message, "error", {"aside": str(aside), "facts": kept}))
    tell(message)
    return journal


def _set_aside(database: Database, clock: Clock) -> Path | None:
    """Where the damaged file is now; None where it is whole, because somebody else was quicker."""
    with database.turn():
        if _is_sound(database.path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(database.path + DAMAGED)
            return None
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock.now_ns() // 1_000_000_000))
        aside = f"{database.path}.damaged-{stamp}-{os.getpid()}"
        # The log first: if we are killed in between, the file without it is still damaged, and found so again.
        for end in reversed(_PARTS):
            with contextlib.suppress(FileNotFoundError):
                os.rename(database.path + end, aside + end)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(database.path + DAMAGED)
        return Path(aside)


def _is_sound(path: str) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False


def _bring_over(aside: Path, journal: Journal) -> int:
    """Copy what can be read, some rows at a time; where some cannot, one by one."""
    kept = 0
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(aside)) as old:
        last = old.execute("SELECT seq FROM sqlite_sequence WHERE name = 'facts'").fetchone()
        for first in range(0, int(last[0]) + 1 if last else 0, _BLOCK):
            records = _read(old, first, first + _BLOCK)
            if records is None:
                records = [each for seq in range(first, first + _BLOCK) for each in _read(old, seq, seq + 1) or ()]
            with journal.transaction() as connection:
                kept += len(add_facts(connection, records))
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
