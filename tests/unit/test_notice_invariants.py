"""Quiet hours by the clock on the wall, and what holds for the rules whatever happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.noticekit import ALL, HOUR, START, Life, fact, finished

from holdfast.monitor.notice import (
    SECOND,
    Escalation,
    Notice,
    NoticeSettings,
    Quiet,
    Step,
)
from holdfast.monitor.quiet import first_loud, is_quiet, minutes
from holdfast.monitor.record import Record
from holdfast.monitor.rules import decide

ONE = NoticeSettings(channels=("phone",))


def actions(steps: tuple[Step, ...]) -> list[tuple[str, str]]:
    return [(step.action, step.notice.rule) for step in steps]


# Quiet hours


def berlin(at_ns: int) -> int:
    offset = datetime.fromtimestamp(at_ns / SECOND, ZoneInfo("Europe/Berlin")).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def at(text: str, zone: str = "Europe/Berlin") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("quiet", "now", "until"),
    [
        ("22:00-07:00", "2026-11-20T21:59:59", "2026-11-20T21:59:59"),
        ("22:00-07:00", "2026-11-20T22:00:00", "2026-11-21T07:00:00"),
        ("22:00-07:00", "2026-11-21T03:14:15", "2026-11-21T07:00:00"),
        ("22:00-07:00", "2026-11-21T07:00:00", "2026-11-21T07:00:00"),
        ("12:00-13:00", "2026-11-21T12:30:00", "2026-11-21T13:00:00"),
        ("22:00-07:00", "2026-03-28T23:00:00", "2026-03-29T07:00:00"),  # the night of 23 hours
        ("22:00-07:00", "2026-10-24T23:00:00", "2026-10-25T07:00:00"),  # the night of 25 hours
        ("22:00-02:30", "2026-03-28T23:00:00", "2026-03-29T03:00:00"),  # 02:30 does not exist
        ("22:00-02:30", "2026-10-24T23:00:00", "2026-10-25T02:30:00"),  # 02:30 comes twice: the first counts
    ],
)
def test_quiet_hours_end_by_the_clock_on_the_wall(quiet: str, now: str, until: str) -> None:
    assert first_loud(Quiet(*minutes(quiet)), at(now), berlin) == at(until)


def test_the_hour_that_comes_twice_is_quiet_twice() -> None:
    second = at("2026-10-25T02:10:00") + HOUR * SECOND  # 02:10 of winter time
    assert is_quiet(Quiet(*minutes("22:00-02:30")), second, berlin)
    assert first_loud(Quiet(*minutes("22:00-02:30")), second, berlin) == second + 20 * 60 * SECOND


@pytest.mark.parametrize("text", ["22-7", "22:00", "25:00-07:00", "22:00-07:60", "07:00-07:00", "a:b-c:d", ""])
def test_quiet_hours_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="two times of the day"):
        minutes(text)


def test_quiet_hours_hold_back_all_but_the_critical() -> None:
    night = (at("2026-11-21T03:00:00") - START) / SECOND
    morning = at("2026-11-21T07:00:00")
    quiet = replace(ONE, quiet=Quiet(*minutes("22:00-07:00")), offset=berlin)
    found = Life(quiet).look(night, finished("failed", night), fact("damage.found", night, vault="home"))
    due = {step.notice.rule: tell.due_ns for step in found.steps for tell in step.tells}
    assert due == {"failed": morning, "damage": START + int(night * SECOND)}
    strict = replace(quiet, quiet=Quiet(*minutes("22:00-07:00"), hold_critical=True))
    found = Life(strict).look(night, fact("damage.found", night, vault="home"))
    assert found.steps[0].tells[0].due_ns == morning


# What always holds

outcomes = st.sampled_from(["ok", "failed", "partial", "cancelled"])
plans = st.sampled_from(["a", "b"])
vaults = st.sampled_from(["x", "y"])
runs = st.builds(
    lambda outcome, plan, vault, size: finished(outcome, plan=plan, vault=vault, total_bytes=size, total_files=size),
    outcomes,
    plans,
    vaults,
    st.integers(0, 3),
)
others = st.one_of(
    st.builds(lambda vault: fact("damage.found", vault=vault, operation="check"), vaults),
    st.builds(lambda vault, free: fact("vault.space", vault=vault, free=free, total=100), vaults, st.integers(0, 30)),
    st.builds(lambda kind: fact(kind, role="script"), st.sampled_from(["error.recorded", "critical.recorded"])),
    st.builds(lambda n: fact("notice.failed", channel="phone", attempt=n, error="no"), st.integers(1, 4)),
    st.builds(lambda: fact("notice.sent", channel="phone")),
)
streams = st.lists(st.tuples(st.integers(0, 40_000), st.one_of(runs, others)), max_size=25)
QUIET = replace(
    ALL, quiet=Quiet(*minutes("22:00-07:00")), offset=berlin, escalation=Escalation(HOUR, ("mail",)), repeat=5 * HOUR
)


def stream(events: list[tuple[int, Record]]) -> list[tuple[float, Record]]:
    now, found = 0.0, []
    for wait, record in events:
        now += wait
        found.append((now, replace(record, at_ns=START + int(now * SECOND))))
    return found


@given(streams)
@settings(max_examples=60, deadline=None)
def test_at_most_one_notice_of_a_subject_is_open_and_every_one_that_began_ends_or_is_open(
    events: list[tuple[int, Record]],
) -> None:
    life = Life(QUIET)
    alive: dict[tuple[str, str], Notice] = {}
    for now, record in stream(events):
        for step in life.look(now, record).steps:
            if step.action == "raised":
                assert step.notice.key not in alive
                assert step.tells, "nobody was told of it"
            else:
                assert step.notice.key in alive
            alive[step.notice.key] = step.notice
            if step.action in ("resolved", "closed"):
                assert alive.pop(step.notice.key).resolved_ns is not None
        assert {notice.key for notice in life.open} == set(alive)


@given(streams)
@settings(max_examples=60, deadline=None)
def test_nothing_below_critical_is_told_in_quiet_hours_and_nothing_is_told_too_late(
    events: list[tuple[int, Record]],
) -> None:
    life = Life(QUIET)
    assert QUIET.quiet is not None
    for now, record in stream(events):
        now_ns = START + int(now * SECOND)
        for step in life.look(now, record).steps:
            for tell in step.tells:
                assert tell.due_ns >= now_ns
                assert tell.due_ns <= now_ns + 9 * HOUR * SECOND
                if step.notice.level != "critical":
                    assert not is_quiet(QUIET.quiet, tell.due_ns, berlin)


@given(streams, st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_it_makes_no_difference_in_how_many_looks_the_facts_are_read(
    events: list[tuple[int, Record]], size: int
) -> None:
    records = [record for _, record in stream(events)]
    calm = NoticeSettings(channels=("phone",), repeat=0, settle=1e9)

    def states(parts: list[list[Record]]) -> tuple[list[tuple[str, str]], list[tuple[str, str, int]]]:
        open_notices: tuple[Notice, ...] = ()
        steps: list[Step] = []
        for part in parts:
            found = decide(part, open_notices, (), START, calm, lambda _record: ())
            open_notices, steps = found.open, steps + list(found.steps)
        return actions(tuple(steps)), sorted((each.rule, each.subject, each.times) for each in open_notices)

    assert states([records]) == states([records[at : at + size] for at in range(0, len(records), size)])


@given(streams)
@settings(max_examples=40, deadline=None)
def test_repetitions_of_a_notice_are_at_least_as_far_apart_as_was_wished(events: list[tuple[int, Record]]) -> None:
    life = Life(QUIET)
    last: dict[str, float] = {}
    for now, record in stream(events):
        for step in life.look(now, record).steps:
            if step.action == "repeated":
                assert now - last[step.notice.id] >= 5 * HOUR
            if step.action not in ("counted", "resolved", "closed"):
                last[step.notice.id] = now
