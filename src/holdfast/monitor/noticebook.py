"""The notices of one machine in the journal: facts are read, rules applied and written down, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Invalid, NotFound
from holdfast.kernel.events import Fact
from holdfast.monitor.journal import Journal
from holdfast.monitor.masking import mask
from holdfast.monitor.notice import SECOND, Decisions, Expectation, Notice, NoticeSettings, Step
from holdfast.monitor.noticetables import deliveries, expected, notices
from holdfast.monitor.observing import KINDS, subject_of
from holdfast.monitor.record import Record
from holdfast.monitor.rows import record_of
from holdfast.monitor.rules import decide
from holdfast.monitor.schema import cursors, facts, runs
from holdfast.monitor.sizes import COMPARED
from holdfast.monitor.wording import body_of, sentence_of, title_of

_AT_ONCE = 2000
_FIRST_LOOK = 86_400 * SECOND
"""How old facts may be that the very first look cares for: nobody wants to be told of last year's failures."""

_FACTS = {
    "raised": "notice.raised",
    "worse": "notice.raised",
    "repeated": "notice.repeated",
    "escalated": "notice.escalated",
    "resolved": "notice.resolved",
    "closed": "notice.resolved",
}
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


class Noticebook:
    """What the machine ``host`` has to tell people, kept in ``journal``."""

    def __init__(self, journal: Journal, *, host: str, clock: Clock) -> None:
        self._journal = journal
        self._host = host
        self._clock = clock

    def look(self, settings: NoticeSettings, wanted: Sequence[Wanted] = ()) -> Decisions:
        """Apply the rules to the facts that came since the last look, and to the time that went by.

        The notices, who is to be told of them, a fact for each step and how far the facts were read become durable
        together or not at all. Two processes that look at once do so one after the other, so each fact counts once.
        """
        steps: list[Step] = []
        while True:
            with self._journal.transaction() as connection:
                records, last, cursor = self._news(connection)
                found = decide(
                    records,
                    self._open(connection),
                    self._expectations(connection, wanted) if last else (),
                    self._clock.now_ns(),
                    settings,
                    lambda record, connection=connection: self._past(connection, record),  # type: ignore[misc]
                    overdue=last,
                )
                for step in found.steps:
                    self._write(connection, step, settings)
                steps += found.steps
                _move(connection, self._cursor, cursor)
            if last:
                return replace(found, steps=tuple(steps))

    def open(self) -> list[Notice]:
        """The notices that are not over, the newest first."""
        with self._journal.reading() as connection:
            return sorted(self._open(connection), key=lambda notice: notice.opened_ns, reverse=True)

    def recent(self, limit: int) -> list[Notice]:
        """The last ``limit`` notices, whether over or not, the newest first."""
        wanted = sa.select(notices).where(notices.c.host == self._host).order_by(notices.c.opened_ns.desc())
        with self._journal.reading() as connection:
            return [_notice(row) for row in connection.execute(wanted.limit(limit))]

    def acknowledge(self, prefix: str, by: str) -> list[Notice]:
        """Note that somebody knows of the open notice whose id begins with ``prefix``, or of ``all``.

        It is then neither repeated nor escalated, unless it gets worse. Returns those that were acknowledged, also
        before. Raises ``NotFound``, ``Invalid`` where several ids begin so.
        """
        with self._journal.transaction() as connection:
            found = self._open(connection)
            chosen = found if prefix == "all" else [each for each in found if each.id.startswith(prefix.lower())]
            if prefix != "all" and not chosen:
                raise NotFound(f"no open notice has the id {prefix}", hint="'holdfast notify list' shows them.")
            if prefix != "all" and len(chosen) > 1:
                raise Invalid(f"several notices have ids that begin with {prefix}", hint="Give more of it.")
            known = []
            for notice in chosen:
                if notice.acknowledged_ns is None:
                    notice = replace(notice, acknowledged_ns=self._clock.now_ns(), acknowledged_by=by)
                    self._save(connection, notice)
                    data = {"notice": notice.id, "rule": notice.rule, "subject": notice.subject, "by": by}
                    self._record(
                        connection, "notice.acknowledged", f"Acknowledged: {notice.title}", "info", data, notice
                    )
                known.append(notice)
            return known

    def next_delivery_ns(self) -> int | None:
        """When something is to be sent next; None: nothing waits."""
        later = sa.case(
            (deliveries.c.leased_until_ns > deliveries.c.due_ns, deliveries.c.leased_until_ns),
            else_=deliveries.c.due_ns,
        )
        wanted = sa.select(sa.func.min(later)).where(deliveries.c.host == self._host, deliveries.c.state == "waiting")
        with self._journal.reading() as connection:
            found = connection.scalar(wanted)
            return None if found is None else int(found)

    @property
    def _cursor(self) -> str:
        return f"notices@{self._host}"

    def _news(self, connection: sa.Connection) -> tuple[list[Record], bool, int]:
        """The facts to look at, whether these are the last, and where to go on."""
        newest = int(connection.scalar(sa.select(sa.func.max(facts.c.seq))) or 0)
        cursor = connection.scalar(sa.select(cursors.c.seq).where(cursors.c.name == self._cursor))
        wanted = sa.select(facts).where(
            facts.c.host == self._host, facts.c.kind.in_(KINDS), facts.c.seq > (cursor or 0)
        )
        if cursor is None:
            wanted = wanted.where(facts.c.at_ns >= self._clock.now_ns() - _FIRST_LOOK)
        rows = connection.execute(wanted.order_by(facts.c.seq).limit(_AT_ONCE)).all()
        records = [record_of(row) for row in rows]
        if len(records) < _AT_ONCE:
            return records, True, newest
        return records, False, records[-1].seq

    def _open(self, connection: sa.Connection) -> list[Notice]:
        wanted = sa.select(notices).where(notices.c.host == self._host, notices.c.resolved_ns.is_(None))
        return [_notice(row) for row in connection.execute(wanted.order_by(notices.c.opened_ns, notices.c.id))]

    def _past(self, connection: sa.Connection, record: Record) -> Sequence[Mapping[str, Any]]:
        started = record.at_ns - int(float(record.data.get("seconds") or 0) * SECOND)
        wanted = (
            sa.select(runs.c.seconds, runs.c.data)
            .where(runs.c.operation == record.operation, runs.c.plan == record.plan, runs.c.vault == record.vault)
            .where(runs.c.host == self._host, runs.c.id != record.run, runs.c.outcome.in_(("ok", "partial")))
            .where(runs.c.started_ns < started)
            .order_by(runs.c.started_ns.desc())
            .limit(4 * COMPARED)
        )
        found = [{**row.data, "seconds": row.seconds} for row in connection.execute(wanted)]
        return [data for data in found if not data.get("dry_run")][:COMPARED]

    def _expectations(self, connection: sa.Connection, wanted: Sequence[Wanted]) -> list[Expectation]:
        known = {
            row.subject: row.first_seen_ns
            for row in connection.execute(sa.select(expected).where(expected.c.host == self._host))
        }
        found = []
        for each in wanted:
            last = self._last_good(connection, each)
            if each.subject not in known:
                known[each.subject] = self._clock.now_ns()
                row = {"host": self._host, "subject": each.subject, "first_seen_ns": known[each.subject]}
                connection.execute(sa.insert(expected), row)
            since = known[each.subject] if last is None else last
            found.append(Expectation(each.kind, each.plan, each.vault, each.every, since, last is None))
        return found

    def _last_good(self, connection: sa.Connection, each: Wanted) -> int | None:
        """When it last happened: the start of the run, since from then on changes are not in it."""
        outcomes = ("ok", "partial") if each.kind == "backup" else ("ok",)
        found = (
            sa.select(runs.c.started_ns, runs.c.data)
            .where(runs.c.operation == each.kind, runs.c.plan == each.plan, runs.c.host == self._host)
            .where(runs.c.outcome.in_(outcomes))
            .order_by(runs.c.started_ns.desc())
            .limit(20)
        )
        if each.vault:
            found = found.where(runs.c.vault == each.vault)
        rows = (row for row in connection.execute(found) if not row.data.get("dry_run"))
        return next((int(row.started_ns) for row in rows), None)

    def _write(self, connection: sa.Connection, step: Step, settings: NoticeSettings) -> None:
        notice = replace(step.notice, title=mask(step.notice.title), message=mask(step.notice.message))
        step = replace(step, notice=notice)
        self._save(connection, notice)
        if step.action == "counted":
            return
        now = self._clock.now_ns()
        level = "info" if step.action == "resolved" else notice.level
        title = title_of(step)
        body = body_of(step, self._host, settings.offset)
        for tell in step.tells:
            row = {
                "host": self._host,
                "notice": notice.id,
                "channel": tell.channel,
                "action": step.action,
                "level": level,
                "title": title,
                "body": body,
                "created_ns": now,
                "due_ns": tell.due_ns,
                "attempts": 0,
                "state": "waiting",
                "lease": "",
                "leased_until_ns": 0,
            }
            connection.execute(sa.insert(deliveries), row)
        data = {
            "notice": notice.id,
            "rule": notice.rule,
            "subject": notice.subject,
            "action": step.action,
            "channels": [tell.channel for tell in step.tells],
            "times": notice.times,
        }
        self._record(connection, _FACTS[step.action], sentence_of(step), level, data, notice)

    def _save(self, connection: sa.Connection, notice: Notice) -> None:
        values = {name: getattr(notice, name) for name in _FIELDS} | {
            "host": self._host,
            "items": list(notice.items),
            "data": dict(notice.data),
        }
        done = connection.execute(sa.update(notices).where(notices.c.id == notice.id), values)
        if not done.rowcount:
            connection.execute(sa.insert(notices), values)

    def _record(
        self, connection: sa.Connection, kind: str, message: str, level: str, data: dict[str, Any], notice: Notice
    ) -> None:
        self._journal.record(connection, Fact(kind, message, level, data), operation="notify", plan=notice.plan)


def _notice(row: sa.Row[Any]) -> Notice:
    values = {name: getattr(row, name) for name in _FIELDS}
    return Notice(**{**values, "items": tuple(row.items)})


def _move(connection: sa.Connection, name: str, seq: int) -> None:
    done = connection.execute(sa.update(cursors).where(cursors.c.name == name), {"seq": seq})
    if not done.rowcount:
        connection.execute(sa.insert(cursors), {"name": name, "seq": seq})


def notice_json(notice: Notice) -> dict[str, Any]:
    """What ``--json`` shows of a notice."""
    from holdfast.monitor.record import time_text

    found = asdict(notice)
    for name in ("opened", "updated", "told", "escalated", "acknowledged", "resolved"):
        at = found.pop(f"{name}_ns")
        found[name] = time_text(at) if at else None
    found.pop("told_times")
    return {**found, "items": list(notice.items), "data": dict(notice.data)}
