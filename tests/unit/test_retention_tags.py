"""What a change of tags rewrites and removes, also where an earlier one died half-way."""

from __future__ import annotations

from dataclasses import replace

from holdfast.kernel.ids import SnapshotId
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.holds import with_hold, without_hold
from holdfast.vaults.retention import Policy, plan
from holdfast.vaults.tags import Rewrite, TagChange, plan_rewrites


def snapshot(name: str, *tags: str, original: SnapshotInfo | None = None, **changes: object) -> SnapshotInfo:
    made = SnapshotInfo(
        id=SnapshotId(name.encode().ljust(32)),
        time="2026-01-01T00:00:00Z",
        time_ns=1_767_225_600_000_000_000,
        hostname="ada",
        username="tester",
        paths=("/home",),
        tags=tags,
        tree=bytes(32),
        original=original.id if original else None,
    )
    return replace(made, **changes)


def add(*tags: str) -> TagChange:
    return TagChange(add=tags)


def test_tags_are_set_then_removed_then_added_each_once() -> None:
    assert add("b", "c").apply(("a", "b")) == ("a", "b", "c")
    assert TagChange(remove=("a", "z")).apply(("a", "b")) == ("b",)
    assert TagChange(replace=("x", "x")).apply(("a", "b")) == ("x",)
    assert TagChange(replace=()).apply(("a", "b")) == ()


def test_only_what_changes_is_rewritten() -> None:
    one, two = snapshot("one", "a"), snapshot("two", "b", time_ns=5, time="2026-01-02T00:00:00Z")
    assert plan_rewrites([one, two], [one, two], add("b").apply) == [
        Rewrite(one, ("a", "b"), (one,)),
        Rewrite(two, None, ()),
    ]


def test_a_snapshot_that_is_named_twice_is_rewritten_once() -> None:
    one = snapshot("one")
    assert len(plan_rewrites([one], [one, one], add("b").apply)) == 1


def test_the_same_change_again_finishes_one_that_died() -> None:
    old = snapshot("old", "a")
    new = snapshot("new", "a", "b", original=old)
    for chosen in ([old], [new], [old, new]):
        assert plan_rewrites([old, new], chosen, add("b").apply) == [Rewrite(new, None, (old,))]


def test_a_later_version_also_of_later_changes_is_brought_together() -> None:
    first = snapshot("first")
    old = snapshot("old", "a", original=first)
    new = snapshot("new", "a", "b", original=first)  # the first is long gone, so both name it
    for chosen in ([old], [new]):
        assert plan_rewrites([old, new], chosen, add("b").apply) == [Rewrite(new, None, (old,))]


def test_another_change_goes_on_from_the_newer_version() -> None:
    old = snapshot("old", "a")
    new = snapshot("new", "a", "b", original=old)
    assert plan_rewrites([old, new], [old], add("c").apply) == [Rewrite(new, ("a", "b", "c"), (old, new))]


def test_versions_that_differ_otherwise_are_left_alone() -> None:
    old = snapshot("old")
    smaller = snapshot("smaller", original=old, tree=b"\1" * 32)  # such as restic rewrite --exclude makes
    assert plan_rewrites([old, smaller], [old], add("c").apply) == [Rewrite(old, ("c",), (old,))]


def test_a_hold_replaces_the_hold_before_and_goes_with_its_date() -> None:
    held = with_hold(("a", "hold", "hold-until:2026-01-01"), "2027-01-01")
    assert held == ("a", "hold", "hold-until:2027-01-01")
    assert with_hold(held, None) == ("a", "hold")
    assert without_hold(held) == ("a",)


def test_forget_takes_a_leftover_and_counts_the_snapshot_once() -> None:
    older = snapshot("older", time="2025-12-31T00:00:00Z", time_ns=1_767_139_200_000_000_000)
    old = snapshot("old")
    new = snapshot("new", "a", original=old)
    made = plan([old, new, older], Policy(last=2), now_ns=1_800_000_000_000_000_000, local_offset=lambda _: 0)
    assert made.leftovers == (old,)
    assert made.remove == [old]  # and not the older one, for which there is still room


def test_forget_leaves_a_leftover_that_is_held() -> None:
    old = snapshot("old", "hold")
    new = snapshot("new", original=old)
    made = plan([old, new], Policy(last=1), now_ns=1_800_000_000_000_000_000, local_offset=lambda _: 0)
    assert old not in made.remove
