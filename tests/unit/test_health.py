"""Health checks: every one is made, and what goes wrong with one is its finding and nobody else's trouble."""

from __future__ import annotations

import threading

import pytest

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Unavailable
from holdfast.monitor.health import (
    Check,
    Finding,
    Result,
    examine,
    failed,
    gravest,
    is_chosen,
    passed,
    skipped,
    warned,
)


def raises(error: BaseException) -> Finding:
    raise error


def test_what_a_check_raises_is_its_finding_and_the_others_are_made() -> None:
    checks = [
        Check("one", lambda: raises(Unavailable("the server is away", hint="Wait."))),
        Check("two", lambda: raises(ZeroDivisionError("by zero"))),
        Check("three", lambda: raises(SystemExit(3))),
        Check("four", lambda: passed("fine")),
    ]
    found = examine(checks)
    assert [each.name for each in found] == ["one", "two", "three", "four"]
    assert [str(each.finding.result) for each in found] == ["fail", "fail", "fail", "pass"]
    assert (found[0].finding.message, found[0].finding.action) == ("the server is away", "Wait.")
    assert "ZeroDivisionError" in found[1].finding.message


def test_a_check_that_hangs_fails_alone() -> None:
    """More of them than are made at once: they do not use up the places of the others."""
    never = threading.Event()
    hanging = [Check(f"hang:{n}", lambda: passed("late") if never.wait() else passed(""), 0.05) for n in range(6)]
    try:
        found = examine([*hanging, Check("well", lambda: passed("fine"))], at_once=2)
        assert [str(each.finding.result) for each in found] == ["fail"] * 6 + ["pass"]
        assert "no answer within 0.05 s" in found[0].finding.message
    finally:
        never.set()


def test_checks_are_made_beside_each_other() -> None:
    """Four that wait for one another can only pass together."""
    meeting = threading.Barrier(4)

    def meet() -> Finding:
        meeting.wait(20)
        return passed("met")

    found = examine([Check(str(n), meet) for n in range(4)], at_once=4)
    assert {each.finding.message for each in found} == {"met"}


def test_a_stop_is_heard_while_a_check_hangs() -> None:
    never, cancel = threading.Event(), Cancel()

    def stop_and_hang() -> Finding:
        cancel.cancel("enough")
        never.wait()
        return passed("")

    try:
        with pytest.raises(Cancelled, match="enough"):
            examine([Check("one", stop_and_hang, 600)], cancel=cancel)
    finally:
        never.set()


def test_no_checks_no_answers() -> None:
    assert examine([]) == []


def test_names_are_chosen_whole_or_by_their_kind() -> None:
    assert is_chosen("vault:home", ["vault"]) and is_chosen("vault:home", ["space", "vault:home"])
    assert not is_chosen("vault:home", ["vault:cloud", "vau", "home"])


def test_the_gravest_finding() -> None:
    worse = failed("lost", critical=True)
    findings = [skipped("s"), passed("p"), failed("f"), worse, warned("w")]
    assert gravest(findings) is worse and gravest(findings[:2]) == passed("p") and gravest([]) is None
    assert [str(result) for result in Result] == ["pass", "warn", "fail", "skip"]
