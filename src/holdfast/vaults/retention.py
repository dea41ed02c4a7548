"""Which snapshots to keep: a pure function from snapshots and a policy to a plan that says why for each of them.

The rules are those of ``restic forget`` (0.18), found out by experiment and held to by
``tests/interop/test_forget_restic.py``. Each snapshot counts in the time zone that it was made in: its own date, hour
and ISO week.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import field
from functools import lru_cache

from holdfast.kernel.values import dataclass
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.holds import hold_of, in_words
from holdfast.vaults.tags import is_older

UNLIMITED = -1
GROUPS = ("host", "paths", "tags")
FUTURE_SECONDS = 600
"""How far a snapshot's time may be ahead of the clock: clocks of several machines differ by less, if they are set."""

NOT_NAMED = "not named"
LocalOffset = Callable[[int], int]
"""Seconds east of UTC of local time at an instant (nanoseconds since 1970 UTC)."""

_SECOND = 1_000_000_000
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_BEFORE_ALL = -(1 << 80)  # nanoseconds; the year 0 is about -(1 << 66)


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time as calendars have it: ``1y5m7d2h``."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def __bool__(self) -> bool:
        return bool(self.years or self.months or self.days or self.hours)

    def __str__(self) -> str:
        parts = ((self.years, "y"), (self.months, "m"), (self.days, "d"), (self.hours, "h"))
        return "".join(f"{count}{unit}" for count, unit in parts if count)


@dataclass(frozen=True, slots=True)
class Policy:
    """What to keep of each group. Counts of 0 and empty spans say nothing; :data:`UNLIMITED` keeps every one of a kind.

    ``tags`` keeps what has all tags of any of these lists; the list ``("",)`` means snapshots without tags.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Span = Span()
    within_hourly: Span = Span()
    within_daily: Span = Span()
    within_weekly: Span = Span()
    within_monthly: Span = Span()
    within_yearly: Span = Span()
    tags: tuple[tuple[str, ...], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said about what to keep."""
        return self == Policy()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One snapshot and the rules that keep it, in words; none: it goes."""

    snapshot: SnapshotInfo
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Snapshots that a policy looks at together, oldest first; ``common`` is what they share, as (name, value)."""

    common: tuple[tuple[str, str], ...]
    verdicts: tuple[Verdict, ...]

    @property
    def keep(self) -> list[Verdict]:
        """What stays."""
        return [verdict for verdict in self.verdicts if verdict.reasons]

    @property
    def remove(self) -> list[SnapshotInfo]:
        """What goes."""
        return [verdict.snapshot for verdict in self.verdicts if not verdict.reasons]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a forget will do. ``leftovers`` go as well: a tag change that died left them beside their new versions."""

    groups: tuple[Group, ...]
    leftovers: tuple[SnapshotInfo, ...] = ()

    @property
    def remove(self) -> list[SnapshotInfo]:
        """Everything that goes, oldest first within each group."""
        return [*self.leftovers, *(snapshot for group in self.groups for snapshot in group.remove)]

    @property
    def emptied(self) -> list[Group]:
        """The groups of which nothing would be left."""
        return [group for group in self.groups if group.verdicts and not group.keep]


@dataclass(slots=True)
class _Bucket:
    """A rule that keeps the newest snapshot of each hour, day, ...: of the last so many, or of all after an instant."""

    reason: str
    key: Callable[[str], object] | None
    left: int = UNLIMITED
    after_ns: int | None = None
    last: object = field(default=None)

    def keeps(self, snapshot: SnapshotInfo, *, is_oldest: bool) -> str:
        """The reason in words, empty if this rule does not keep ``snapshot``; the newest must be asked about first."""
        if self.left == 0 or (self.after_ns is not None and snapshot.time_ns <= self.after_ns):
            return ""
        key = object() if self.key is None else self.key(snapshot.time)
        if key == self.last:
            # The start of a history is worth keeping where the rule had room for more.
            return f"oldest {self.reason}" if is_oldest else ""
        self.last = key
        if self.left > 0:
            self.left -= 1
        return self.reason


def plan(
    snapshots: Iterable[SnapshotInfo],
    policy: Policy,
    *,
    now_ns: int,
    local_offset: LocalOffset,
    group_by: Sequence[str] = ("host", "paths"),
) -> Plan:
    """What ``policy`` keeps of ``snapshots`` (in any order), and what a hold keeps besides.

    Whoever carries it out asks :attr:`Plan.emptied` and :func:`ahead_of_time` first. ``group_by`` holds words of
    :data:`GROUPS`. An empty policy keeps everything.
    """
    everything = list(snapshots)
    this_day = today(now_ns, local_offset)
    leftovers = _leftovers(everything, this_day)
    gone = {snapshot.id for snapshot in leftovers}
    groups = []
    for common, members in _grouped((s for s in everything if s.id not in gone), group_by):
        reasons = _apply(members, policy, now_ns, local_offset)
        groups.append(Group(common, tuple(map(_verdict, members, reasons, [this_day] * len(members)))))
    return Plan(tuple(groups), tuple(leftovers))


def plan_named(
    snapshots: Iterable[SnapshotInfo],
    named: Collection[bytes],
    *,
    now_ns: int,
    local_offset: LocalOffset,
    group_by: Sequence[str] = ("host", "paths"),
) -> Plan:
    """The plan to remove the snapshots with these ids and no others; what is held stays."""
    this_day = today(now_ns, local_offset)
    return Plan(
        tuple(
            Group(common, tuple(_verdict(s, () if s.id in named else (NOT_NAMED,), this_day) for s in members))
            for common, members in _grouped(snapshots, group_by)
        )
    )


def ahead_of_time(snapshots: Iterable[SnapshotInfo], now_ns: int) -> list[SnapshotInfo]:
    """Those that lie in the future: then either they or the clock are wrong, and so would be what a policy keeps."""
    limit = now_ns + FUTURE_SECONDS * _SECOND
    return [snapshot for snapshot in snapshots if snapshot.time_ns > limit]


def held_until(snapshot: SnapshotInfo, now_ns: int, local_offset: LocalOffset) -> str | None:
    """What holds ``snapshot`` now: a date, "until it is released", or None."""
    return hold_of(snapshot.tags, today(now_ns, local_offset))


def _verdict(snapshot: SnapshotInfo, reasons: Sequence[str], day: str) -> Verdict:
    hold = hold_of(snapshot.tags, day)
    if hold is None:
        return Verdict(snapshot, tuple(reasons))
    return Verdict(snapshot, (*reasons, in_words(hold)))


def today(now_ns: int, local_offset: LocalOffset) -> str:
    """The date in local time, as ISO text: what holds are compared with."""
    days = (now_ns // _SECOND + local_offset(now_ns)) // 86_400
    return datetime.date.fromordinal(_EPOCH + days).isoformat()


def _grouped(
    snapshots: Iterable[SnapshotInfo], group_by: Sequence[str]
) -> list[tuple[tuple[tuple[str, str], ...], list[SnapshotInfo]]]:
    groups: dict[tuple[tuple[str, ...], ...], list[SnapshotInfo]] = {}
    for snapshot in sorted(snapshots, key=lambda s: (s.time_ns, s.id)):
        groups.setdefault(tuple([_value(snapshot, name) for name in group_by]), []).append(snapshot)
    return [
        (tuple((name, ", ".join(value)) for name, value in zip(group_by, key, strict=True)), members)
        for key, members in groups.items()
    ]


def _value(snapshot: SnapshotInfo, name: str) -> tuple[str, ...]:
    if name == "host":
        return (snapshot.hostname,)
    return tuple(sorted(snapshot.paths if name == "paths" else snapshot.tags))


def _leftovers(snapshots: Sequence[SnapshotInfo], day: str) -> list[SnapshotInfo]:
    """Snapshots whose rewritten version is there too: the change of tags died before it removed the old one.

    One that is held stays until whoever changed it runs that command again.
    """
    known: dict[bytes, SnapshotInfo] = {snapshot.id: snapshot for snapshot in snapshots}
    found: dict[bytes, SnapshotInfo] = {}
    for new in snapshots:
        old = known.get(new.original) if new.original is not None else None
        if old is not None and is_older(old, new) and hold_of(old.tags, day) is None:
            found[old.id] = old
    return list(found.values())


# -- the rules -------------------------------------------------------------------------------------------------------


def _apply(
    members: Sequence[SnapshotInfo], policy: Policy, now_ns: int, local_offset: LocalOffset
) -> list[tuple[str, ...]]:
    """For each of ``members`` (oldest first) why the policy keeps it."""
    if policy.is_empty:
        return [("no policy",)] * len(members)
    latest = max((s for s in members if s.time_ns < now_ns), key=lambda s: s.time_ns, default=None)
    buckets = _buckets(policy, latest, local_offset)
    tag_rules = [(frozenset(tags) - {""}, f"has tags [{', '.join(tags)}]") for tags in policy.tags]
    within = _cutoff(latest, policy.within, local_offset)
    found: list[tuple[str, ...]] = []
    for place in range(len(members) - 1, -1, -1):
        snapshot = members[place]
        tags = frozenset(snapshot.tags)
        reasons = [words for wanted, words in tag_rules if (wanted <= tags if wanted else not tags)]
        if policy.within and snapshot.time_ns > within:
            reasons.append(f"within {policy.within}")
        for bucket in buckets:
            if reason := bucket.keeps(snapshot, is_oldest=place == 0):
                reasons.append(reason)
        found.append(tuple(reasons))
    return found[::-1]


def _buckets(policy: Policy, latest: SnapshotInfo | None, local_offset: LocalOffset) -> list[_Bucket]:
    counted = (
        ("last", None, policy.last),
        ("hourly", _hour, policy.hourly),
        ("daily", _day, policy.daily),
        ("weekly", _week, policy.weekly),
        ("monthly", _month, policy.monthly),
        ("yearly", _year, policy.yearly),
    )
    recent = (
        ("hourly", _hour, policy.within_hourly),
        ("daily", _day, policy.within_daily),
        ("weekly", _week, policy.within_weekly),
        ("monthly", _month, policy.within_monthly),
        ("yearly", _year, policy.within_yearly),
    )
    found = [_Bucket(f"{name} snapshot", key, left=count) for name, key, count in counted if count]
    return found + [
        _Bucket(f"{name} within {span}", key, after_ns=_cutoff(latest, span, local_offset))
        for name, key, span in recent
        if span
    ]


def _hour(time: str) -> object:
    return time[:10], time[11:13]


def _day(time: str) -> object:
    return time[:10]


@lru_cache(maxsize=4096)
def _iso_week(day: str) -> object:
    # Python's dates begin with the year 1; the calendar repeats itself, weeks included, after 400 years.
    return datetime.date(
        int(day[:4]) + 400 if day < "0001" else int(day[:4]), int(day[5:7]), int(day[8:])
    ).isocalendar()[:2]


def _week(time: str) -> object:
    return _iso_week(time[:10])


def _month(time: str) -> object:
    return time[:7]


def _year(time: str) -> object:
    return time[:4]


def _cutoff(latest: SnapshotInfo | None, span: Span, local_offset: LocalOffset) -> int:
    """The instant ``span`` before ``latest``, in nanoseconds since 1970; what is later than that is within it.

    Years, months and days are counted on the calendar of the zone of ``latest``: a day that the month does not have is
    one of the next month (31 March less a month is 3 March). A zone is known by its offset only; where that is the
    offset of local time at that instant, it is taken for the local zone with its summer time, as restic does.
    """
    if latest is None or latest.time < "0001-01-02":
        return _BEFORE_ALL
    text, seconds = latest.time, latest.time_ns // _SECOND
    zone = 0 if text[-1] in "Zz" else (int(text[-5:-3]) * 3600 + int(text[-2:]) * 60) * (-1 if text[-6] == "-" else 1)
    days, of_day = divmod(seconds + zone, 86_400)
    date = datetime.date.fromordinal(_EPOCH + days)
    year, month = divmod((date.year - span.years) * 12 + date.month - 1 - span.months, 12)
    if not 1 <= year <= 9999:
        return _BEFORE_ALL
    first = datetime.date(year, month + 1, 1).toordinal() - _EPOCH
    wall = (first + date.day - 1 - span.days) * 86_400 + of_day
    if text[-1] not in "Zz" and local_offset(latest.time_ns) == zone:
        zone = _offset_of_wall(wall, local_offset)
    return (wall - zone - span.hours * 3600) * _SECOND + latest.time_ns % _SECOND


def _offset_of_wall(wall: int, local_offset: LocalOffset) -> int:
    """The local zone's offset at the wall clock time ``wall`` (seconds as if it were UTC), as Go's time.Date has it."""
    offset = local_offset(wall * _SECOND)
    return local_offset((wall - offset) * _SECOND) if offset else 0
