"""When people are told what: the rules, without any clock, journal or channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.noticekit import ALL, HOUR, START, Life, fact, finished

from holdfast.monitor.notice import (
    SECOND,
    Escalation,
    Expectation,
    NoticeSettings,
    Route,
    Step,
)
from holdfast.monitor.record import Record
from holdfast.monitor.rules import decide

ONE = NoticeSettings(channels=("phone",))


def actions(steps: tuple[Step, ...]) -> list[tuple[str, str]]:
    return [(step.action, step.notice.rule) for step in steps]


def test_a_failure_is_told_to_all_once_and_its_end_too() -> None:
    life = Life()
    assert life.told(0, finished("failed")) == [("raised", "failed", "phone"), ("raised", "failed", "mail")]
    assert life.told(60, finished("failed", 60), finished("failed", 61)) == []
    assert life.open[0].times == 3
    assert life.told(120, finished("ok", 120)) == [("resolved", "failed", "phone"), ("resolved", "failed", "mail")]
    assert life.open == ()
    assert life.told(180, finished("ok", 180)) == []


def test_a_notice_says_what_the_error_said_and_what_to_do() -> None:
    record = finished("failed", error={"code": "unavailable", "message": "the disk is away", "hint": "Plug it in."})
    notice = Life().look(0, record).open[0]
    assert notice.title == "Backup of docs (home) failed"
    assert notice.message == "the disk is away\nPlug it in."
    assert notice.subject == "backup/docs/home"


def test_items_are_grouped_into_one_notice_with_a_few_of_them_named() -> None:
    items = [fact("item.failed", message=f"/home/f{n}: permission denied", run="r") for n in range(500)]
    found = Life().look(0, *items, finished("partial", run="r", problems=500, message="500 items failed"))
    assert actions(found.steps) == [("raised", "partial")]
    assert found.open[0].message.splitlines() == [
        "500 items failed",
        *(f"- /home/f{n}: permission denied" for n in range(3)),
    ]


def test_a_plan_of_several_vaults_tells_of_the_one_that_failed_and_not_of_the_plan_as_well() -> None:
    life = Life(ONE)
    records = (
        finished("ok", vault="plain", parent="P"),
        finished("failed", vault="home", parent="P"),
        finished("failed", vault="", run="P"),
    )
    assert [notice.subject for notice in life.look(0, *records).open] == ["backup/docs/home"]
    apart = Life(ONE)
    for record in records:
        apart.look(0, record)
    assert [notice.subject for notice in apart.open] == ["backup/docs/home"]


def test_a_plan_that_failed_before_any_vault_is_told() -> None:
    assert Life(ONE).told(0, finished("failed", vault="")) == [("raised", "failed", "phone")]


@pytest.mark.parametrize(
    "record",
    [
        finished("failed", operation="restore"),
        finished("cancelled"),
        finished("refused", plan="", error={"code": "invalid", "message": "no such option"}),
        fact("run.started"),
        fact("item.warning", level="warning"),
    ],
)
def test_what_the_person_at_the_terminal_sees_himself_is_not_told(record: Record) -> None:
    assert Life(ONE).look(0, record).steps == ()


def test_an_unattended_failure_without_a_plan_is_told() -> None:
    away = {"code": "not_found", "message": "the vault is not there"}
    for more in ({}, {"error": away}):
        told = Life(ONE).told(0, finished("failed", plan="", operation="check", **more))
        assert told == [("raised", "failed", "phone")]


def test_damage_is_critical_and_only_a_good_check_ends_it() -> None:
    life = Life(ONE)
    damage = [fact("damage.found", vault="home", run="r", operation="check") for _ in range(40)]
    found = life.look(0, *damage, finished("failed", operation="check", plan="", run="r"))
    assert actions(found.steps)[0] == ("raised", "damage")
    assert {notice.rule for notice in found.open} == {"damage"}
    assert found.open[0].level == "critical"
    assert found.open[0].times == 40
    assert life.look(60, finished("ok", 60)).open != ()
    assert life.told(90, finished("ok", 90, operation="check", plan="", packs=3, packs_read=3)) == [
        ("resolved", "damage", "phone")
    ]


def test_damage_that_was_found_by_reading_is_over_when_all_was_read_or_mended() -> None:
    def check(at: float, read: int) -> Record:
        return finished("ok", at, operation="check", plan="", packs=10, packs_read=read)

    deep = fact("damage.found", vault="home", kind="pack.corrupt", operation="check")
    shallow = fact("damage.found", vault="home", kind="pack.missing", operation="check")
    for damage, ends in (
        ((deep,), [check(3, 10)]),
        ((deep, shallow), [check(3, 10)]),
        ((shallow,), [check(3, 0)]),
        ((deep,), [finished("ok", 3, operation="repair", plan=""), check(4, 0)]),
    ):
        life = Life(ONE)
        life.look(0, *damage)
        if len(damage) > 1 or damage[0] is deep:
            assert life.look(1, check(1, 0)).open, "a look at the index says nothing of the data"
            assert life.look(2, check(2, 9)).open
        assert life.told(9, *ends)[-1] == ("resolved", "damage", "phone")


def test_a_snapshot_that_shrank_is_told_and_stays_so_until_that_is_usual() -> None:
    life = Life(replace(ONE, shrink={"docs": 50.0}))
    life.past = [{"total_bytes": 1000, "total_files": 10}] * 5
    assert life.told(0, finished("ok", total_bytes=499, total_files=9)) == [("raised", "shrunk", "phone")]
    assert "50% less" in life.open[0].message
    life.past = [{"total_bytes": 499, "total_files": 9}, *life.past[:4]]
    assert life.told(60, finished("ok", 60, total_bytes=499, total_files=9)) == []
    life.past = [{"total_bytes": 499, "total_files": 9}] * 3 + list(life.past[:2])
    assert life.told(99, finished("ok", 99, total_bytes=499, total_files=9)) == [("resolved", "shrunk", "phone")]


def test_a_plan_that_expects_nothing_of_its_size_may_shrink() -> None:
    life = Life(ONE)
    life.past = [{"total_bytes": 1000, "total_files": 10}] * 5
    assert life.told(0, finished("ok", total_bytes=1, total_files=9)) == []


@pytest.mark.parametrize(
    ("record", "past", "silent"),
    [
        (finished("ok", total_files=0), [], True),
        (finished("ok", total_files=0, databases=2), [], False),
        (finished("ok", total_files=3), [], False),
        (finished("ok", total_files=40, seconds=2.0), [{"seconds": 60.0, "total_files": 100}] * 5, True),
        (finished("ok", total_files=100, seconds=2.0), [{"seconds": 60.0, "total_files": 100}] * 5, False),
        (finished("ok", total_files=40, seconds=2.0), [{"seconds": 60.0, "total_files": 100}] * 4, False),
        (finished("ok", operation="run", seconds=1.0), [{"seconds": 60.0}] * 5, True),
        (finished("ok", operation="run", seconds=4.0), [{"seconds": 60.0}] * 5, False),
        (finished("ok", operation="run", seconds=0.01), [{"seconds": 1.0}] * 5, False),
    ],
)
def test_success_that_did_nothing_is_a_silent_failure(
    record: Record, past: list[dict[str, float]], silent: bool
) -> None:
    life = Life(ONE)
    life.past = past
    assert life.told(0, record) == ([("raised", "silent", "phone")] if silent else [])


def test_overdue_is_told_by_whoever_looks_after_the_time_and_over_with_the_next_snapshot() -> None:
    life = Life(ONE)
    life.expectations = [Expectation("backup", "docs", "home", 26 * HOUR, START)]
    assert life.told(26 * HOUR) == []
    assert life.due_ns == START + 26 * HOUR * SECOND + 1
    assert life.told(26 * HOUR + 1) == [("raised", "overdue", "phone")]
    assert life.open[0].title == "No new snapshot of docs in home for 26 h"
    assert life.told(30 * HOUR) == []
    life.expectations = [Expectation("backup", "docs", "home", 26 * HOUR, START + 31 * HOUR * SECOND)]
    assert life.told(31 * HOUR + 9) == [("resolved", "overdue", "phone")]


def test_a_plan_that_never_ran_is_overdue_from_when_it_was_first_seen() -> None:
    life = Life(ONE)
    life.expectations = [Expectation("backup", "docs", "home", HOUR, START, never=True)]
    life.look(2 * HOUR)
    assert "first seen" in life.open[0].message


def test_what_is_expected_no_longer_is_closed_without_a_word_unless_another_configuration_expects_it() -> None:
    life = Life(replace(ONE, source="/etc/a.yaml"))
    life.expectations = [Expectation("backup", "docs", "home", HOUR, START)]
    life.look(2 * HOUR)
    life.settings = replace(ONE, source="/etc/b.yaml")
    life.expectations = []
    assert life.look(2 * HOUR).steps == ()
    life.settings = replace(ONE, source="/etc/a.yaml")
    assert actions(life.look(2 * HOUR).steps) == [("closed", "overdue")]
    assert life.open == ()


def test_an_open_problem_is_repeated_until_somebody_says_that_he_knows() -> None:
    life = Life(replace(ONE, repeat=6 * HOUR))
    life.look(0, finished("failed"))
    assert life.due_ns == START + 6 * HOUR * SECOND
    assert life.told(6 * HOUR - 1) == []
    assert life.told(6 * HOUR) == [("repeated", "failed", "phone")]
    assert life.told(6 * HOUR) == []
    assert life.told(24 * HOUR) == [("repeated", "failed", "phone")]
    life.open = (replace(life.open[0], acknowledged_ns=START),)
    assert life.told(99 * HOUR) == []
    assert life.told(99 * HOUR, finished("ok", 99 * HOUR)) == [("resolved", "failed", "phone")]


def test_what_gets_worse_is_told_again_though_it_was_acknowledged() -> None:
    life = Life(ONE)
    life.look(0, fact("vault.space", vault="home", free=9, total=100))
    assert life.open[0].level == "warning"
    life.open = (replace(life.open[0], acknowledged_ns=START),)
    assert life.told(1, fact("vault.space", 1, vault="home", free=8, total=100)) == []
    assert life.told(2, fact("vault.space", 2, vault="home", free=2, total=100)) == [("worse", "space", "phone")]
    assert life.open[0].acknowledged_ns is None
    assert life.told(3, fact("vault.space", 3, vault="home", free=20, total=100)) == [("resolved", "space", "phone")]


def test_escalation_tells_more_people_once_unless_acknowledged() -> None:
    rules = (Route(frozenset({"failed"}), ("phone",)),)
    life = Life(replace(ALL, routes=rules, escalation=Escalation(4 * HOUR, ("mail",)), repeat=0))
    life.look(0, finished("failed"))
    assert life.due_ns == START + 4 * HOUR * SECOND
    known = (replace(life.open[0], acknowledged_ns=START),)
    assert life.told(4 * HOUR) == [("escalated", "failed", "phone"), ("escalated", "failed", "mail")]
    assert life.told(99 * HOUR) == []
    life.open = known
    assert life.told(99 * HOUR) == []


def test_routes_say_who_hears_of_what_and_of_which_plans() -> None:
    routes = (
        Route(frozenset({"failed", "recovered"}), ("phone",), frozenset({"docs"})),
        Route(frozenset({"failed", "digest"}), ("mail",)),
    )
    life = Life(replace(ALL, routes=routes))
    assert life.told(0, finished("failed")) == [("raised", "failed", "phone"), ("raised", "failed", "mail")]
    assert life.told(0, finished("failed", plan="other")) == [("raised", "failed", "mail")]
    assert life.told(0, finished("ok"), finished("ok", plan="other")) == [("resolved", "failed", "phone")]
    assert life.told(0, finished("partial")) == []
    assert life.told(0, finished("ok")) == []  # nobody was told of it, so nobody hears of its end


def test_a_digest_is_sent_each_time_to_those_who_want_it_and_leaves_nothing_open() -> None:
    life = Life(replace(ALL, routes=(Route(frozenset({"digest"}), ("mail",)),)))
    report = fact("report.made", text="all is well", message="Report of 2026-11-18")
    found = life.look(0, report)
    assert [(step.action, len(step.tells)) for step in found.steps] == [("raised", 1), ("closed", 0)]
    assert found.open == ()
    assert life.told(0, fact("report.made", text="all is well")) == [("raised", "digest", "mail")]
    assert life.told(0, fact("report.made")) == []  # a report that was only looked at


def test_a_failing_health_check_is_told_again_only_when_another_one_fails() -> None:
    life = Life(ONE)

    def health(*failed: str) -> Record:
        checks = [{"name": name, "result": "fail", "severity": "error", "message": "bad"} for name in failed]
        return fact("health.checked", checks=[*checks, {"name": "clock", "result": "pass"}])

    assert life.told(0, health("space")) == [("raised", "health", "phone")]
    assert life.told(1, health("space")) == []
    assert life.told(2, health("space", "key")) == [("worse", "health", "phone")]
    assert life.told(3, health("key")) == []
    assert life.told(4, health("key", "space")) == []
    assert life.told(5, health()) == [("resolved", "health", "phone")]


def checked(**twins: dict[str, str]) -> Record:
    """Health found that these checks fail, each with the notice that tells of the same trouble."""
    return fact(
        "health.checked",
        checks=[{"name": name, "result": "fail", "message": "bad", "notice": twin} for name, twin in twins.items()],
    )


OLD = {"rule": "overdue", "plan": "docs"}


def test_one_old_backup_is_told_by_the_rule_overdue_and_not_by_health_as_well() -> None:
    life = Life(ONE)
    life.expectations = [Expectation("backup", "docs", "home", 26 * HOUR, START)]
    assert life.told(25 * HOUR, checked(age=OLD)) == []
    assert life.told(27 * HOUR, checked(age=OLD, days=OLD)) == [("raised", "overdue", "phone")]
    assert life.told(28 * HOUR, checked(age=OLD, key={})) == [("raised", "health", "phone")]
    health = next(notice for notice in life.open if notice.rule == "health")
    assert health.title == "Health: key"
    assert health.message.splitlines() == ["key: bad", "What else fails has notices of its own: age"]
    assert life.told(29 * HOUR, checked(age=OLD)) == [("resolved", "health", "phone")]


def test_a_failed_run_is_not_told_again_by_health_until_its_notice_is_over() -> None:
    life = Life(ONE)
    run = finished("failed", run="r", parent="P")
    assert life.told(0, run, checked(part={"run": "r"}, whole={"run": "P"})) == [("raised", "failed", "phone")]
    assert life.told(1, checked(part={"run": "r"}, whole={"run": "P"})) == []
    assert life.told(2, checked(other={"run": "x"})) == [("raised", "health", "phone")]


@pytest.mark.parametrize("twin", [OLD, {"run": "r"}])
def test_health_tells_those_who_do_not_hear_of_the_trouble_otherwise(twin: dict[str, str]) -> None:
    routes = (
        Route(frozenset({"health"}), ("mail",)),
        Route(frozenset({"overdue", "failed"}), ("phone",)),
    )
    life = Life(replace(ALL, routes=routes))
    life.told(0, finished("failed", run="r"))
    assert life.told(1, checked(age=twin)) == [("raised", "health", "mail")]
    only_other_plans = (
        Route(frozenset({"health"}), ("mail",)),
        Route(frozenset({"overdue", "failed"}), ("mail",), frozenset({"other"})),
    )
    life = Life(replace(ALL, routes=only_other_plans))
    life.told(0, finished("failed", run="r"))
    assert life.told(1, checked(age=twin)) == [("raised", "health", "mail")]


def test_errors_of_scripts_are_counted_and_close_by_themselves_after_a_day() -> None:
    life = Life(ONE)
    assert life.told(0, fact("error.recorded", role="crop", message="bad pixel")) == [("raised", "error", "phone")]
    assert life.told(9, *(fact("error.recorded", 9, role="crop") for _ in range(50))) == []
    assert life.told(24 * HOUR) == [("repeated", "error", "phone")]  # it went on after it had been told
    assert actions(life.look(24 * HOUR + 10).steps) == [("closed", "error")]
    assert life.open == ()


def test_critical_errors_of_scripts_are_critical_and_told_beside_other_errors() -> None:
    life = Life(ONE)
    life.look(0, fact("error.recorded", role="crop"), fact("critical.recorded", role="crop"))
    assert [(notice.rule, notice.level) for notice in life.open] == [("error", "error"), ("critical", "critical")]


def test_one_kind_of_trouble_of_a_script_does_not_hide_another() -> None:
    life = Life()
    kinds = ("error.recorded", "validation.failed", "expectation.failed", "error.raised")
    facts = [fact(kind, level="error", message=kind, name="import", role="script") for kind in kinds]
    told = life.told(0, *facts)
    assert len([each for each in told if each[0] == "raised" and each[2] == "phone"]) == len(kinds)
    assert {notice.message for notice in life.open} == set(kinds)


def test_what_a_notice_names_can_be_found() -> None:
    life = Life()
    item = fact("item.failed", level="error", message="Permission denied", path="/srv/a", run="r", operation="backup")
    life.told(0, item, finished("partial", run="r"))
    assert "- /srv/a: Permission denied" in life.open[0].message
    checks = [{"name": "age:docs", "result": "fail", "message": "it is old", "action": "holdfast backup docs"}]
    life = Life()
    life.told(0, fact("health.checked", level="error", checks=checks))
    assert life.open[0].message.splitlines() == ["age:docs: it is old", "-> holdfast backup docs"]


def test_a_silent_failure_of_a_command_is_told_once_and_over_with_its_next_good_run() -> None:
    life = Life(ONE)
    about = {"operation": "run", "plan": "nightly", "vault": "", "run": "r"}
    records = (
        fact("silent.failure", message="it printed nothing", **about),
        fact("run.finished", outcome="failed", **about),
    )
    assert life.told(0, *records) == [("raised", "silent", "phone")]
    good = finished("ok", 9, operation="run", plan="nightly", vault="")
    assert life.told(9, good) == [("resolved", "silent", "phone")]


def test_a_broken_channel_is_told_through_the_others_only() -> None:
    life = Life(ALL)
    failed = {"channel": "phone", "notice": "n", "error": "refused"}
    assert life.told(0, fact("notice.failed", attempt=1, **failed), fact("notice.failed", attempt=2, **failed)) == []
    assert life.told(1, fact("notice.failed", attempt=3, **failed)) == [("raised", "channel", "mail")]
    assert life.told(2, fact("notice.sent", channel="phone", notice="n")) == [("resolved", "channel", "mail")]
    assert life.told(3, fact("notice.failed", attempt=1, refused=True, **failed)) == [("raised", "channel", "mail")]


def test_a_broken_channel_finds_another_one_though_no_route_says_so() -> None:
    life = Life(replace(ALL, routes=(Route(frozenset({"failed"}), ("phone",)),)))
    broken = fact("notice.failed", attempt=3, channel="phone", error="away")
    assert life.told(0, broken) == [("raised", "channel", "mail")]


def test_a_drill_that_proves_nothing_is_critical() -> None:
    life = Life(ONE)
    drill = fact("drill.finished", operation="drill", plan="docs", vault="home", run="r", outcome="failed")
    found = life.look(0, drill, finished("failed", operation="drill", run="r"))
    assert [(notice.rule, notice.level) for notice in found.open] == [("drill", "critical")]
    assert life.told(1, finished("ok", 1, operation="drill")) == [("resolved", "drill", "phone")]


def test_what_explains_a_failure_is_told_to_those_who_want_to_hear_of_failures() -> None:
    life = Life(replace(ALL, routes=(Route(frozenset({"failed"}), ("phone",)),)))
    lock = fact("lock.stuck", vault="home", run="r")
    assert life.told(0, lock, finished("failed", run="r", parent="P"), finished("failed", vault="", run="P")) == [
        ("raised", "lock", "phone")
    ]


def test_a_command_that_succeeds_at_its_second_attempt_leaves_nothing_open() -> None:
    life = Life(ONE)
    about = {"operation": "run", "plan": "nightly", "vault": "", "run": "r"}
    life.look(0, fact("silent.failure", **about), fact("error.recorded", **about), finished("ok", **about))
    assert life.open == ()


def test_a_stuck_lock_is_over_when_it_is_gone_or_a_run_got_through() -> None:
    for end in (fact("lock.removed", vault="home"), finished("ok")):
        life = Life(ONE)
        assert life.told(0, fact("lock.stuck", vault="home")) == [("raised", "lock", "phone")]
        assert life.told(1, end) == [("resolved", "lock", "phone")]


def test_the_same_input_gives_the_same_decisions() -> None:
    records = [finished("failed"), fact("damage.found", vault="home")]
    look: Callable[[], object] = lambda: decide(records, (), (), START, ALL, lambda _record: ()).steps  # noqa: E731
    assert look() == look()
