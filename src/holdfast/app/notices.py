"""Use cases about notices: look and tell, try a channel out, list them, acknowledge them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.app.attention import load, mark_of, remember, save
from holdfast.app.channels import lines
from holdfast.app.context import Context, hostname, username
from holdfast.app.journal import open_journal
from holdfast.app.recording import note, recorded
from holdfast.config.notifysettings import notice_settings
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Invalid, NotFound, Unavailable
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass
from holdfast.monitor.channels.apart import Sent, send_apart
from holdfast.monitor.channels.base import ChannelSpec, Message
from holdfast.monitor.masking import mask
from holdfast.monitor.notice import SECOND, Notice, NoticeSettings
from holdfast.monitor.record import time_text

if TYPE_CHECKING:
    from holdfast.config.settings import Settings
    from holdfast.monitor.delivering import Attempt
    from holdfast.monitor.journal import Journal
    from holdfast.monitor.noticebook import Acknowledged, Noticebook
    from holdfast.monitor.noticerows import Wanted

_ROUNDS = 3
"""Look, tell, look at how that went (a broken channel is told through another one), tell, look."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a look came to: every attempt to send a message, how many messages wait, the notices that are open, and
    when to look again."""

    attempts: tuple[Attempt, ...]
    waiting: int
    open: tuple[Notice, ...]
    due_ns: int | None

    @property
    def failed(self) -> list[Attempt]:
        """The attempts after which nobody knows more than before."""
        return [attempt for attempt in self.attempts if not attempt.sent.ok]


def send_notices(context: Context, *, seconds: float, now: bool = False) -> Told:
    """Take in what happened, apply the rules, and send what is due; nothing is begun after ``seconds``.
    With ``now`` what failed before does not wait for the time of its next try.

    Where the journal cannot be used, people are told that, once a day, and the error is raised on. Raises ``NotFound``
    without a configuration, ``Invalid`` without channels, ``Unavailable``, ``Denied``.
    """
    settings = _with_channels(context)
    chosen = notice_settings(settings, context.clock)
    try:
        with open_journal(context) as journal:
            told = _rounds(context, settings, chosen, journal, seconds, now)
    except (Unavailable, Denied, Corrupt) as error:
        _tell_without_journal(context, settings, chosen, error)
        raise
    remember(context.paths.state / "status", mark_of(settings.path), told.due_ns, len(told.open), len(chosen.channels))
    return told


def _rounds(
    context: Context, settings: Settings, chosen: NoticeSettings, journal: Journal, seconds: float, now: bool
) -> Told:
    from holdfast.monitor.delivering import Delivering

    book = _book(context, journal)
    delivering = Delivering(
        journal,
        lines(context, settings),
        host=hostname(),
        clock=context.clock,
        send=send_apart,
        draw=lambda: int.from_bytes(context.random(4), "big") / (1 << 32),
        token=lambda: context.random(8).hex(),
    )
    if now:
        delivering.hurry()
    attempts: list[Attempt] = []
    until = context.clock.monotonic() + seconds
    wanted = list(_wanted(context, settings))
    for _ in range(_ROUNDS):
        found = book.look(chosen, wanted)
        left = until - context.clock.monotonic()
        made = delivering.deliver(seconds=left, stop=lambda: context.cancel.requested)
        attempts += made
        if not made:
            break
    due = [time for time in (found.due_ns, book.next_delivery_ns()) if time is not None]
    return Told(tuple(attempts), book.waiting(), found.open, min(due, default=None))


def try_channels(context: Context, names: Sequence[str]) -> Iterator[tuple[str, Sent]]:
    """Send a test message through the channels of these names, or through all, one after the other.

    Nothing is kept for later, and no quiet hours count; each attempt is recorded. Raises ``NotFound`` for a channel
    that is not configured.
    """
    settings = _with_channels(context)
    known = lines(context, settings)
    for name in names:
        if name not in known:
            raise NotFound(f"there is no channel named {name!r}", hint=f"Configured are {', '.join(known)}.")
    with recorded(context, "notify") as run:
        failed = 0
        for name in names or known:
            opened = known[name].open()
            at = context.clock.now_ns()
            text = f"This is a test of the channel {name}, made at {time_text(at)[:19]}Z. It works if you read this."
            message = Message(
                context.random(6).hex(),
                f"Holdfast on {hostname()}: a test",
                text,
                "info",
                "test",
                hostname(),
                time_text(at),
            )
            sent = send_apart(opened, message) if isinstance(opened, ChannelSpec) else opened
            failed += not sent.ok
            note(run.context, _tried(name, sent))
            yield name, sent
        outcome = "failed" if failed == len(names or known) else "partial" if failed else "ok"
        run.finish(
            outcome, f"{failed} of {len(names or known)} channels do not work" if failed else "all channels work"
        )


def list_notices(context: Context, *, everything: int = 0) -> list[Notice]:
    """The open notices of this machine, the newest first; with ``everything`` the last so many, open or not."""
    with open_journal(context) as journal:
        book = _book(context, journal)
        return book.recent(everything) if everything else book.open()


def acknowledge(context: Context, prefix: str) -> Acknowledged:
    """Say that somebody knows of a notice (by the beginning of its id), of ``all``, or, for "", of the only one.

    It is then neither repeated nor escalated until it gets worse. Raises ``NotFound``, ``Invalid``.
    """
    with open_journal(context) as journal:
        book = _book(context, journal)
        if not prefix:
            known = [notice for notice in book.open() if notice.acknowledged_ns is None]
            if not known:
                raise NotFound("there is no open notice that nobody knows of")
            if len(known) > 1:
                hint = f"They are {', '.join(notice.id[:6] for notice in known)}; 'holdfast notify list' tells more."
                raise Invalid(f"which notice? {len(known)} are open", hint=hint)
            prefix = known[0].id
        return book.acknowledge(prefix, username())


def _book(context: Context, journal: Journal) -> Noticebook:
    from holdfast.monitor.noticebook import Noticebook

    return Noticebook(journal, host=hostname(), clock=context.clock)


def _with_channels(context: Context) -> Settings:
    settings = context.required()
    if not settings.loaded.configuration.notify.channels:
        raise Invalid(
            f"{settings.path} names no channel, so nobody can be told anything",
            hint='Write one, such as notify: {channels: {phone: "ntfys://a-secret-topic"}}.',
        )
    return settings


def _wanted(context: Context, settings: Settings) -> Iterator[Wanted]:
    """What the plans say has to happen again and again."""
    from holdfast.monitor.noticerows import Wanted

    for plan in map(settings.plan, settings.plan_names):
        if plan.expect.every:
            for vault in plan.to:
                yield Wanted("backup", plan.name, vault, plan.expect.every)
        if plan.times.drill:
            every = _longest_pause(context, plan.times.drill)
            if every:
                yield Wanted("drill", plan.name, "", every)


def _longest_pause(context: Context, schedule: str) -> float:
    """Seconds between two of the next times of ``schedule``, at most, and a day more; 0 if it never comes."""
    from itertools import islice, pairwise

    from holdfast.app.schedules import zone
    from holdfast.jobs.schedule import fires

    times = list(islice(fires(schedule, context.clock.now_ns(), zone(context)), 5))
    return (
        max(((later - earlier) / SECOND for earlier, later in pairwise(times)), default=0.0) + 86_400 if times else 0.0
    )


def _tried(channel: str, sent: Sent) -> Fact:
    data = {"notice": "test", "channel": channel, "attempt": 1, "test": True}
    if sent.ok:
        return Fact("notice.sent", f"A test went through {channel}.", "info", data)
    return Fact(
        "notice.failed",
        f"A test of {channel} failed: {mask(sent.error)}",
        "warning",
        {**data, "error": mask(sent.error)},
    )


def _tell_without_journal(context: Context, settings: Settings, chosen: NoticeSettings, error: HoldfastError) -> None:
    """The journal is what all else is told from: that it is away is told past it, and once in ``repeat``."""
    folder = context.paths.state / "status"
    attention = load(folder)
    now = context.clock.now_ns()
    if attention.told_ns and now - attention.told_ns < int((chosen.repeat or 86_400) * SECOND):
        return
    outcomes = context.recorder.outcomes
    bad = sum(outcome != "ok" for outcome in outcomes)
    text = f"{error.message}. Until it is back nobody can be told of what goes wrong."
    if outcomes:
        text += (
            " The command that found this out did its own work well."
            if not bad
            else f" Of the {len(outcomes)} runs of the command that found this out, {bad} did not end well."
        )
    message = Message(
        context.random(6).hex(),
        f"Holdfast on {hostname()} cannot use its journal",
        mask(f"{text}\n{error.hint}"),
        "critical",
        "raised",
        hostname(),
        time_text(now),
    )
    reached = 0
    for line in lines(context, settings).values():
        opened = line.open()
        reached += isinstance(opened, ChannelSpec) and send_apart(opened, message).ok
    if reached:
        with suppress(OSError):
            save(folder, replace(attention, told_ns=now))
