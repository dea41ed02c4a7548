"""The rules of retention by themselves: what is kept, why, and what no policy may ever remove."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.format.time import format_time, parse_time
from holdfast.kernel.ids import SnapshotId
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.retention import (
    FUTURE_SECONDS,
    UNLIMITED,
    Plan,
    Policy,
    Span,
    ahead_of_time,
    held_until,
    plan,
    plan_named,
)

SECOND = 1_000_000_000
NOW = parse_time("2026-11-22T01:00:00Z")


def utc(_at_ns: int) -> int:
    return 0


def berlin(at_ns: int) -> int:
    """Summer time from 29 March to 25 October 2026, as the European Union has it; winter before and after."""
    summer = parse_time("2026-03-29T01:00:00Z") <= at_ns < parse_time("2026-10-25T01:00:00Z")
    return 7200 if summer else 3600


def snapshot(time: str, *tags: str, number: int = 0, **changes: object) -> SnapshotInfo:
    made = SnapshotInfo(
        id=SnapshotId(f"{number} {time}".encode().ljust(32)[:32]),  # the end of long times is cut off
        time=time,
        time_ns=parse_time(time),
        hostname="ada",
        username="tester",
        paths=("/home",),
        tags=tags,
        tree=bytes(32),
    )
    return replace(made, **changes)


def planned(snapshots: list[SnapshotInfo], policy: Policy, **changes: object) -> Plan:
    options: dict[str, object] = {"now_ns": NOW, "local_offset": utc, "group_by": ()}
    return plan(snapshots, policy, **{**options, **changes})  # type: ignore[arg-type]


def kept(made: Plan) -> dict[str, tuple[str, ...]]:
    return {verdict.snapshot.time: verdict.reasons for group in made.groups for verdict in group.keep}


def test_each_rule_keeps_the_newest_of_its_period() -> None:
    times = [
        "2025-12-30T10:00:00Z", "2025-12-31T10:00:00Z", "2026-01-01T10:00:00Z", "2026-01-01T10:30:00Z",
        "2026-01-01T11:00:00Z", "2026-01-02T09:00:00Z",
    ]  # fmt: skip
    policy = Policy(last=1, hourly=3, daily=3, weekly=1, monthly=2, yearly=2)
    assert kept(planned([snapshot(time) for time in times], policy)) == {
        "2026-01-02T09:00:00Z": (
            "last snapshot", "hourly snapshot", "daily snapshot", "weekly snapshot", "monthly snapshot",
            "yearly snapshot",
        ),
        "2026-01-01T11:00:00Z": ("hourly snapshot", "daily snapshot"),
        "2026-01-01T10:30:00Z": ("hourly snapshot",),
        "2025-12-31T10:00:00Z": ("daily snapshot", "monthly snapshot", "yearly snapshot"),
    }  # fmt: skip


def test_weeks_are_those_of_the_calendar_and_may_span_a_change_of_year() -> None:
    times = ["2025-12-28T12:00:00Z", "2025-12-29T12:00:00Z", "2026-01-04T12:00:00Z", "2026-01-05T12:00:00Z"]
    made = planned([snapshot(time) for time in times], Policy(weekly=3))
    assert list(kept(made)) == ["2025-12-28T12:00:00Z", "2026-01-04T12:00:00Z", "2026-01-05T12:00:00Z"]


def test_a_snapshot_counts_on_the_day_that_its_own_clock_showed() -> None:
    times = ["2026-03-02T04:45:00Z", "2026-03-01T23:50:00-05:00"]  # five minutes apart
    assert list(kept(planned([snapshot(time) for time in times], Policy(daily=2)))) == times


def test_the_oldest_stays_where_a_rule_has_room_for_more() -> None:
    times = ["2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", "2026-01-01T12:00:00Z"]
    snapshots = [snapshot(time) for time in times]
    assert kept(planned(snapshots, Policy(daily=2))) == {
        "2026-01-01T12:00:00Z": ("daily snapshot",),
        "2026-01-01T10:00:00Z": ("oldest daily snapshot",),
    }
    assert list(kept(planned(snapshots, Policy(daily=1)))) == ["2026-01-01T12:00:00Z"]


def test_within_goes_back_from_the_newest_on_the_calendar() -> None:
    times = ["2026-03-03T09:59:59Z", "2026-03-03T10:00:00Z", "2026-03-03T10:00:01Z", "2026-03-31T10:00:00Z"]
    # A month before 31 March would be 31 February, which is 3 March.
    made = planned([snapshot(time) for time in times], Policy(within=Span(months=1)))
    assert kept(made) == {
        "2026-03-31T10:00:00Z": ("within 1m",),
        "2026-03-03T10:00:01Z": ("within 1m",),
    }


def test_a_day_has_23_hours_when_summer_begins() -> None:
    newest = snapshot("2026-03-29T12:00:00+02:00")
    before, after = snapshot("2026-03-28T11:59:00+01:00"), snapshot("2026-03-28T12:01:00+01:00")
    policy = Policy(within=Span(days=1))
    local = planned([before, after, newest], policy, local_offset=berlin)
    assert list(kept(local)) == [after.time, newest.time]
    # Seen from where +02:00 is no local time, the zone is taken as fixed: 12:00+02:00 the day before.
    elsewhere = planned([before, after, newest], policy, local_offset=utc)
    assert list(kept(elsewhere)) == [before.time, after.time, newest.time]


def test_a_span_before_the_calendar_begins_keeps_everything() -> None:
    made = planned(
        [snapshot("0001-01-01T00:00:00Z"), snapshot("2026-01-01T00:00:00Z")], Policy(within=Span(years=9000))
    )
    assert len(kept(made)) == 2
    made = planned([snapshot("0000-06-01T00:00:00Z"), snapshot("2026-01-01T00:00:00Z")], Policy(weekly=UNLIMITED))
    assert len(kept(made)) == 2


def test_tags_keep_by_sets_and_the_empty_one_means_without_tags() -> None:
    snapshots = [snapshot("2026-01-01T00:00:00Z", "a", "b"), snapshot("2026-01-02T00:00:00Z", "b"),
                 snapshot("2026-01-03T00:00:00Z")]  # fmt: skip
    both = planned(snapshots, Policy(tags=(("a", "b"), ("b",))))
    assert kept(both) == {
        "2026-01-01T00:00:00Z": ("has tags [a, b]", "has tags [b]"),
        "2026-01-02T00:00:00Z": ("has tags [b]",),
    }
    assert list(kept(planned(snapshots, Policy(tags=(("",),))))) == ["2026-01-03T00:00:00Z"]


def test_groups_count_by_themselves_whatever_the_order_of_paths_and_tags() -> None:
    one = snapshot("2026-01-01T00:00:00Z", "x", "y", paths=("/a", "/b"))
    two = snapshot("2026-01-02T00:00:00Z", "y", "x", paths=("/b", "/a"))
    other = snapshot("2026-01-03T00:00:00Z", hostname="bob")
    made = planned([one, two, other], Policy(last=1), group_by=("host", "paths", "tags"))
    assert [dict(group.common) for group in made.groups] == [
        {"host": "ada", "paths": "/a, /b", "tags": "x, y"},
        {"host": "bob", "paths": "/home", "tags": ""},
    ]
    assert made.remove == [one]


def test_paths_that_only_look_alike_joined_are_two_groups() -> None:
    one = snapshot("2026-01-01T00:00:00Z", paths=("/a, /b",))
    two = snapshot("2026-01-02T00:00:00Z", paths=("/a", "/b"))
    assert planned([one, two], Policy(last=1), group_by=("paths",)).remove == []


def test_what_would_empty_a_group_is_told() -> None:
    snapshots = [snapshot("2026-01-01T00:00:00Z"), snapshot("2026-01-02T00:00:00Z", hostname="bob")]
    made = planned(snapshots, Policy(tags=(("none",),)), group_by=("host",))
    assert [dict(group.common)["host"] for group in made.emptied] == ["ada", "bob"]
    held = [replace(snapshots[0], tags=("hold",)), snapshots[1]]
    made = planned(held, Policy(tags=(("none",),)), group_by=("host",))
    assert [dict(group.common)["host"] for group in made.emptied] == ["bob"]


def test_the_future_is_what_lies_more_than_minutes_ahead() -> None:
    near = snapshot(format_time(NOW + (FUTURE_SECONDS - 1) * SECOND, 0))
    far = snapshot(format_time(NOW + (FUTURE_SECONDS + 1) * SECOND, 0))
    assert ahead_of_time([near, far], NOW) == [far]


def test_a_snapshot_of_the_future_does_not_move_what_within_means() -> None:
    snapshots = [snapshot("2026-10-01T00:00:00Z"), snapshot("2026-11-20T00:00:00Z"), snapshot("2031-01-01T00:00:00Z")]
    made = planned(snapshots, Policy(within=Span(days=7)))
    assert list(kept(made)) == ["2026-11-20T00:00:00Z", "2031-01-01T00:00:00Z"]


def test_only_named_snapshots_go() -> None:
    snapshots = [snapshot("2026-01-01T00:00:00Z"), snapshot("2026-01-02T00:00:00Z", "hold"),
                 snapshot("2026-01-03T00:00:00Z")]  # fmt: skip
    named = {snapshots[0].id, snapshots[1].id}
    made = plan_named(snapshots, named, now_ns=NOW, local_offset=utc)
    assert made.remove == [snapshots[0]]
    assert made.emptied == []


# -- holds ------------------------------------------------------------------------------------------------------------


def test_a_hold_ends_after_its_day_in_local_time() -> None:
    held = snapshot("2026-01-01T00:00:00Z", "hold", "hold-until:2026-11-22")
    end_of_day = parse_time("2026-11-22T23:30:00Z")
    assert held_until(held, end_of_day, utc) == "2026-11-22"
    assert held_until(held, end_of_day, berlin) is None  # 00:30 of the 23rd
    assert held_until(held, end_of_day - 3600 * SECOND, berlin) == "2026-11-22"


def test_what_cannot_be_understood_holds_for_good() -> None:
    for tags in (("hold",), ("hold-until:someday",), ("hold", "hold-until:2020-13-01"), ("hold-until:20200101",)):
        assert held_until(snapshot("2026-01-01T00:00:00Z", *tags), NOW, utc) == "until it is released"
    for tags in (("holds",), ("on-hold",), ("Hold",), ("hold", "hold-until:2020-01-01")):
        assert held_until(snapshot("2026-01-01T00:00:00Z", *tags), NOW, utc) is None
    both = snapshot("2026-01-01T00:00:00Z", "hold", "hold-until:2020-01-01", "hold-until:2030-01-01")
    assert held_until(both, NOW, utc) == "2030-01-01"


# -- properties -------------------------------------------------------------------------------------------------------

SPANS = st.builds(Span, st.integers(0, 2), st.integers(0, 14), st.integers(0, 40), st.integers(0, 50))
COUNTS = st.sampled_from([0, 0, 1, 2, 5, UNLIMITED])
POLICIES = st.builds(
    Policy,
    **dict.fromkeys(("last", "hourly", "daily", "weekly", "monthly", "yearly"), COUNTS),
    **{field.name: st.one_of(st.just(Span()), SPANS) for field in fields(Policy) if field.name.startswith("within")},
    tags=st.sampled_from([(), (("a",),), (("a", "b"), ("",))]),
)
TAGS = st.sampled_from([(), (), ("a",), ("a", "b"), ("hold",), ("hold", "hold-until:2026-12-01"),
                        ("hold", "hold-until:2026-10-01")])  # fmt: skip
ZONES = st.sampled_from([0, 3600, 7200, -18_000, 20_700, 50_400])


@st.composite
def histories(draw: st.DrawFn) -> list[SnapshotInfo]:
    found = []
    for number in range(draw(st.integers(0, 20))):
        at = NOW - draw(st.integers(0, 3 * 365 * 24)) * 3600 * SECOND - draw(st.sampled_from([0, 0, 1, 1800 * SECOND]))
        time = format_time(at, draw(ZONES))
        found.append(snapshot(time, *draw(TAGS), number=number, hostname=draw(st.sampled_from(["ada", "bob"]))))
    return found


@settings(max_examples=150, deadline=None)
@given(histories(), POLICIES, st.randoms(use_true_random=False))
def test_the_order_in_which_snapshots_come_changes_nothing(
    history: list[SnapshotInfo], policy: Policy, order: object
) -> None:
    first = planned(history, policy, group_by=("host",))
    shuffled = list(history)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    second = planned(shuffled, policy, group_by=("host",))
    assert {s.id for s in first.remove} == {s.id for s in second.remove}


@settings(max_examples=150, deadline=None)
@given(histories(), POLICIES)
def test_nothing_that_is_protected_goes_and_everything_has_one_verdict(
    history: list[SnapshotInfo], policy: Policy
) -> None:
    made = planned(history, policy, group_by=("host",))
    going = {s.id for s in made.remove}
    assert sorted(v.snapshot.id for g in made.groups for v in g.verdicts) == sorted(s.id for s in history)
    for one in history:
        held = "hold" in one.tags and "hold-until:2026-10-01" not in one.tags
        wanted = any(set(tags) - {""} <= set(one.tags) if tags != ("",) else not one.tags for tags in policy.tags)
        if held or wanted or policy.is_empty or policy.last == UNLIMITED:
            assert one.id not in going


@settings(max_examples=150, deadline=None)
@given(histories(), POLICIES)
def test_the_newest_stays_and_a_second_run_finds_nothing_new_to_remove_but_the_oldest(
    history: list[SnapshotInfo], policy: Policy
) -> None:
    made = planned(history, policy)
    counted = Policy(**{f.name: getattr(policy, f.name) for f in fields(Policy) if f.name != "tags"})
    if history and not counted.is_empty:
        newest = max(history, key=lambda s: (s.time_ns, s.id))
        assert newest.id not in {s.id for s in made.remove}
    stays = [v.snapshot for g in made.groups for v in g.keep]
    again = planned(stays, policy)
    assert again.remove == []
