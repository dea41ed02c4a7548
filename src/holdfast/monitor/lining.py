"""Puts messages in line for their channels. What a newer message makes out of date, and nobody got yet, leaves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from holdfast.monitor.notice import Notice, Step, Tell
from holdfast.monitor.noticetables import deliveries
from holdfast.monitor.rules import local_text
from holdfast.monitor.wording import body_of, title_of

REPLACED = "replaced"
"""The state of a message that a newer one about the same notice has taken the place of."""
_NEWS = ("raised", "worse")


def put_in_line(connection: sa.Connection, host: str, step: Step, now_ns: int, offset: Callable[[int], int]) -> None:
    """Note who is to be told of ``step``, in the transaction that notes the step itself.

    Of one notice at most one message waits for a channel (beside one that is being sent): whoever slept, or whose
    channel was down, hears how it stands, and not everything that it went through. A notice that somebody never heard
    of does not come as "Still".
    """
    level = "info" if step.action == "resolved" else step.notice.level
    for tell in step.tells:
        waiting = _waiting(connection, host, step.notice, now_ns, tell.channel)
        unheard = next((row.action for row in waiting if row.action in _NEWS), "")
        told = Step(unheard, step.notice) if unheard and step.action != "resolved" else step
        _replace(connection, waiting)
        row = {
            "host": host,
            "notice": step.notice.id,
            "channel": tell.channel,
            "action": told.action,
            "level": level,
            "title": title_of(told),
            "body": body_of(told, host, offset),
            "created_ns": min((each.created_ns for each in waiting), default=now_ns),
            "due_ns": _due(tell, waiting),
            "attempts": max((each.attempts for each in waiting), default=0),
            "state": "waiting",
            "lease": "",
            "leased_until_ns": 0,
        }
        connection.execute(sa.insert(deliveries), row)
    if step.action in ("resolved", "closed") and step.notice.state == "bad":
        over = f"\nIt is over since {local_text(step.notice.resolved_ns or now_ns, offset)}."
        told_of_end = {tell.channel for tell in step.tells}
        left = [each for each in _waiting(connection, host, step.notice, now_ns) if each.channel not in told_of_end]
        _replace(connection, [each for each in left if each.action not in _NEWS])
        for each in left:
            if each.action in _NEWS:
                values = {"body": each.body + over}
                connection.execute(sa.update(deliveries).where(deliveries.c.seq == each.seq), values)


def refresh(connection: sa.Connection, host: str, notice: Notice, now_ns: int, offset: Callable[[int], int]) -> None:
    """There is more of the same: what waits to tell of ``notice`` says so."""
    for row in _waiting(connection, host, notice, now_ns):
        step = Step(row.action, notice)
        values = {"title": title_of(step), "body": body_of(step, host, offset)}
        connection.execute(sa.update(deliveries).where(deliveries.c.seq == row.seq), values)


def spare(connection: sa.Connection, host: str, notice: Notice, now_ns: int) -> None:
    """Somebody knows of ``notice``: what waits to remind people of it, or to tell more of them, leaves the line."""
    rows = _waiting(connection, host, notice, now_ns)
    _replace(connection, [row for row in rows if row.action not in _NEWS])


def _waiting(
    connection: sa.Connection, host: str, notice: Notice, now_ns: int, channel: str | None = None
) -> Sequence[sa.Row[Any]]:
    """What waits about ``notice``, and is not being sent right now."""
    wanted = sa.select(deliveries).where(
        deliveries.c.host == host,
        deliveries.c.state == "waiting",
        deliveries.c.notice == notice.id,
        deliveries.c.leased_until_ns <= now_ns,
    )
    if channel is not None:
        wanted = wanted.where(deliveries.c.channel == channel)
    return connection.execute(wanted.order_by(deliveries.c.seq)).all()


def _due(tell: Tell, waiting: Sequence[sa.Row[Any]]) -> int:
    """A channel that failed is not tried sooner because there is more to tell."""
    return max([tell.due_ns, *(int(row.due_ns) for row in waiting if row.attempts)])


def _replace(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> None:
    if rows:
        seqs = [row.seq for row in rows]
        connection.execute(sa.update(deliveries).where(deliveries.c.seq.in_(seqs)), {"state": REPLACED})
