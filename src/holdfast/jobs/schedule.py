"""When a schedule fires: cron's expressions in local time, across changes of the clocks. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from holdfast.kernel.values import dataclass

SECOND = 1_000_000_000
SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_EPOCH = datetime(1970, 1, 1)


class LocalZone(tzinfo):
    """Local time as ``offset(instant in ns) -> seconds east of UTC`` tells it.

    Of a wall time that comes twice the first is meant unless ``fold`` is 1, and a wall time that never comes is read
    with the offset from before the gap (PEP 495).
    """

    def __init__(self, offset: Callable[[int], int]) -> None:
        self._offset = offset

    def _at(self, instant: int) -> int:
        return self._offset(instant * SECOND)

    def utcoffset(self, dt: datetime | None) -> timedelta:
        if dt is None:
            return timedelta(0)
        wall = int((dt.replace(tzinfo=None) - _EPOCH) / timedelta(seconds=1))
        # No zone changes its offset twice within two days: these are the offsets on either side of ``dt``.
        before, after = self._at(wall - 86_400 - self._at(wall - 86_400)), self._at(wall + 86_400)
        first, second = wall - before, wall - after
        if before == after:
            return timedelta(seconds=before)
        right = [(offset) for instant, offset in ((first, before), (second, after)) if self._at(instant) == offset]
        if len(right) == 1:
            return timedelta(seconds=right[0])
        return timedelta(seconds=after if dt.fold else before)

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str:
        return "local"

    def fromutc(self, dt: datetime) -> datetime:
        instant = int((dt.replace(tzinfo=None) - _EPOCH) / timedelta(seconds=1))
        offset = self._at(instant)
        local = dt + timedelta(seconds=offset)
        first = local.replace(fold=0)
        return first if self.utcoffset(first) == timedelta(seconds=offset) else local.replace(fold=1)


@dataclass(frozen=True, slots=True)
class Times:
    """A cron expression as sets of numbers (Sunday is 0). ``last_day``: also the last day of a month.

    ``either_day``: a day counts if its date *or* its weekday fits, as cron has it where neither begins with a star;
    else both have to fit.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    last_day: bool
    either_day: bool


def expand(expression: str) -> str:
    """``@daily`` and its like as five fields; what has five fields stays as it is."""
    return SHORTHANDS.get(expression.strip(), " ".join(expression.split()))


def numeric(expression: str) -> str:
    """The same without names of months and days, which not every cron understands everywhere."""
    fields = expand(expression).lower().split()
    for number, name in enumerate(_MONTHS, 1):
        fields[3] = fields[3].replace(name, str(number))
    for number, name in enumerate(_DAYS):
        fields[4] = fields[4].replace(name, str(number))
    return " ".join(field.upper() for field in fields)


def times(expression: str) -> Times:
    """What ``expression`` says, which the configuration has checked. Raises ``ValueError`` where it says nothing."""
    fields = numeric(expression).split()
    if len(fields) != 5:
        raise ValueError(f"a schedule has five fields, and not {len(fields)}")
    minute, hour, day, month, weekday = fields
    days, last = _dates(day)
    return Times(
        minutes=_values(minute, 0, 59),
        hours=_values(hour, 0, 23),
        days=days,
        months=_values(month, 1, 12),
        weekdays=frozenset(value % 7 for value in _values(weekday, 0, 7)),
        last_day=last,
        either_day=not (day.startswith("*") or weekday.startswith("*")),
    )


def _dates(field: str) -> tuple[frozenset[int], bool]:
    items = [item for item in field.split(",") if item != "L"]
    days = frozenset[int]().union(*(_values(item, 1, 31) for item in items))
    return days, len(items) < len(field.split(","))


def _values(field: str, lowest: int, highest: int) -> frozenset[int]:
    found: set[int] = set()
    for item in field.split(","):
        values, _, step = item.partition("/")
        first, dash, last = values.partition("-")
        span = range(lowest, highest + 1) if values == "*" else range(int(first), int(last if dash else first) + 1)
        found.update(span[:: int(step or 1)])
    return frozenset(found)


def fires(expression: str, after_ns: int, zone: tzinfo) -> Iterator[int]:
    """The instants (ns) strictly after ``after_ns`` at which ``expression`` fires, in order; none if it never does.

    At a change of the clocks it is as with Debian's cron: what is due at a fixed time that is skipped fires right
    after the gap, what is due at a time that comes twice fires the first time; what is due every so often goes by the
    time that really passes.
    """
    from cronsim import CronSim, CronSimError

    start = datetime.fromtimestamp(after_ns // SECOND, UTC).astimezone(zone)
    try:
        found = CronSim(_spelled(expression), start)
    except CronSimError:
        return
    latest = after_ns
    for moment in found:
        instant = int(moment.timestamp()) * SECOND
        if instant > latest:  # where a skipped time moves onto the next one, they are one
            latest = instant
            yield instant


def _spelled(expression: str) -> str:
    """The same with every value named that has no star: cronsim takes ``5-5/2`` for ``5-59/2``."""
    fields = []
    ends = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    for field, (lowest, highest) in zip(numeric(expression).split(), ends, strict=True):
        items = field.split(",")
        kept = [item for item in items if item.startswith("*") or item == "L"]
        found = frozenset[int]().union(*(_values(item, lowest, highest) for item in items if item not in kept))
        values = [str(value) for value in sorted(found)]
        # Whether the whole begins with a star tells how dates and weekdays combine.
        fields.append(",".join([*kept, *values] if field.startswith("*") else [*values, *kept]))
    return " ".join(fields)


def next_fire(expression: str, after_ns: int, zone: tzinfo) -> int | None:
    """The first of :func:`fires`."""
    return next(fires(expression, after_ns, zone), None)


def is_missed(expression: str, last_ns: int, now_ns: int, zone: tzinfo, grace_ns: int = 0) -> bool:
    """Whether it should have fired since it last did at ``last_ns``, by more than ``grace_ns`` ago."""
    due = next_fire(expression, last_ns, zone)
    return due is not None and due + grace_ns <= now_ns


def delay(name: str, host: str, most_seconds: int) -> int:
    """Seconds to wait, from 0 to ``most_seconds``: always the same for this name on this host, others elsewhere."""
    digest = hashlib.sha256(f"{host}\0{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % (most_seconds + 1)
