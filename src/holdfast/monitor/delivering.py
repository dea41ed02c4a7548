"""Deliveries on their way: claimed for a time, sent, and what came of it recorded; no death in between loses one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from holdfast.kernel.clock import Clock
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass
from holdfast.monitor.channels.apart import Sent
from holdfast.monitor.channels.base import ChannelSpec, Message
from holdfast.monitor.journal import Journal
from holdfast.monitor.masking import mask
from holdfast.monitor.notice import SECOND, rank
from holdfast.monitor.noticetables import deliveries
from holdfast.monitor.record import time_text

Send = Callable[[ChannelSpec, Message], Sent]

SEPARATE = 3
"""More than so many messages that wait for one channel become one."""
GIVE_UP = 7 * 86_400 * SECOND
_HOUR = 3600 * SECOND
_FIRST_DELAY = 30.0
_LONGEST_DELAY = 3600.0
_REFUSED_DELAY = 3600.0
_GRACE = 60.0
"""Seconds that a lease lasts beyond the time for sending: starting a process and writing to the journal take some."""


@dataclass(frozen=True, slots=True)
class Line:
    """A configured channel. ``open`` says what it is, or why that is not known (a command for its secret fails, say).

    ``seconds`` is how long sending may take, ``rate`` how many messages go out in an hour; what is critical does not
    wait for that.
    """

    open: Callable[[], ChannelSpec | Sent]
    seconds: float = 15.0
    rate: int = 20


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of trying to send one message, in which ``notices`` are told of."""

    channel: str
    title: str
    notices: tuple[str, ...]
    sent: Sent


@dataclass(frozen=True, slots=True)
class _Claim:
    lease: str
    channel: str
    rows: tuple[sa.Row[Any], ...]


class Delivering:
    """Sends what waits for the channels of ``host``.

    A delivery is claimed in one transaction, sent, and settled in another one. Whoever dies in between leaves a lease
    that ends; then the message is sent again: at least once, and once unless that happens. ``draw`` gives numbers from
    0 up to 1, ``token`` makes a name that nobody else has.
    """

    def __init__(
        self,
        journal: Journal,
        lines: Mapping[str, Line],
        *,
        host: str,
        clock: Clock,
        send: Send,
        draw: Callable[[], float],
        token: Callable[[], str],
    ) -> None:
        self._journal = journal
        self._lines = lines
        self._host = host
        self._clock = clock
        self._send = send
        self._draw = draw
        self._token = token
        self._specs: dict[str, ChannelSpec | Sent] = {}

    def deliver(self, *, seconds: float, stop: Callable[[], bool] = lambda: False) -> list[Attempt]:
        """Send all that is due, one after the other; none is begun after ``seconds`` or once ``stop()`` is true."""
        until = self._clock.monotonic() + seconds
        attempts = []
        while self._clock.monotonic() < until and not stop():
            claim = self._claim()
            if claim is None:
                break
            message = _message(claim, self._host, self._clock.now_ns())
            spec = self._spec(claim.channel)
            sent = self._send(spec, message) if isinstance(spec, ChannelSpec) else spec
            self._settle(claim, sent)
            attempts.append(Attempt(claim.channel, message.title, tuple(row.notice for row in claim.rows), sent))
        return attempts

    def hurry(self) -> None:
        """What was tried already is due now, and does not wait for its next time."""
        now = self._clock.now_ns()
        with self._journal.transaction() as connection:
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.host == self._host, deliveries.c.state == "waiting", deliveries.c.attempts > 0)
                .where(deliveries.c.due_ns > now),
                {"due_ns": now},
            )

    def _spec(self, channel: str) -> ChannelSpec | Sent:
        if channel not in self._specs:
            self._specs[channel] = self._lines[channel].open()
        return self._specs[channel]

    def _claim(self) -> _Claim | None:
        now = self._clock.now_ns()
        with self._journal.transaction() as connection:
            while (first := self._first(connection, now)) is not None:
                if first.channel not in self._lines:
                    self._drop(connection, first)
                    continue
                line = self._lines[first.channel]
                rows = self._due(connection, now, first.channel)
                if self._must_wait(connection, now, first.channel, line.rate, rows):
                    continue
                chosen = rows if len(rows) > SEPARATE else rows[:1]
                lease = self._token()
                until = now + int((line.seconds + _GRACE) * SECOND)
                connection.execute(
                    sa.update(deliveries).where(deliveries.c.seq.in_([row.seq for row in chosen])),
                    {"lease": lease, "leased_until_ns": until},
                )
                return _Claim(lease, first.channel, tuple(chosen))
        return None

    def _waiting(self, now: int) -> sa.Select[Any]:
        return sa.select(deliveries).where(
            deliveries.c.host == self._host,
            deliveries.c.state == "waiting",
            deliveries.c.due_ns <= now,
            deliveries.c.leased_until_ns <= now,
        )

    def _first(self, connection: sa.Connection, now: int) -> sa.Row[Any] | None:
        return connection.execute(self._waiting(now).order_by(deliveries.c.due_ns, deliveries.c.seq).limit(1)).first()

    def _due(self, connection: sa.Connection, now: int, channel: str) -> list[sa.Row[Any]]:
        wanted = self._waiting(now).where(deliveries.c.channel == channel).order_by(deliveries.c.seq).limit(200)
        rows = list(connection.execute(wanted))
        if len(rows) <= SEPARATE:
            rows.sort(key=lambda row: -rank(row.level))
        return rows

    def _must_wait(
        self, connection: sa.Connection, now: int, channel: str, rate: int, rows: Sequence[sa.Row[Any]]
    ) -> bool:
        """Whether the channel had its messages for this hour; what waits is then put off, to become one message."""
        if any(row.level == "critical" for row in rows):
            return False
        recent = (
            sa.select(sa.func.min(deliveries.c.ended_ns))
            .where(deliveries.c.host == self._host, deliveries.c.channel == channel, deliveries.c.state == "sent")
            .where(deliveries.c.ended_ns > now - _HOUR)
            .group_by(deliveries.c.lease)
        )
        sent = sorted(int(at) for at in connection.scalars(recent))
        if len(sent) < rate:
            return False
        later = sent[-rate] + _HOUR
        seqs = [row.seq for row in rows]
        connection.execute(sa.update(deliveries).where(deliveries.c.seq.in_(seqs)), {"due_ns": later})
        return True

    def _drop(self, connection: sa.Connection, row: sa.Row[Any]) -> None:
        values = {"state": "dropped", "ended_ns": self._clock.now_ns()}
        connection.execute(sa.update(deliveries).where(deliveries.c.seq == row.seq), values)
        error = f"there is no channel {row.channel} in the configuration any more"
        self._record(connection, row, Sent(error), given_up=True)

    def _settle(self, claim: _Claim, sent: Sent) -> None:
        now = self._clock.now_ns()
        with self._journal.transaction() as connection:
            mine = (
                sa.select(deliveries)
                .where(deliveries.c.lease == claim.lease, deliveries.c.state == "waiting")
                .order_by(deliveries.c.seq)
            )
            for row in list(connection.execute(mine)):
                given_up = not sent.ok and now - row.created_ns >= GIVE_UP
                values: dict[str, Any] = {"attempts": row.attempts + 1, "leased_until_ns": 0}
                if sent.ok or given_up:
                    values |= {"state": "sent" if sent.ok else "failed", "ended_ns": now}
                else:
                    values |= {"lease": "", "due_ns": now + int(_delay(row.attempts + 1, sent, self._draw) * SECOND)}
                connection.execute(sa.update(deliveries).where(deliveries.c.seq == row.seq), values)
                self._record(connection, row, sent, given_up=given_up)
            if not sent.ok:
                self._put_off(connection, claim.channel, now)

    def _put_off(self, connection: sa.Connection, channel: str, now: int) -> None:
        """What else waits for a channel that just failed waits a little too: every try costs its time limit."""
        connection.execute(
            sa.update(deliveries)
            .where(deliveries.c.host == self._host, deliveries.c.channel == channel)
            .where(deliveries.c.state == "waiting", deliveries.c.due_ns <= now),
            {"due_ns": now + int(_FIRST_DELAY * SECOND)},
        )

    def _record(self, connection: sa.Connection, row: sa.Row[Any], sent: Sent, *, given_up: bool) -> None:
        error = mask(sent.error)
        data: dict[str, Any] = {
            "notice": row.notice,
            "channel": row.channel,
            "action": row.action,
            "attempt": row.attempts + 1,
        }
        if sent.ok:
            fact = Fact("notice.sent", f"Told through {row.channel}: {row.title}", "info", data)
        else:
            data |= {"error": error, "hint": mask(sent.hint), "refused": sent.refused, "given_up": given_up}
            message = f"Could not tell through {row.channel}: {row.title}: {error}"
            fact = Fact("notice.failed", message, "error" if given_up or sent.refused else "warning", data)
        self._journal.record(connection, fact, operation="notify")


def _message(claim: _Claim, host: str, now_ns: int) -> Message:
    rows = claim.rows
    now = time_text(now_ns)
    details = tuple(
        {"notice": row.notice, "action": row.action, "level": row.level, "title": row.title, "body": row.body}
        for row in rows
    )
    level = max((row.level for row in rows), key=rank)
    first = rows[0]
    name = f"{first.notice}-{first.seq}"
    if len(rows) == 1:
        return Message(name, first.title, first.body, level, first.action, host, now, details)
    body = "\n\n".join(f"{row.title}\n{row.body}" for row in rows)
    return Message(
        f"{name}-{len(rows)}",
        f"{len(rows)} notices of {host}",
        body,
        level,
        "bundle",
        host,
        now,
        details,
    )


def _delay(attempts: int, sent: Sent, draw: Callable[[], float]) -> float:
    """Seconds until the next try: 30, 60, 120 ... up to an hour, half of it by chance, and never before the server
    wants it. What was refused needs a person; it is tried every hour, since he may have been there."""
    if sent.refused:
        return _REFUSED_DELAY
    longest = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(attempts - 1, 16))
    return max(sent.retry_after, longest / 2 + draw() * longest / 2)
