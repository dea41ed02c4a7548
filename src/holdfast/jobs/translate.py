"""Cron's expressions in the words of systemd's timers and of launchd. Exactly, or not at all. Pure."""

from __future__ import annotations

from itertools import product

from holdfast.jobs.schedule import Times, times
from holdfast.kernel.errors import Unsupported

_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_MOST_INTERVALS = 400
"""launchd takes a list of single moments. One of several thousand is nothing that anybody would read again."""


def on_calendar(expression: str) -> tuple[str, ...]:
    """The ``OnCalendar=`` values whose union is ``expression`` (systemd.time(7)). Raises ``Unsupported``."""
    found = times(expression)
    clock = f"{_list(found.hours, 24)}:{_list(found.minutes, 60)}:00"
    months = _list(found.months, 12)
    every_weekday = len(found.weekdays) == 7
    days = _names(found)
    dates = [f"*-{months}-{_list(found.days, 31)}"] if found.days else []
    dates += [f"*-{months}~01"] if found.last_day else []
    if found.either_day:
        return (f"{days}*-{months}-* {clock}", *(f"{date} {clock}" for date in dates))
    return tuple(f"{'' if every_weekday else days}{date} {clock}" for date in dates)


def calendar_intervals(expression: str) -> list[dict[str, int]]:
    """The ``StartCalendarInterval`` of ``expression`` (launchd.plist(5)); what is missing in one means any.

    Raises ``Unsupported`` for the last day of a month, for a date that has to be a certain weekday too (launchd takes
    either), and for more than 400 single moments.
    """
    found = times(expression)
    if found.last_day:
        raise _no(expression, "it does not know the last day of a month")
    every_day, every_weekday = len(found.days) == 31, len(found.weekdays) == 7
    choices: list[list[tuple[tuple[str, int], ...]]] = [
        _choices("Minute", found.minutes, 60),
        _choices("Hour", found.hours, 24),
        _choices("Month", found.months, 12),
    ]
    days, weekdays = _choices("Day", found.days, 31), _choices("Weekday", found.weekdays, 7)
    if found.either_day:
        choices.append([*days, *weekdays] if not (every_day or every_weekday) else [()])
    elif every_weekday:
        choices.append(days)
    elif every_day:
        choices.append(weekdays)
    else:
        raise _no(expression, "it cannot ask for a date and a weekday at once")
    intervals = [dict(sum(chosen, ())) for chosen in product(*choices)]
    if len(intervals) > _MOST_INTERVALS:
        raise _no(expression, f"it would have to be told as {len(intervals):,} single times")
    return intervals


def _no(expression: str, why: str) -> Unsupported:
    return Unsupported(
        f"launchd cannot start anything at '{expression}': {why}", hint="Write the schedule in a simpler way."
    )


def _choices(word: str, values: frozenset[int], of: int) -> list[tuple[tuple[str, int], ...]]:
    return [()] if len(values) == of else [((word, value),) for value in sorted(values)]


def _names(found: Times) -> str:
    return ",".join(_WEEKDAYS[day] for day in sorted(found.weekdays)) + " "


def _list(values: frozenset[int], of: int) -> str:
    return "*" if len(values) == of else ",".join(f"{value:02d}" for value in sorted(values))
