"""The journal: every fact once, in the order in which they came in, and the runs that they tell of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import Denied, Invalid, NotFound
from holdfast.kernel.events import Fact
from holdfast.monitor import emptying, migrate
from holdfast.monitor.database import Database
from holdfast.monitor.died import note_dead, suspects
from holdfast.monitor.lines import row_of
from holdfast.monitor.outbox import _hostname
from holdfast.monitor.record import REFUSED, Record, as_kept, make
from holdfast.monitor.rows import RUN_COLUMNS, RunRow, add_facts, record_of, run_of, seq_of
from holdfast.monitor.schema import facts, outboxes, runs

__all__ = ["Journal", "RunRow"]


class Journal:
    """An open journal; made by :meth:`open`, and closed by ``close`` or at the end of ``with``."""

    def __init__(
        self, database: Database, *, clock: Clock, host: str, role: str, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._database = database
        self._clock = clock
        self._host = host
        self._role = role
        self._random = random

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, role: str = "holdfast", host: str = "") -> Journal:
        """Open the journal at ``sqlite:////path`` or ``postgresql://...``; its tables are made, or brought to this
        version's, in one transaction.

        Raises ``Invalid`` or ``Unsupported`` for such a URL, ``Unsupported`` for a journal of a later version,
        ``Unavailable`` and ``Denied`` where it cannot be reached, ``Corrupt`` where its file is damaged.
        """
        clock = clock or SystemClock()
        database = Database(url, clock)
        try:
            if database.is_sqlite:
                _make_folder(os.path.dirname(database.path))
                database.make_private()
            with database.reading() as connection:
                current = migrate.is_current(connection)
            if not current:
                database.prepare()
                with database.writing() as connection:
                    if not migrate.is_current(connection):
                        migrate.migrate(connection)
        except BaseException:
            database.engine.dispose()
            raise
        return cls(database, clock=clock, host=host or _hostname(), role=role)

    def drain(self, outbox: Path) -> int:
        """Take in what waits in the folder ``outbox``; returns how many facts came in.

        Exactly once: how far a file was read and the facts are written in one transaction, and a fact that is there is
        never written again. Emptied files are removed. Runs of this host whose process is gone without a word get
        their ``run.finished``. Raises ``Unavailable``, ``Denied``, ``NoSpace``, ``Corrupt``.
        """
        count = self._take_in(outbox)
        with self._database.reading() as connection:
            gone = suspects(connection, self._host, self._clock.now_ns())
        if gone:
            count += self._take_in(outbox)  # their last word may have come in between
            with self.transaction() as connection:
                count += note_dead(connection, gone, self.record)
        return count

    def _take_in(self, outbox: Path) -> int:
        with self._database.reading() as connection:
            known = _cursors(connection, self._named(outbox, ""))
        count = 0
        try:
            for path in emptying.files(outbox):
                count += self._drain_file(path, known.pop(self._named(outbox, path.name), ("", 0)))
        except OSError as error:
            raise Denied(
                f"the outbox {outbox} cannot be read: {error.strerror}",
                hint="Look at the owner and the permissions of the state folder.",
            ) from None
        if known:
            with self.transaction() as connection:
                _forget_cursors(connection, known)  # of files that were removed by a process that was then killed
        return count

    def _named(self, outbox: Path, name: str) -> str:
        return f"{self._host}:{os.path.abspath(outbox)}/{name}"

    def _drain_file(self, path: Path, known: tuple[str, int]) -> int:
        name = self._named(path.parent, path.name)
        identity, offset = known
        count = 0
        while emptying.has_more(path, identity, offset):
            with self.transaction() as connection:
                identity, offset = _cursors(connection, name).get(name, ("", 0))
                part = emptying.next_part(path, identity, offset)
                if part is None:
                    break
                count += add_facts(connection, part.rows)
                if part.torn:
                    self.record(connection, _torn(path, part.torn))
                identity, offset = part.identity, part.offset
                _move_cursor(connection, name, identity, offset)
        if emptying.take_away(path, identity, offset):
            with self.transaction() as connection:
                _forget_cursors(connection, [name])
        return count

    def facts(
        self,
        *,
        kinds: Sequence[str] = (),
        operations: Sequence[str] = (),
        plan: str | None = None,
        vault: str | None = None,
        run: str | None = None,
        host: str | None = None,
        levels: Sequence[str] = (),
        since_ns: int | None = None,
        until_ns: int | None = None,
        after_seq: int | None = None,
        newest_first: bool = True,
        limit: int | None = None,
    ) -> list[Record]:
        """The facts that meet every condition. ``kinds`` may end in ``.*``; ``since_ns`` is included, ``until_ns`` is
        not; ``after_seq`` is the position of the last fact that is known already."""
        wanted = sa.select(facts)
        if kinds:
            wanted = wanted.where(sa.or_(*(_is_kind(kind, self._database.is_sqlite) for kind in kinds)))
        exact = ((facts.c.plan, plan), (facts.c.vault, vault), (facts.c.run, run), (facts.c.host, host))
        for column, value in exact:
            if value is not None:
                wanted = wanted.where(column == value)
        if run:
            wanted = wanted.where(facts.c.run != "")  # what the partial index needs to hear
        if operations:
            wanted = wanted.where(facts.c.operation.in_(operations))
        if levels:
            wanted = wanted.where(facts.c.level.in_(levels))
        wanted = _between(wanted, facts.c.at_ns, since_ns, until_ns)
        if after_seq is not None:
            wanted = wanted.where(facts.c.seq > after_seq)
        wanted = wanted.order_by(facts.c.seq.desc() if newest_first else facts.c.seq).limit(limit)
        with self._database.reading() as connection:
            return [record_of(row) for row in connection.execute(wanted)]

    def runs(
        self,
        *,
        operations: Sequence[str] = (),
        plan: str | None = None,
        vault: str | None = None,
        host: str | None = None,
        outcomes: Sequence[str] = (),
        since_ns: int | None = None,
        until_ns: int | None = None,
        limit: int | None = None,
        newest_first: bool = True,
    ) -> list[RunRow]:
        """The runs that meet every condition, by their start. The outcome of a run that goes on is empty.

        Those that were ``refused`` (somebody's mistake, found after the run began) only where ``outcomes`` names them.
        """
        wanted = sa.select(*RUN_COLUMNS)
        if operations:
            wanted = wanted.where(runs.c.operation.in_(operations))
        for column, value in ((runs.c.plan, plan), (runs.c.vault, vault), (runs.c.host, host)):
            if value is not None:
                wanted = wanted.where(column == value)
        wanted = wanted.where(runs.c.outcome.in_(outcomes) if outcomes else runs.c.outcome != REFUSED)
        wanted = _between(wanted, runs.c.started_ns, since_ns, until_ns)
        order = (runs.c.started_ns.desc(), runs.c.id.desc()) if newest_first else (runs.c.started_ns, runs.c.id)
        with self._database.reading() as connection:
            return [run_of(row) for row in connection.execute(wanted.order_by(*order).limit(limit))]

    def run(self, id_prefix: str) -> RunRow:
        """The run whose id begins so. Raises ``NotFound`` where none does, ``Invalid`` where several do."""
        prefix = id_prefix.upper()
        wanted = sa.select(*RUN_COLUMNS).where(runs.c.id.startswith(prefix, autoescape=True)).limit(2)
        with self._database.reading() as connection:
            found = [run_of(row) for row in connection.execute(wanted)] if prefix else []
        if not found:
            raise NotFound(f"no run has the id {id_prefix}", hint="'holdfast history' lists them.")
        if len(found) > 1:
            raise Invalid(f"several runs have ids that begin with {id_prefix}", hint="Give more of it.")
        return found[0]

    def inner_runs(self, parents: Sequence[str]) -> list[RunRow]:
        """The runs that began inside of those with these ids, the oldest first."""
        wanted = sa.select(*RUN_COLUMNS).where(runs.c.parent.in_(parents)).order_by(runs.c.started_ns, runs.c.id)
        with self._database.reading() as connection:
            return [run_of(row) for row in connection.execute(wanted)]

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Write to the journal, alone: committed at the end, undone by an exception."""
        with self._database.writing() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Look into the journal with queries of one's own."""
        with self._database.reading() as connection:
            yield connection

    def record(self, connection: sa.Connection, fact: Fact, **where: str) -> Record:
        """Keep ``fact`` inside a transaction of :meth:`transaction`; ``where`` may say ``run``, ``operation``,
        ``plan``, ``vault``, ``job``. Returns it with its ``seq``."""
        record = as_kept(
            make(
                fact,
                at_ns=self._clock.now_ns(),
                random=self._random,
                host=self._host,
                role=self._role,
                pid=os.getpid(),
                **where,
            )
        )
        add_facts(connection, [row_of(record)])
        return replace(record, seq=seq_of(connection, record.id))

    def close(self) -> None:
        """Let go of the database. The journal cannot be used afterwards."""
        self._database.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
    except OSError as error:
        hint = "Look at the owner and the permissions of the state folder."
        raise Denied(f"the journal's folder {folder} cannot be made: {error.strerror}", hint=hint) from None


def _cursors(connection: sa.Connection, begin: str) -> dict[str, tuple[str, int]]:
    """How far the files were read whose names begin so."""
    wanted = sa.select(outboxes).where(outboxes.c.name.startswith(begin, autoescape=True))
    return {row.name: (row.identity, row.offset) for row in connection.execute(wanted)}


def _forget_cursors(connection: sa.Connection, names: Iterable[str]) -> None:
    for name in names:
        connection.execute(sa.delete(outboxes).where(outboxes.c.name == name))


def _move_cursor(connection: sa.Connection, name: str, identity: str, offset: int) -> None:
    connection.execute(sa.delete(outboxes).where(outboxes.c.name == name))
    connection.execute(sa.insert(outboxes), {"name": name, "identity": identity, "offset": offset})


def _is_kind(kind: str, by_bytes: bool) -> sa.ColumnElement[bool]:
    if not kind.endswith(".*"):
        return facts.c.kind == kind
    if by_bytes:  # a range, which the index serves: "/" follows "." in ASCII, though not in every language
        return sa.and_(facts.c.kind >= kind[:-1], facts.c.kind < kind[:-2] + "/")
    return facts.c.kind.startswith(kind[:-1], autoescape=True)


def _between(
    wanted: sa.Select[Any], column: sa.Column[Any], since_ns: int | None, until_ns: int | None
) -> sa.Select[Any]:
    if since_ns is not None:
        wanted = wanted.where(column >= since_ns)
    if until_ns is not None:
        wanted = wanted.where(column < until_ns)
    return wanted


def _torn(path: Path, count: int) -> Fact:
    lines = "1 line was" if count == 1 else f"{count} lines were"
    return Fact(
        "outbox.torn",
        f"{lines} torn in the outbox {path.name}: a process was killed, or the disk was full, while it recorded.",
        "warning",
        {"file": path.name, "lines": count},
    )
