"""When schedules fire, in local time and across changes of the clocks, and cron's words in those of others."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.jobs.schedule import LocalZone, delay, fires, is_missed, next_fire, numeric, times
from holdfast.jobs.translate import calendar_intervals, on_calendar
from holdfast.kernel.errors import Unsupported

NS = 1_000_000_000
SPRING = int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp())
AUTUMN = int(datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp())


def berlin(instant_ns: int) -> int:
    """Germany's offset in 2026: summer time from 29 March to 25 October, at 01:00 UTC each."""
    return 7200 if SPRING <= instant_ns // NS < AUTUMN else 3600


ZONE = LocalZone(berlin)
PLAIN = LocalZone(lambda _instant: 0)


def ns(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * NS  # type: ignore[misc]


def after(expression: str, start: int, count: int, zone: LocalZone = ZONE) -> list[str]:
    found = fires(expression, start, zone)
    return [datetime.fromtimestamp(next(found) // NS, UTC).astimezone(zone).strftime("%d %H:%M") for _ in range(count)]


def test_local_time_and_back_is_the_same_at_every_half_hour_around_the_changes() -> None:
    for middle in (SPRING, AUTUMN):
        for instant in range(middle - 200_000, middle + 200_000, 1800):
            local = datetime.fromtimestamp(instant, UTC).astimezone(ZONE)
            assert local.replace(tzinfo=None) == datetime(1970, 1, 1) + timedelta(
                seconds=instant + berlin(instant * NS)
            )
            assert int(local.timestamp()) == instant


def test_a_time_that_the_clocks_skip_comes_right_after_the_gap_and_once() -> None:
    assert after("30 2 * * *", ns(2026, 3, 27, 12), 4) == ["28 02:30", "29 03:00", "30 02:30", "31 02:30"]


def test_a_time_that_comes_twice_counts_the_first_time() -> None:
    assert after("30 2 * * *", ns(2026, 10, 24, 12), 2) == ["25 02:30", "26 02:30"]
    first = next_fire("30 2 * * *", ns(2026, 10, 24, 12), ZONE)
    assert first == ns(2026, 10, 25, 0, 30)


def test_what_comes_every_so_often_goes_by_the_time_that_passes() -> None:
    found = fires("*/30 * * * *", ns(2026, 10, 24, 23, 45), ZONE)
    assert [next(found) for _ in range(6)] == [ns(2026, 10, 25, 0, 0) + step * 1800 * NS for step in range(6)]
    found = fires("*/30 * * * *", ns(2026, 3, 29, 0, 15), ZONE)
    assert [next(found) for _ in range(3)] == [ns(2026, 3, 29, 0, 30) + step * 1800 * NS for step in range(3)]


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("@daily", ["23 00:00", "24 00:00"]),
        ("@weekly", ["29 00:00", "06 00:00"]),
        ("0 5 1 * *", ["01 05:00", "01 05:00"]),
        ("0 0 13 * 5", ["27 00:00", "04 00:00"]),
        ("0 4 L * *", ["30 04:00", "31 04:00"]),
        ("15 10 * dec mon-fri", ["01 10:15", "02 10:15"]),
    ],
)
def test_words_ranges_and_the_last_day(expression: str, wanted: list[str]) -> None:
    assert after(expression, ns(2026, 11, 22, 4), 2) == wanted


def test_what_never_comes_has_no_next() -> None:
    assert next_fire("0 0 31 2 *", ns(2026, 1, 1), PLAIN) is None
    assert not is_missed("0 0 31 2 *", 0, ns(2026, 1, 1), PLAIN)


def test_missed_is_what_should_have_fired_since_and_is_late_enough() -> None:
    last, due = ns(2026, 11, 21, 2, 10), ns(2026, 11, 22, 2, 10)
    assert not is_missed("10 2 * * *", last, due - NS, PLAIN)
    assert is_missed("10 2 * * *", last, due, PLAIN)
    assert not is_missed("10 2 * * *", last, due + 599 * NS, PLAIN, 600 * NS)
    assert is_missed("10 2 * * *", last, due + 600 * NS, PLAIN, 600 * NS)


def test_the_delay_is_the_same_every_time_and_differs_from_host_to_host() -> None:
    assert delay("backup:a", "one", 600) == delay("backup:a", "one", 600)
    assert len({delay("backup:a", f"host{number}", 600) for number in range(50)}) > 30
    assert {delay("a", str(number), 0) for number in range(9)} == {0}


def test_names_become_numbers() -> None:
    assert numeric("0 4 l JAN,mar sun") == "0 4 L 1,3 0"
    assert times("0 0 * * 7").weekdays == {0}


# --- in the words of others -------------------------------------------------------------------------------------------


def _field(lowest: int, highest: int) -> st.SearchStrategy[str]:
    one = st.integers(lowest, highest)
    span = st.tuples(one, one).map(lambda ends: f"{min(ends)}-{max(ends)}")
    step = st.tuples(span | st.just("*"), st.integers(1, 20)).map(lambda parts: f"{parts[0]}/{parts[1]}")
    return st.just("*") | st.lists(one.map(str) | span | step, min_size=1, max_size=3).map(",".join)


EXPRESSIONS = st.tuples(_field(0, 59), _field(0, 23), _field(1, 31), _field(1, 12), _field(0, 7)).map(" ".join)


def _calendar_fits(value: str, moment: datetime) -> bool:
    """Whether ``moment`` is one of the moments of a systemd calendar event in the form that is written here."""
    found = re.fullmatch(r"(?:([A-Za-z,]+) )?\*-([\d*,]+)([-~])([\d*,]+) ([\d*,]+):([\d*,]+):00", value)
    assert found is not None, value
    names, month, sign, day, hour, minute = found.groups()

    def fits(field: str, number: int) -> bool:
        return field == "*" or number in map(int, field.split(","))

    if names is not None and moment.strftime("%a") not in names.split(","):
        return False
    if sign == "~":
        last = (moment.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        return (
            fits(month, moment.month)
            and moment.day == last.day
            and fits(hour, moment.hour)
            and fits(minute, moment.minute)
        )
    pairs = ((month, moment.month), (day, moment.day), (hour, moment.hour), (minute, moment.minute))
    return all(fits(field, number) for field, number in pairs)


def _interval_fits(interval: dict[str, int], moment: datetime) -> bool:
    now = {
        "Minute": moment.minute,
        "Hour": moment.hour,
        "Day": moment.day,
        "Month": moment.month,
        "Weekday": moment.isoweekday() % 7,
    }
    return all(now[key] == value for key, value in interval.items())


def _moments(expression: str) -> list[tuple[datetime, bool]]:
    """Some moments, with whether the expression fires at each, as cronsim has it."""
    start = ns(2026, 1, 30, 13, 7)
    found = fires(expression, start, PLAIN)
    at = [instant for instant, _ in zip(found, range(15), strict=False)]
    moments = dict.fromkeys(at, True)
    for instant in at:
        for other in (60, 3600, 86_400, 31 * 86_400):
            near = instant + other * NS
            moments.setdefault(near, next_fire(expression, near - NS, PLAIN) == near)
    return [(datetime.fromtimestamp(instant // NS, UTC), does) for instant, does in sorted(moments.items())]


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS)
def test_systemd_is_told_the_same_moments(expression: str) -> None:
    values = on_calendar(expression)
    for moment, does in _moments(expression):
        assert any(_calendar_fits(value, moment) for value in values) == does, (expression, values, moment)


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS)
def test_launchd_is_told_the_same_moments_or_none(expression: str) -> None:
    try:
        intervals = calendar_intervals(expression)
    except Unsupported:
        return
    for moment, does in _moments(expression):
        assert any(_interval_fits(interval, moment) for interval in intervals) == does, (expression, moment)


def test_the_last_day_for_systemd_and_not_for_launchd() -> None:
    assert on_calendar("0 4 L * *") == ("*-*~01 04:00:00",)
    assert on_calendar("0 4 15,L * *") == ("*-*-15 04:00:00", "*-*~01 04:00:00")
    with pytest.raises(Unsupported, match="last day"):
        calendar_intervals("0 4 L * *")
    with pytest.raises(Unsupported, match="date and a weekday"):
        calendar_intervals("0 4 */2 * 1")
    with pytest.raises(Unsupported, match="single times"):
        calendar_intervals("1-59 1-23 * * *")


@pytest.mark.parametrize("expression", ["*/15 * * * *", "10 2 * * *", "0 4 L * *", "30 3 1,15 * 1-5", "0 */6 * 1-3 *"])
def test_systemd_itself_understands(expression: str) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    for value in on_calendar(expression):
        done = subprocess.run([program, "calendar", value], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
