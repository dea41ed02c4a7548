"""Open a restored SQLite file as its program would: integrity, rows of every table, and the user's queries."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import field

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.values import dataclass
from holdfast.sources.sqlite import JOURNAL, WAL
from holdfast.sources.sqlitecopy import connect

_STEPS = 100_000  # of SQLite's machine between two looks at the stop button: some milliseconds
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 1"


@dataclass(slots=True)
class SqliteProof:
    """``damage``: what is wrong with it, or nothing. ``unproven``: why something could not be looked at here (a module
    or a collation of its program is missing), or nothing. ``answers``: of each query the first row, or None for no row,
    or why it failed."""

    damage: str = ""
    unproven: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    answers: list[tuple[object, ...] | str | None] = field(default_factory=list)


def prove(path: bytes, queries: Sequence[str], cancel: Cancel, *, limit: float) -> SqliteProof:
    """Look into a restored database: ``PRAGMA integrity_check``, then row counts, then ``queries``.

    Nothing is written, unless a log or journal lies beside the file: then SQLite completes it, as after any restore.
    ``limit`` is the most seconds for each query. Raises ``Cancelled``.
    """
    proof = SqliteProof()
    mode = "mode=rw" if any(os.path.exists(path + ending) for ending in (WAL, JOURNAL)) else "immutable=1"
    try:
        with closing(connect(path, mode)) as database:
            database.execute("PRAGMA trusted_schema = 0")
            _check(database, proof, cancel)
            if not proof.damage:
                _count(database, proof, cancel)
            proof.answers = [_ask(database, sql, cancel, limit) for sql in queries]
    except sqlite3.Error as error:
        _blame(error, proof)
    return proof


def _check(database: sqlite3.Connection, proof: SqliteProof, cancel: Cancel) -> None:
    try:
        with _minded(database, cancel, None):
            found = [str(row[0]) for row in database.execute("PRAGMA integrity_check(10)")]
    except sqlite3.Error as error:
        _blame(error, proof)
        return
    if found != ["ok"]:
        proof.damage = "; ".join(found)[:500]


def _count(database: sqlite3.Connection, proof: SqliteProof, cancel: Cancel) -> None:
    for (name,) in database.execute(_TABLES).fetchall():
        quoted = '"' + name.replace('"', '""') + '"'
        try:
            with _minded(database, cancel, None):
                proof.rows[name] = database.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0]
        except sqlite3.Error as error:  # a virtual table of a module that only its program has
            _blame(error, proof)


def _ask(database: sqlite3.Connection, sql: str, cancel: Cancel, limit: float) -> tuple[object, ...] | str | None:
    try:
        with _minded(database, cancel, limit):
            found = database.execute(sql).fetchone()
    except (sqlite3.Error, sqlite3.Warning) as error:
        return f"it took longer than {limit:g} s" if "interrupted" in str(error) else str(error)
    return None if found is None else tuple(found)


@contextmanager
def _minded(database: sqlite3.Connection, cancel: Cancel, limit: float | None) -> Iterator[None]:
    """Interrupt what runs inside when the stop button is pressed, or the time is over."""
    deadline = None if limit is None else time.monotonic() + limit
    database.set_progress_handler(
        lambda: cancel.requested or (deadline is not None and time.monotonic() > deadline), _STEPS
    )
    try:
        yield
    finally:
        with contextlib.suppress(sqlite3.Error):
            database.set_progress_handler(None, 0)
        cancel.check()


def _blame(error: sqlite3.Error, proof: SqliteProof) -> None:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
        proof.damage = proof.damage or str(error)
    else:
        proof.unproven = proof.unproven or str(error)
