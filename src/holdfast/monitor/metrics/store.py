"""Where counts are kept: two tables of the journal, brought up to date in one transaction with a cursor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from holdfast.kernel.clock import Clock
from holdfast.kernel.values import dataclass
from holdfast.monitor.journal import Journal
from holdfast.monitor.metrics.fold import KINDS, Counts, Key, Places, Snapshot, fold
from holdfast.monitor.rows import record_of
from holdfast.monitor.schema import METADATA, cursors, facts

CURSOR = "metrics"
STEP = 10_000
"""Positions of the journal that one transaction looks at: others wait 0.1 s to write, where each fact counts."""
SECONDS = 5.0
"""How long bringing up to date may take. What is left waits for the next call: Prometheus gives up after 10 s."""

metrics = sa.Table(
    "metrics",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("labels", sa.Text, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)
"""One row a series: ``labels`` is a JSON list of their values, in the order of ``fold.LABELS``."""

snapshots = sa.Table(
    "metrics_snapshots",
    METADATA,
    sa.Column("vault", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
)
"""Snapshots that were made and not forgotten, as far as facts told."""


_notices = sa.table("notices", sa.column("rule"), sa.column("state"), sa.column("resolved_ns"))
_deliveries = sa.table("deliveries", sa.column("channel"), sa.column("state"))


@dataclass(frozen=True, slots=True)
class Kept:
    """The snapshots of one plan in one vault: how many, their sizes together, the oldest and the newest instant."""

    plan: str
    vault: str
    host: str
    count: int
    size: int
    oldest_ns: int
    newest_ns: int


@dataclass(frozen=True, slots=True)
class State:
    """What there is to show. ``waiting``: positions of the journal that are not yet counted; ``last_ns``: when the last
    fact happened, None in an empty journal; ``open`` notices by rule, and deliveries ``undelivered`` by channel."""

    values: dict[Key, float]
    kept: list[Kept]
    waiting: int
    last_ns: int | None
    open: dict[str, int] = field(default_factory=dict)
    undelivered: dict[str, int] = field(default_factory=dict)


def advance(journal: Journal, places: Places, clock: Clock, *, seconds: float = SECONDS) -> None:
    """Count what has come into the journal since the last time, for at most about ``seconds``.

    Each fact counts once, whoever calls this and however it ends. Raises what the journal raises.
    """
    until = clock.monotonic() + seconds
    while _waiting(journal) and clock.monotonic() < until:
        with journal.transaction() as connection:
            _step(connection, places)


def state(journal: Journal) -> State:
    """The counts as they stand."""
    with journal.reading() as connection:
        s = snapshots.c
        grouped = sa.select(
            s.plan, s.vault, s.host, sa.func.count(), sa.func.sum(s.size), sa.func.min(s.at_ns), sa.func.max(s.at_ns)
        ).group_by(s.plan, s.vault, s.host)
        kept = [Kept(*row[:3], *map(int, row[3:])) for row in connection.execute(grouped)]
        last = sa.select(facts.c.at_ns).order_by(facts.c.seq.desc()).limit(1)
        n, d = _notices.c, _deliveries.c
        opened = sa.select(n.rule, sa.func.count()).where(n.resolved_ns.is_(None), n.state != "news").group_by(n.rule)
        held = sa.select(d.channel, sa.func.count()).where(d.state == "waiting").group_by(d.channel)
        return State(
            _values(connection),
            kept,
            _distance(connection),
            connection.scalar(last),
            {rule: int(count) for rule, count in connection.execute(opened)},
            {channel: int(count) for channel, count in connection.execute(held)},
        )


def _waiting(journal: Journal) -> int:
    with journal.reading() as connection:
        return _distance(connection)


def _distance(connection: sa.Connection) -> int:
    return max(_last(connection) - _cursor(connection), 0)


def _last(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.max(facts.c.seq))) or 0


def _cursor(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(cursors.c.seq).where(cursors.c.name == CURSOR)) or 0


def _values(connection: sa.Connection) -> dict[Key, float]:
    rows = connection.execute(sa.select(metrics.c.name, metrics.c.labels, metrics.c.value))
    return {(name, tuple(json.loads(labels))): value for name, labels, value in rows}


def _step(connection: sa.Connection, places: Places) -> None:
    cursor, last = _cursor(connection), _last(connection)
    end = min(cursor + STEP, last)
    counting = [sa.func.substr(facts.c.kind, 1, len(kind) - 1) == kind[:-1] for kind in KINDS if kind.endswith("*")]
    counting.append(facts.c.kind.in_([kind for kind in KINDS if not kind.endswith("*")]))
    wanted = sa.select(facts).where(facts.c.seq > cursor, facts.c.seq <= end, sa.or_(*counting)).order_by(facts.c.seq)
    counts = Counts(_values(connection))
    fold(counts, map(record_of, connection.execute(wanted)), places)
    _keep(connection, counts)
    moved = {"name": CURSOR, "seq": end}
    _put(connection, cursors, [moved], ("name",), ("seq",))


def _keep(connection: sa.Connection, counts: Counts) -> None:
    rows = [
        {"name": name, "labels": json.dumps(labels, ensure_ascii=False), "value": counts.values[name, labels]}
        for name, labels in counts.changed
    ]
    _put(connection, metrics, rows, ("name", "labels"), ("value",))
    for told in counts.snapshots:
        _snapshot(connection, told)


def _snapshot(connection: sa.Connection, told: Snapshot) -> None:
    s = snapshots.c
    row: dict[str, Any] = {"vault": told.vault, "id": told.id, "plan": told.plan, "host": told.host}
    row |= {"at_ns": told.at_ns, "size": told.size}
    this = sa.and_(s.vault == told.vault, s.id == (told.of if told.step == "renamed" else told.id))
    if told.step == "copied":
        # When it was made, and of which plan, stands with the one that it is a copy of, if facts told of that.
        found = connection.execute(sa.select(s.plan, s.host, s.at_ns, s.size).where(s.id == told.of).limit(1)).first()
        row |= found._mapping if found is not None else {}
    if told.step in ("made", "copied"):
        _put(connection, snapshots, [row], ("vault", "id"), ("plan", "host", "at_ns", "size"))
    elif told.step == "gone":
        connection.execute(sa.delete(snapshots).where(this))
    elif told.step == "renamed" and told.id != told.of:
        connection.execute(sa.delete(snapshots).where(s.vault == told.vault, s.id == told.id))
        connection.execute(sa.update(snapshots).where(this).values(id=told.id))


def _put(
    connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], keys: Iterable[str], values: Iterable[str]
) -> None:
    """Insert ``rows``, or give those that are there the new values."""
    if not rows:
        return
    insert: Any = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    made = insert(table)
    connection.execute(
        made.on_conflict_do_update(index_elements=list(keys), set_={v: made.excluded[v] for v in values}), rows
    )
