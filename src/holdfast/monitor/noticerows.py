"""What the look for notices reads of the journal and writes into it, as queries inside of somebody's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from holdfast.kernel.values import dataclass
from holdfast.monitor.notice import SECOND, Expectation, Notice
from holdfast.monitor.noticetables import expected, notices
from holdfast.monitor.observing import KINDS, subject_of
from holdfast.monitor.record import Record
from holdfast.monitor.rows import record_of
from holdfast.monitor.schema import cursors, facts, runs
from holdfast.monitor.sizes import COMPARED

_AT_ONCE = 2000
_FIRST_LOOK = 86_400 * SECOND
"""How old facts may be that the very first look cares for: nobody wants to be told of last year's failures."""
_FIELDS = tuple(name for name in notices.c.keys() if name != "host")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to happen at least every ``every`` seconds: ``kind`` is ``backup`` or ``drill``; ``vault`` may be empty
    where any will do."""

    kind: str
    plan: str
    vault: str
    every: float

    @property
    def subject(self) -> str:
        """The key of it."""
        return subject_of(self.kind, self.plan, self.vault)


def news(connection: sa.Connection, host: str, now_ns: int) -> tuple[list[Record], bool, int]:
    """The facts of ``host`` to look at, whether these are the last, and where to go on (for :func:`move`)."""
    newest = int(connection.scalar(sa.select(sa.func.max(facts.c.seq))) or 0)
    cursor = connection.scalar(sa.select(cursors.c.seq).where(cursors.c.name == _cursor(host)))
    wanted = sa.select(facts).where(facts.c.host == host, facts.c.kind.in_(KINDS), facts.c.seq > (cursor or 0))
    if cursor is None:
        wanted = wanted.where(facts.c.at_ns >= now_ns - _FIRST_LOOK)
    rows = connection.execute(wanted.order_by(facts.c.seq).limit(_AT_ONCE)).all()
    records = [record_of(row) for row in rows]
    if len(records) < _AT_ONCE:
        return records, True, newest
    return records, False, records[-1].seq


def open_notices(connection: sa.Connection, host: str) -> list[Notice]:
    """The notices of ``host`` that are not over, the oldest first."""
    wanted = sa.select(notices).where(notices.c.host == host, notices.c.resolved_ns.is_(None))
    return [notice_of(row) for row in connection.execute(wanted.order_by(notices.c.opened_ns, notices.c.id))]


def past_runs(connection: sa.Connection, host: str, record: Record) -> Sequence[Mapping[str, Any]]:
    """The data of the good runs before the one whose end ``record`` is; see ``monitor.observing.Past``."""
    started = record.at_ns - int(float(record.data.get("seconds") or 0) * SECOND)
    wanted = (
        sa.select(runs.c.seconds, runs.c.data)
        .where(runs.c.operation == record.operation, runs.c.plan == record.plan, runs.c.vault == record.vault)
        .where(runs.c.host == host, runs.c.id != record.run, runs.c.outcome.in_(("ok", "partial")))
        .where(runs.c.started_ns < started)
        .order_by(runs.c.started_ns.desc())
        .limit(4 * COMPARED)
    )
    found = [{**row.data, "seconds": row.seconds} for row in connection.execute(wanted)]
    return [data for data in found if not data.get("dry_run")][:COMPARED]


def expectations(connection: sa.Connection, host: str, now_ns: int, wanted: Sequence[Wanted]) -> list[Expectation]:
    """When each of ``wanted`` last happened; what is wanted for the first time is noted."""
    known = {
        row.subject: row.first_seen_ns for row in connection.execute(sa.select(expected).where(expected.c.host == host))
    }
    found = []
    for each in wanted:
        last = _last_good(connection, host, each)
        if each.subject not in known:
            known[each.subject] = now_ns
            row = {"host": host, "subject": each.subject, "first_seen_ns": known[each.subject]}
            connection.execute(sa.insert(expected), row)
        since = known[each.subject] if last is None else last
        found.append(Expectation(each.kind, each.plan, each.vault, each.every, since, last is None))
    return found


def _last_good(connection: sa.Connection, host: str, each: Wanted) -> int | None:
    """When it last happened: the start of the run, since from then on changes are not in it."""
    outcomes = ("ok", "partial") if each.kind == "backup" else ("ok",)
    found = (
        sa.select(runs.c.started_ns, runs.c.data)
        .where(runs.c.operation == each.kind, runs.c.plan == each.plan, runs.c.host == host)
        .where(runs.c.outcome.in_(outcomes))
        .order_by(runs.c.started_ns.desc())
        .limit(20)
    )
    if each.vault:
        found = found.where(runs.c.vault == each.vault)
    rows = (row for row in connection.execute(found) if not row.data.get("dry_run"))
    return next((int(row.started_ns) for row in rows), None)


def save(connection: sa.Connection, host: str, notice: Notice) -> None:
    """Write ``notice``, whether it is there already or not."""
    values = {name: getattr(notice, name) for name in _FIELDS} | {
        "host": host,
        "items": list(notice.items),
        "data": dict(notice.data),
    }
    done = connection.execute(sa.update(notices).where(notices.c.id == notice.id), values)
    if not done.rowcount:
        connection.execute(sa.insert(notices), values)


def notice_of(row: sa.Row[Any]) -> Notice:
    """The notice that a row of ``notices`` holds."""
    values = {name: getattr(row, name) for name in _FIELDS}
    return Notice(**{**values, "items": tuple(row.items)})


def move(connection: sa.Connection, host: str, seq: int) -> None:
    """Note that the facts of ``host`` were looked at up to ``seq``."""
    name = _cursor(host)
    done = connection.execute(sa.update(cursors).where(cursors.c.name == name), {"seq": seq})
    if not done.rowcount:
        connection.execute(sa.insert(cursors), {"name": name, "seq": seq})


def _cursor(host: str) -> str:
    return f"notices@{host}"
