"""When a vault will be full: a robust line through what was free after each of the last backups."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from holdfast.kernel.values import dataclass

DAY_NS = 86_400 * 10**9
WINDOW_DAYS = 60
"""What is older tells more of how it once was than of how it goes on."""
LEAST_DAYS = 3
_SAME_DISK = 0.02


@dataclass(frozen=True, slots=True)
class Space:
    """What was free, and how large the disk was, at one instant (bytes)."""

    at_ns: int
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """``per_day`` bytes of free space go each day (negative: it grows); it is full at ``full_ns``, None for never (or
    not within 100 years)."""

    per_day: float
    full_ns: int | None

    def days_left(self, now_ns: int) -> float | None:
        """Days from ``now_ns`` until it is full."""
        return None if self.full_ns is None else (self.full_ns - now_ns) / DAY_NS


def forecast(points: Sequence[Space], now_ns: int) -> Forecast | None:
    """The Theil-Sen slope (the median of the slopes between all pairs of points): a prune or one large file, up to
    about 29 % of outliers, does not bend it. None with too little to go on: fewer than four days with a figure, or all
    within three days.

    Of each day the last figure counts, and of the disk only since its size is what it is now.
    """
    daily = daily_last([point for point in points if now_ns - WINDOW_DAYS * DAY_NS <= point.at_ns <= now_ns])
    if daily:
        total = daily[-1].total
        grown = [i for i, point in enumerate(daily) if abs(point.total - total) > _SAME_DISK * total]
        daily = daily[grown[-1] + 1 :] if grown else daily
    if len(daily) < LEAST_DAYS + 1 or daily[-1].at_ns - daily[0].at_ns < LEAST_DAYS * DAY_NS:
        return None
    slopes = [
        (one.free - other.free) / ((other.at_ns - one.at_ns) / DAY_NS)
        for place, one in enumerate(daily)
        for other in daily[place + 1 :]
        if other.at_ns > one.at_ns
    ]
    per_day = median(slopes)
    last = daily[-1]
    if per_day <= 0 or last.free / per_day > 36_500:
        return Forecast(per_day, None)
    return Forecast(per_day, last.at_ns + int(last.free / per_day * DAY_NS))


def daily_last(points: Sequence[Space]) -> list[Space]:
    """The last figure of each (UTC) day, oldest first."""
    days: dict[int, Space] = {}
    for point in sorted(points, key=lambda point: point.at_ns):
        days[point.at_ns // DAY_NS] = point
    return list(days.values())
