"""The notices of one machine in the journal: facts are read, rules applied and written down, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa

from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Invalid, NotFound
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass
from holdfast.monitor.journal import Journal
from holdfast.monitor.masking import mask
from holdfast.monitor.notice import Decisions, Notice, NoticeSettings, Step
from holdfast.monitor.noticerows import (
    Wanted,
    expectations,
    move,
    news,
    notice_of,
    open_notices,
    past_runs,
    save,
)
from holdfast.monitor.noticetables import deliveries, notices
from holdfast.monitor.rules import decide
from holdfast.monitor.wording import body_of, sentence_of, title_of

_FACTS = {
    "raised": "notice.raised",
    "worse": "notice.raised",
    "repeated": "notice.repeated",
    "escalated": "notice.escalated",
    "resolved": "notice.resolved",
    "closed": "notice.resolved",
}


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The notices that somebody knows of from ``now`` on, and those meant as well that were known ``before``."""

    now: tuple[Notice, ...]
    before: tuple[Notice, ...]


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
            now = self._clock.now_ns()
            with self._journal.transaction() as connection:
                records, last, cursor = news(connection, self._host, now)
                found = decide(
                    records,
                    open_notices(connection, self._host),
                    expectations(connection, self._host, now, wanted) if last else (),
                    self._clock.now_ns(),
                    settings,
                    lambda record, connection=connection: past_runs(connection, self._host, record),  # type: ignore[misc]
                    overdue=last,
                )
                for step in found.steps:
                    self._write(connection, step, settings)
                steps += found.steps
                move(connection, self._host, cursor)
            if last:
                return replace(found, steps=tuple(steps))

    def open(self) -> list[Notice]:
        """The notices that are not over, the newest first."""
        with self._journal.reading() as connection:
            return sorted(open_notices(connection, self._host), key=lambda notice: notice.opened_ns, reverse=True)

    def recent(self, limit: int) -> list[Notice]:
        """The last ``limit`` notices, whether over or not, the newest first."""
        wanted = sa.select(notices).where(notices.c.host == self._host).order_by(notices.c.opened_ns.desc())
        with self._journal.reading() as connection:
            return [notice_of(row) for row in connection.execute(wanted.limit(limit))]

    def acknowledge(self, prefix: str, by: str) -> Acknowledged:
        """Note that somebody knows of the open notice whose id begins with ``prefix``, or of ``all``.

        It is then neither repeated nor escalated, unless it gets worse. What was acknowledged before stays as it is.
        Raises ``NotFound``, ``Invalid`` where several ids begin so.
        """
        with self._journal.transaction() as connection:
            found = open_notices(connection, self._host)
            chosen = found if prefix == "all" else [each for each in found if each.id.startswith(prefix.lower())]
            if prefix != "all" and not chosen:
                raise NotFound(f"no open notice has the id {prefix}", hint="'holdfast notify list' shows them.")
            if prefix != "all" and len(chosen) > 1:
                raise Invalid(f"several notices have ids that begin with {prefix}", hint="Give more of it.")
            known = []
            for notice in chosen:
                if notice.acknowledged_ns is not None:
                    continue
                notice = replace(notice, acknowledged_ns=self._clock.now_ns(), acknowledged_by=by)
                save(connection, self._host, notice)
                data = {"notice": notice.id, "rule": notice.rule, "subject": notice.subject, "by": by}
                self._record(connection, "notice.acknowledged", f"Acknowledged: {notice.title}", "info", data, notice)
                known.append(notice)
            before = tuple(notice for notice in chosen if notice.acknowledged_ns is not None)
            return Acknowledged(tuple(known), before)

    def waiting(self) -> int:
        """How many messages wait for their time, or for a channel that works again."""
        wanted = sa.select(sa.func.count()).where(deliveries.c.host == self._host, deliveries.c.state == "waiting")
        with self._journal.reading() as connection:
            return int(connection.scalar(wanted) or 0)

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

    def _write(self, connection: sa.Connection, step: Step, settings: NoticeSettings) -> None:
        notice = replace(step.notice, title=mask(step.notice.title), message=mask(step.notice.message))
        step = replace(step, notice=notice)
        save(connection, self._host, notice)
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

    def _record(
        self, connection: sa.Connection, kind: str, message: str, level: str, data: dict[str, Any], notice: Notice
    ) -> None:
        self._journal.record(connection, Fact(kind, message, level, data), operation="notify", plan=notice.plan)


def notice_json(notice: Notice) -> dict[str, Any]:
    """What ``--json`` shows of a notice."""
    from holdfast.monitor.record import time_text

    found = asdict(notice)
    for name in ("opened", "updated", "told", "escalated", "acknowledged", "resolved"):
        at = found.pop(f"{name}_ns")
        found[name] = time_text(at) if at else None
    found.pop("told_times")
    return {**found, "items": list(notice.items), "data": dict(notice.data)}
