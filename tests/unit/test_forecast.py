"""The forecast of the day on which a vault is full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.monitor.forecast import DAY_NS, Space, forecast

GIB = 1 << 30
NOW = 20_000 * DAY_NS
TOTAL = 500 * GIB


def line(days: int, free: float, per_day: float) -> list[Space]:
    """A figure a day until now, when ``free`` GiB are left."""
    return [Space(NOW - back * DAY_NS, int((free + back * per_day) * GIB), TOTAL) for back in range(days, -1, -1)]


def test_a_steady_growth_is_carried_on() -> None:
    found = forecast(line(20, 30, 2), NOW)
    assert found is not None and round(found.per_day / GIB, 6) == 2
    assert abs((found.days_left(NOW) or 0) - 15) < 0.001


def test_a_prune_and_a_large_file_do_not_bend_it() -> None:
    points = line(30, 30, 1)
    # For some days it was fuller, then a prune freed it; once a large file came and went.
    bent = [
        Space(p.at_ns, p.free - (60 * GIB if 12 <= n <= 16 else 0) - (150 * GIB if n == 3 else 0), TOTAL)
        for n, p in enumerate(points)
    ]
    found = forecast(bent, NOW)
    assert found is not None and 0.7 < found.per_day / GIB < 1.5


def test_what_does_not_grow_is_never_full() -> None:
    for per_day in (0, -1):
        found = forecast(line(20, 100, per_day), NOW)
        assert found is not None and found.full_ns is None and found.days_left(NOW) is None


def test_too_little_to_go_on() -> None:
    assert forecast([], NOW) is None
    assert forecast(line(2, 30, 2), NOW) is None
    assert forecast([Space(NOW - n, 30 * GIB, TOTAL) for n in range(50)], NOW) is None


def test_a_larger_disk_begins_anew() -> None:
    old = [Space(p.at_ns, p.free // 100, TOTAL // 10) for p in line(40, 30, 1)[:-10]]
    new = line(9, 300, 3)
    found = forecast([*old, *new], NOW)
    assert found is not None and round(found.per_day / GIB, 6) == 3
    assert forecast([*old, *new[-2:]], NOW) is None


def test_figures_from_the_future_and_from_long_ago_do_not_count() -> None:
    ahead = [Space(NOW + n * DAY_NS, 0, TOTAL) for n in range(1, 9)]
    long_ago = [Space(NOW - n * DAY_NS, 0, TOTAL) for n in range(100, 200)]
    found = forecast([*long_ago, *line(20, 30, 2), *ahead], NOW)
    assert found is not None and round(found.per_day / GIB, 6) == 2


@given(st.lists(st.tuples(st.integers(0, 100 * DAY_NS), st.integers(0, TOTAL)), max_size=60))
def test_it_is_never_full_before_the_last_figure(points: list[tuple[int, int]]) -> None:
    spaces = [Space(NOW - back, free, TOTAL) for back, free in points]
    found = forecast(spaces, NOW)
    if found is not None and found.full_ns is not None:
        assert found.full_ns >= max(space.at_ns for space in spaces) and found.per_day > 0
