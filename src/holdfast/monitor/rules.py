"""Pure: facts and open notices in, decisions out. When people are told what, told again, and told that it is over.

At most one notice of a rule and a subject is open. It is told when it begins, when it gets worse, again every
``repeat`` until it is over or acknowledged, to more people if nobody acknowledges it, and when it is over. Nothing here
looks at a clock, a file or a network: the same input gives the same decisions, so that a process that is killed can be
followed by another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from holdfast.monitor.notice import (
    SECOND,
    Decisions,
    Expectation,
    Notice,
    NoticeSettings,
    Observation,
    Step,
    Tell,
    notice_id,
    rank,
)
from holdfast.monitor.observing import Observer, Past
from holdfast.monitor.quiet import first_loud
from holdfast.monitor.record import Record


def decide(
    records: Sequence[Record],
    open_notices: Iterable[Notice],
    expectations: Sequence[Expectation],
    now_ns: int,
    settings: NoticeSettings,
    past: Past,
    *,
    overdue: bool = True,
) -> Decisions:
    """What ``records`` (those since the last look, in their order) and the time that went by mean.

    ``expectations`` are all that hold now: a notice ``overdue`` of something that is expected no longer is closed.
    Without ``overdue`` (more facts are to come) nothing is concluded from the time. The steps are to be recorded
    together with how far the records were read, in one transaction.
    """
    book = _Book(open_notices, now_ns, settings)
    explained = frozenset(
        run for notice in book.open.values() for run in (notice.run, str(notice.data.get("parent", ""))) if run
    )
    observer = Observer(settings, past, explained, book.is_told)
    for record in records:
        for observation in observer.observe(record):
            book.take(observation)
    if overdue:
        for observation in _overdue(expectations, book, now_ns, settings):
            book.take(observation)
        book.time_went_by()
    return Decisions(tuple(book.steps), tuple(book.open.values()), _next_look(book, expectations, now_ns, settings))


class _Book:
    """The open notices while they are being changed, and the steps that changed them."""

    def __init__(self, open_notices: Iterable[Notice], now_ns: int, settings: NoticeSettings) -> None:
        self.open = {notice.key: notice for notice in open_notices}
        self.steps: list[Step] = []
        self._now = now_ns
        self._settings = settings

    def take(self, observation: Observation) -> None:
        """Change what ``observation`` changes."""
        notice = self.open.get((observation.rule, observation.subject))
        if observation.state in ("good", "gone", "mended"):
            if notice is not None:
                self._better(notice, observation)
        elif notice is None:
            self._raise(observation)
        else:
            self._again(notice, observation)

    def is_told(self, twin: Mapping[str, Any]) -> bool:
        """Whether everybody who hears of health hears of ``twin`` (see ``monitor.health.Twin``) too: who hears of one
        trouble twice takes the next one for an echo as well."""
        wanted = set(channels_for("health", "", self._settings))
        run, rule = twin.get("run"), twin.get("rule")
        if run:
            about = [each for each in self.open.values() if run in (each.run, each.data.get("parent"))]
            return any(wanted <= set(self._channels(notice)) for notice in about)
        return bool(rule) and wanted <= set(channels_for(str(rule), str(twin.get("plan", "")), self._settings))

    def time_went_by(self) -> None:
        """Repeat, escalate and close what it is time for."""
        for notice in list(self.open.values()):
            if notice.state == "event" and self._now >= notice.updated_ns + _ns(self._settings.settle):
                self._end("closed", notice, self._now)
                continue
            if notice.acknowledged_ns is not None:
                continue
            if (due := escalation_due(notice, self._settings)) is not None and self._now >= due:
                assert self._settings.escalation is not None
                notice = replace(notice, escalated_ns=self._now)
                more = {*self._settings.escalation.to, *self._channels(notice)}
                self._tell("escalated", notice, [name for name in self._settings.channels if name in more])
            elif (due := repeat_due(notice, self._settings)) is not None and self._now >= due:
                self._tell("repeated", notice, self._channels(notice))

    def _raise(self, observation: Observation) -> None:
        notice = Notice(
            notice_id(observation.rule, observation.subject, observation.at_ns),
            observation.rule,
            observation.subject,
            observation.level,
            observation.title,
            observation.message,
            observation.at_ns,
            observation.at_ns,
            observation.state,
            observation.plan,
            observation.run,
            items=observation.items,
            data={**observation.data, **({"channel": observation.channel} if observation.channel else {})},
        )
        self._tell("raised", notice, self._channels(notice))
        if observation.state == "news":
            self._end("closed", self.open[notice.key], observation.at_ns)

    def _again(self, notice: Notice, observation: Observation) -> None:
        worse = rank(observation.level) > rank(notice.level) or bool(set(observation.items) - set(notice.items))
        changed = replace(
            notice,
            level=max(notice.level, observation.level, key=rank),
            title=observation.title,
            message=observation.message,
            updated_ns=max(notice.updated_ns, observation.at_ns),
            times=notice.times + (observation.rule != "overdue"),
            run=observation.run,
            items=tuple(dict.fromkeys((*notice.items, *observation.items))),
            data={**notice.data, **observation.data, **_deepest(notice, observation)},
        )
        if worse:
            # Whoever said "I know" did not know this.
            self._tell("worse", replace(changed, acknowledged_ns=None, acknowledged_by=""), self._channels(changed))
        elif changed != notice:
            self._keep("counted", changed)

    def _better(self, notice: Notice, observation: Observation) -> None:
        deep = bool(notice.data.get("deep"))
        if observation.state == "mended":
            if deep:
                self._keep("counted", replace(notice, data={**notice.data, **observation.data}))
        elif deep and not observation.data.get("deep"):
            return  # it was found by reading what this look did not read
        elif notice.tells and observation.state == "good":
            channels = channels_for("recovered", notice.plan, self._settings, but=str(notice.data.get("channel", "")))
            self._end("resolved", notice, observation.at_ns, channels)
        else:
            self._end("closed", notice, observation.at_ns)

    def _tell(self, action: str, notice: Notice, channels: Sequence[str]) -> None:
        tells = self._tells(notice, channels)
        told = replace(notice, tells=notice.tells + bool(tells), told_ns=self._now, told_times=notice.times)
        self._keep(action, told, tells)

    def _keep(self, action: str, notice: Notice, tells: tuple[Tell, ...] = ()) -> None:
        self.open[notice.key] = notice
        self.steps.append(Step(action, notice, tells))

    def _end(self, action: str, notice: Notice, at_ns: int, channels: Sequence[str] = ()) -> None:
        self.open.pop(notice.key, None)
        ended = replace(notice, resolved_ns=max(at_ns, notice.opened_ns))
        self.steps.append(Step(action, ended, self._tells(replace(notice, level="info"), channels)))

    def _tells(self, notice: Notice, channels: Sequence[str]) -> tuple[Tell, ...]:
        due = when_told(notice.level, self._now, self._settings)
        return tuple(Tell(channel, due) for channel in channels)

    def _channels(self, notice: Notice) -> tuple[str, ...]:
        return channels_for(notice.rule, notice.plan, self._settings, but=str(notice.data.get("channel", "")))


def _deepest(notice: Notice, observation: Observation) -> dict[str, bool]:
    """Of several damages the one that only shows where data is read decides which check ends them all."""
    return {"deep": True} if notice.data.get("deep") or observation.data.get("deep") else {}


def channels_for(rule: str, plan: str, settings: NoticeSettings, *, but: str = "") -> tuple[str, ...]:
    """Who hears of ``rule``, each channel once, in the order of the configuration.

    Without any route everybody hears of every problem and of its end. That the channel ``but`` is broken is told by all
    others, unless a route says by which: a message about it through itself would never arrive.
    """
    if settings.routes:
        # These take the place of the failure that they explain.
        words = {rule, "failed"} if rule in ("damage", "drill", "lock") else {rule}
        wanted = {
            channel
            for route in settings.routes
            if words & route.on and (not route.plans or plan in route.plans)
            for channel in route.to
        }
        if rule == "channel" and not wanted - {but}:
            wanted = set(settings.channels)
    else:
        wanted = set(settings.channels) if rule != "digest" else set()
    return tuple(channel for channel in settings.channels if channel in wanted and channel != but)


def when_told(level: str, now_ns: int, settings: NoticeSettings) -> int:
    """When a message of ``level`` may go out: now, or at the end of the quiet hours."""
    quiet = settings.quiet
    if quiet is None or (level == "critical" and not quiet.hold_critical):
        return now_ns
    return first_loud(quiet, now_ns, settings.offset)


def repeat_due(notice: Notice, settings: NoticeSettings) -> int | None:
    """When ``notice`` is told again, unless it is over by then; None: never. An event only if it happened again."""
    if not settings.repeat or notice.acknowledged_ns is not None:
        return None
    if notice.state == "event" and notice.times == notice.told_times:
        return None
    return notice.told_ns + _ns(settings.repeat)


def escalation_due(notice: Notice, settings: NoticeSettings) -> int | None:
    """When more people are told of ``notice``, unless somebody acknowledges it before; None: never (again)."""
    escalation = settings.escalation
    if escalation is None or notice.acknowledged_ns is not None or notice.escalated_ns is not None:
        return None
    if rank(notice.level) < rank(escalation.level):
        return None
    return notice.opened_ns + _ns(escalation.after)


def _overdue(
    expectations: Sequence[Expectation], book: _Book, now_ns: int, settings: NoticeSettings
) -> Iterator[Observation]:
    source = settings.source
    rule_of = {"backup": "overdue", "drill": "drill"}
    expected = {(rule_of[each.kind], f"overdue/{each.subject}") for each in expectations}
    for notice in list(book.open.values()):
        own = notice.data.get("source", source) == source  # what another configuration expects is not ours to close
        if own and notice.subject.startswith("overdue/") and notice.key not in expected:
            yield Observation(notice.rule, notice.subject, now_ns, "gone", plan=notice.plan)
    for each in expectations:
        rule, subject = rule_of[each.kind], f"overdue/{each.subject}"
        if now_ns <= each.since_ns + _ns(each.every):
            yield Observation(rule, subject, each.since_ns, "good", plan=each.plan)
            continue
        noun = {"backup": "snapshot", "drill": "drill"}[each.kind]
        where = f" in {each.vault}" if each.vault else ""
        age = duration_text((now_ns - each.since_ns) / SECOND)
        since = local_text(each.since_ns, settings.offset)
        last = f"The last is of {since} ({age} ago)"
        if each.never:
            last = f"There was none since {since}, when the plan was first seen"
        hint = "Does its schedule still run? 'holdfast health' looks."
        message = f"{last}; one every {duration_text(each.every)} is expected. {hint}"
        title = f"No new {noun} of {each.plan}{where} for {age}"
        at_ns = each.since_ns + _ns(each.every)
        yield Observation(rule, subject, at_ns, "bad", "error", title, message, each.plan, data={"source": source})


def _next_look(book: _Book, expectations: Sequence[Expectation], now_ns: int, settings: NoticeSettings) -> int | None:
    times = [each.since_ns + _ns(each.every) + 1 for each in expectations]
    for notice in book.open.values():
        times += [due for due in (repeat_due(notice, settings), escalation_due(notice, settings)) if due is not None]
        if notice.state == "event":
            times.append(notice.updated_ns + _ns(settings.settle))
    return min((time for time in times if time > now_ns), default=None)


def duration_text(seconds: float) -> str:
    """``26 h``, ``3 days``: about how long, for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 3 * 86_400:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.0f} days"


def local_text(at_ns: int, offset: Callable[[int], int]) -> str:
    """``2026-11-22 05:30 +01:00``: the time on the wall, to the minute, and where that is."""
    away = offset(at_ns)
    at = time.gmtime(at_ns // SECOND + away)
    sign, minutes = "+" if away >= 0 else "-", abs(away) // 60
    return f"{time.strftime('%Y-%m-%d %H:%M', at)} {sign}{minutes // 60:02d}:{minutes % 60:02d}"


def _ns(seconds: float) -> int:
    return int(seconds * SECOND)
