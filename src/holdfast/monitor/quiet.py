"""Quiet hours in local time, whatever the clocks do in spring and autumn."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.monitor.notice import SECOND, Quiet

MINUTE = 60 * SECOND
_LONGEST = 49 * 60
"""No hours of a day are quiet for longer than two days, however the clocks are set."""


def is_quiet(quiet: Quiet, at_ns: int, offset: Callable[[int], int]) -> bool:
    """Whether the local time at ``at_ns`` is within the quiet hours."""
    minute = (at_ns // SECOND + offset(at_ns)) // 60 % 1440
    if quiet.begin <= quiet.end:
        return quiet.begin <= minute < quiet.end
    return minute >= quiet.begin or minute < quiet.end


def first_loud(quiet: Quiet, at_ns: int, offset: Callable[[int], int]) -> int:
    """The first instant from ``at_ns`` on at which it is not quiet: itself, or a full minute.

    Looked for minute by minute (at most 2,940 calls of ``offset``, 2 ms): an hour that local time skips or repeats then
    needs no rule of its own.
    """
    if not is_quiet(quiet, at_ns, offset):
        return at_ns
    start = at_ns - at_ns % MINUTE
    for count in range(1, _LONGEST):
        later = start + count * MINUTE
        if not is_quiet(quiet, later, offset):
            return later
    return at_ns  # quiet all day: then nothing would ever be told


def minutes(text: str) -> tuple[int, int]:
    """``22:00-07:00`` as minutes of the day. Raises ``ValueError`` with the rule."""
    ends = [end.strip().split(":") for end in text.split("-")]
    if len(ends) == 2 and all(len(end) == 2 and all(part.isascii() and part.isdigit() for part in end) for end in ends):
        (first_hour, first_minute), (last_hour, last_minute) = ((int(hour), int(minute)) for hour, minute in ends)
        begin, end = first_hour * 60 + first_minute, last_hour * 60 + last_minute
        if max(first_minute, last_minute) < 60 and begin < 1440 and end <= 1440 and begin != end % 1440:
            return begin, end % 1440
    raise ValueError("two times of the day are wanted, such as 22:00-07:00")
