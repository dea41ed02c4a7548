"""Reach the journal's database: SQLite so that nothing gets lost, or PostgreSQL for several machines."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    NotSupportedError,
    ProgrammingError,
)

from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Invalid, NoSpace, Unavailable, Unsupported

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

BUSY_SECONDS = 30.0
"""How long a writer waits for its turn."""

DAMAGED = ".damaged"
"""What is put behind the name of a database in which damage was met, until somebody rebuilds it."""

_TURN = 0x686F6C646661  # "holdfa": the number of PostgreSQL's advisory lock that writers take turns with
_POLL = 0.02


class Database:
    """An engine whose writers take turns, across processes and machines.

    On SQLite they do so with a lock file beside the database: SQLite 3.7.0 to 3.51.2 can lose commits where two
    connections write and checkpoint a write-ahead log at once. (The checkpoint at the last connection's end needs the
    database for itself, and so cannot meet another.)
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._clock = clock
        parsed = _parsed(url)
        self.name = parsed.render_as_string(hide_password=True).replace("+psycopg:", ":", 1)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.path = os.path.abspath(parsed.database or "") if self.is_sqlite else ""
        try:
            self.engine = _engine(parsed, self.is_sqlite)
        except (ArgumentError, NoSuchModuleError) as error:
            raise Invalid(f"the journal cannot be reached at {self.name}: {error}") from None
        except ImportError:
            raise Unsupported(
                "the package that speaks with PostgreSQL is not installed", hint="pip install 'holdfast[postgres]'"
            ) from None

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that no other writer is beside. Committed at the end, undone by an exception."""
        with self.turn(), self._translated(), self.engine.connect() as connection:
            writer = connection.execution_options(holdfast_writes=True)
            with writer.begin():
                if not self.is_sqlite:
                    writer.execute(sa.text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})
                yield writer

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only looks."""
        with self._translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    def make_private(self) -> None:
        """Begin a new SQLite database as a file that only its owner may read; what SQLite puts beside it follows."""
        if self.is_sqlite:
            with contextlib.suppress(OSError):  # SQLite says more about what is wrong
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0)
                os.close(os.open(self.path, flags, 0o600))

    def prepare(self) -> None:
        """Say of a new SQLite database, once and for all, that it has a write-ahead log: so readers wait for nobody."""
        if self.is_sqlite:
            with self.turn(), self._translated(), contextlib.closing(self.engine.raw_connection()) as connection:
                try:
                    connection.cursor().execute("PRAGMA journal_mode=WAL")
                except sqlite3.DatabaseError as error:  # the driver's own, which nobody has wrapped here
                    raise self._of_sqlite(str(error)) from error

    def close(self) -> None:
        with self._translated():
            self.engine.dispose()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Keep other writers of an SQLite database away."""
        if not self.is_sqlite or fcntl is None:
            yield
            return
        try:
            file = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Denied(
                f"the journal cannot be written: {self.path}.lock: {error.strerror}",
                hint=self._whose(),
            ) from None
        try:
            self._wait(file)
            yield
        finally:
            os.close(file)

    def _wait(self, file: int) -> None:
        until = self._clock.monotonic() + BUSY_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if self._clock.monotonic() > until:
                    raise Unavailable(
                        f"the journal {self.path} is being written by another process for too long",
                        hint="Look which process holds the file with .lock at its end; then try again.",
                    ) from None
            self._clock.sleep(_POLL)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            meaning = self._meaning(error)
            if meaning is None:
                raise
            raise meaning from error

    def _meaning(self, error: DBAPIError) -> HoldfastError | None:
        """What the person is told; None for what is a mistake in Holdfast."""
        text = str(error.orig).strip().partition("\n")[0]
        if not self.is_sqlite and "permission denied" in text:
            return Denied(f"the journal at {self.name}: {text}", hint="Its user needs all rights to the tables there.")
        if isinstance(error, (IntegrityError, ProgrammingError, DataError, NotSupportedError)):
            return None
        if not self.is_sqlite:
            hint = "Look whether the server runs, and at the journal's URL in the configuration."
            return Unavailable(f"the journal at {self.name} does not answer: {text}", hint=hint)
        return self._of_sqlite(text)

    def _of_sqlite(self, text: str) -> HoldfastError:
        said = f"the journal {self.path}: {text}"
        if "malformed" in text or "not a database" in text or "corrupt" in text or "disk image" in text:
            self._mark_damaged()
            return Corrupt(said, hint="The next command sets it aside and rebuilds it from what can be read.")
        if "full" in text or ("disk I/O error" in text and self._is_full()):
            return NoSpace(
                said if "full" in text else f"{said}: the disk is full",
                hint="Free some space on the disk of the state folder.",
            )
        if "readonly" in text or "unable to open" in text:
            return Denied(said, hint=self._whose())
        return Unavailable(said, hint="Try again.")

    def _whose(self) -> str:
        """What to do about a file that may not be used."""
        with contextlib.suppress(OSError):
            if os.geteuid() not in (0, os.stat(self.path).st_uid):
                return "It belongs to another user, and a journal has one: leave 'journal' out, or use PostgreSQL."
        return "Look at the owner and the permissions of the file, its folder, and what has its name and more."

    def _is_full(self) -> bool:
        """What beside a database has no room for its shared memory says only that something with the disk is wrong."""
        with contextlib.suppress(OSError):
            return os.statvfs(os.path.dirname(self.path)).f_bavail == 0
        return False

    def _mark_damaged(self) -> None:
        with contextlib.suppress(OSError):
            os.close(os.open(self.path + DAMAGED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _parsed(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        raise Invalid(
            "the journal's URL is none", hint="Such as sqlite:////var/lib/holdfast/journal.db or postgresql://host/name"
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise Unsupported(
            f"a journal is kept in SQLite or PostgreSQL, not in {parsed.get_backend_name()}",
            hint="Such as sqlite:////var/lib/holdfast/journal.db or postgresql://host/name",
        )
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise Invalid("the journal's URL names no file", hint="Such as sqlite:////var/lib/holdfast/journal.db")
    return parsed


def _engine(url: sa.URL, is_sqlite: bool) -> sa.Engine:
    if not is_sqlite:
        return sa.create_engine(url, connect_args={"connect_timeout": 10}, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver's own idea of when a transaction begins is not ours
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A transaction that reads first and writes later fails at once where somebody wrote in between.
        writes = connection.get_execution_options().get("holdfast_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
