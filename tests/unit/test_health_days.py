"""A snapshot of each day: what the vault has, what the plan lets go, and local days where clocks change."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from tests.reportkit import DAY, Then

from holdfast.app.context import Context
from holdfast.app.health_plans import uncovered
from holdfast.app.health_scene import Scene
from holdfast.config.healthsettings import HealthChoice
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import ignore

DAYS = st.sets(st.integers(80, 110))


def test_the_vault_tells_and_today_may_still_come() -> None:
    assert uncovered(100, 3, {97, 98, 99}, set(), 1 << 30) == []
    assert uncovered(100, 3, {97, 99, 100}, {98}, 1 << 30) == [98]  # it was saved, and it is gone


def test_of_what_the_plan_lets_go_the_journal_tells() -> None:
    """``keep: {daily: 2}`` holds today and yesterday."""
    assert uncovered(100, 4, {99}, {96, 97, 98}, 2) == []
    assert uncovered(100, 4, {99}, {96, 98}, 2) == [97]
    assert uncovered(100, 4, set(), {96, 97, 98, 99}, 2) == [99]


@given(DAYS, DAYS, st.integers(0, 20), st.integers(0, 20))
def test_what_was_ever_saved_is_never_asked_for_of_a_mirror(
    vault: set[int], journal: set[int], days: int, keeps: int
) -> None:
    missing = uncovered(100, days, vault, journal, keeps)
    assert missing == sorted(missing) and not set(missing) & vault
    assert set(missing) <= set(range(100 - days, 100))
    assert set(uncovered(100, days, vault, journal, 0)) == set(range(100 - days, 100)) - vault - journal


class Berlin(Then):
    def utc_offset(self, at_ns: int) -> int:
        offset = datetime.fromtimestamp(at_ns // 10**9, ZoneInfo("Europe/Berlin")).utcoffset()
        assert offset is not None
        return int(offset.total_seconds())


def test_days_are_local_days_also_where_clocks_change() -> None:
    clock = Berlin()
    scene = Scene(Context(ignore, Cancel(), str, clock=clock), HealthChoice(), None, (), {}, (), clock.now_ns())
    zone = ZoneInfo("Europe/Berlin")

    def day(*when: int) -> int:
        return scene.day(int(datetime(*when, tzinfo=zone).timestamp()) * 10**9)  # type: ignore[misc]

    # Clocks went forward on 2026-03-29 and back on 2026-10-25.
    for month, first in ((3, 27), (10, 23)):
        days = [day(2026, month, first + n, hour, 30) for n in range(5) for hour in (0, 12, 23)]
        assert days == [days[0] + n for n in range(5) for _ in range(3)]
    assert scene.day(clock.now_ns() - DAY) == scene.day(clock.now_ns()) - 1
