"""Health: named checks that are all made, each within a time limit, and end in a finding whatever happens."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.values import dataclass

LIMIT_SECONDS = 30.0
"""How long a check may take unless it says otherwise."""
AT_ONCE = 4
_LOOK_SECONDS = 0.2


class Result(StrEnum):
    """What a check came to. ``skip``: it does not apply here, or was switched off."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Twin:
    """What else makes a notice of the same trouble: the rule ``rule`` with what it expects of ``plan``, whenever it
    finds that wrong; or whatever notice is open about the run ``run``."""

    rule: str = ""
    plan: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: one sentence, how grave it is (``info``, ``warning``, ``error``, ``critical``), and what to
    do about it (may be empty). Whoever hears of its ``twin`` need not hear of this as well."""

    result: Result
    message: str
    severity: str = "info"
    action: str = ""
    twin: Twin | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """``look`` answers, or raises; ``name`` is a word and, where there are several of the kind, a colon and what it is
    about: ``vault:home``. It may take ``limit`` seconds."""

    name: str
    look: Callable[[], Finding]
    limit: float = LIMIT_SECONDS


@dataclass(frozen=True, slots=True)
class Examined:
    """A check that was made: its finding, when it ended, and the seconds that it took."""

    name: str
    finding: Finding
    at_ns: int
    seconds: float


def passed(message: str) -> Finding:
    """All is well."""
    return Finding(Result.PASS, message)


def skipped(message: str, action: str = "") -> Finding:
    """There is nothing to look at."""
    return Finding(Result.SKIP, message, "info", action)


def warned(message: str, action: str = "") -> Finding:
    """Worth a person's attention, but nothing is lost yet."""
    return Finding(Result.WARN, message, "warning", action)


def failed(message: str, action: str = "", *, critical: bool = False, twin: Twin | None = None) -> Finding:
    """Something does not do what it is there for; ``critical``: nothing protects the data meanwhile."""
    return Finding(Result.FAIL, message, "critical" if critical else "error", action, twin)


def is_chosen(name: str, words: Iterable[str]) -> bool:
    """Whether one of ``words`` means the check ``name``: by its whole name, or by the part before the colon."""
    return any(word in (name, name.partition(":")[0]) for word in words)


def examine(
    checks: Sequence[Check], *, clock: Clock | None = None, cancel: Cancel | None = None, at_once: int = AT_ONCE
) -> list[Examined]:
    """Make all of ``checks``, up to ``at_once`` at a time; the answers come in the order of the checks.

    What a check raises, and that it does not end in time, is its finding. Its thread is then left behind (it keeps no
    process from ending), so a dead network share delays one check, and no other. Raises ``Cancelled`` only.
    """
    clock = clock or SystemClock()
    answers: dict[int, Examined] = {}
    for index, finding, seconds in _all(checks, cancel, at_once):
        answers[index] = Examined(checks[index].name, finding, clock.now_ns(), seconds)
    return [answers[index] for index in range(len(checks))]


def _all(checks: Sequence[Check], cancel: Cancel | None, at_once: int) -> Iterator[tuple[int, Finding, float]]:
    # Waiting is real even where a test decides what time it is: threads do not wait for a made-up clock.
    steady = SystemClock().monotonic
    waiting = deque(range(len(checks)))
    running: dict[int, float] = {}
    done: queue.SimpleQueue[tuple[int, Finding]] = queue.SimpleQueue()
    while waiting or running:
        while waiting and len(running) < at_once:
            index = waiting.popleft()
            began = steady()
            if _begin(checks[index], index, done):
                running[index] = began
            else:
                yield index, failed("it could not be looked at: the system allows no more threads"), 0.0
        if not running:
            continue
        try:
            index, finding = done.get(timeout=_patience(checks, running, steady()))
        except queue.Empty:
            pass
        else:
            # A check that was given up may still answer: nobody listens any more.
            if index in running:
                yield index, finding, steady() - running.pop(index)
        if cancel is not None:
            cancel.check()
        now = steady()
        for index in [index for index, began in running.items() if now - began >= checks[index].limit]:
            yield index, _too_slow(checks[index]), now - running.pop(index)


def _patience(checks: Sequence[Check], running: dict[int, float], now: float) -> float:
    left = min(began + checks[index].limit - now for index, began in running.items())
    return min(max(left, 0.0), _LOOK_SECONDS)


def _too_slow(check: Check) -> Finding:
    message = f"no answer within {check.limit:g} s"
    return failed(message, "Look whether a disk or a network share hangs; 'health: {limit: 2m}' allows more time.")


def _begin(check: Check, index: int, done: queue.SimpleQueue[tuple[int, Finding]]) -> bool:
    thread = threading.Thread(
        target=lambda: done.put((index, _look(check))), name=f"health check {check.name}", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


def _look(check: Check) -> Finding:
    try:
        return check.look()
    except HoldfastError as error:
        return failed(error.message, error.hint)
    except OSError as error:
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return failed(f"{where}{error.strerror or error}", "Look at its owner and its disk.")
    except BaseException as error:
        return failed(f"it could not be looked at: {type(error).__name__}: {error}")


def gravest(findings: Iterable[Finding]) -> Finding | None:
    """The worst of several findings, the first of equals; None of none."""
    order = [Result.SKIP, Result.PASS, Result.WARN, Result.FAIL]
    severities = ["info", "warning", "error", "critical"]
    return max(findings, key=lambda found: (order.index(found.result), severities.index(found.severity)), default=None)


def as_json(examined: Examined) -> dict[str, Any]:
    """A check as the fact ``health.checked`` and ``status/health.json`` tell it, without its times."""
    found = examined.finding
    told: dict[str, Any] = {
        "name": examined.name,
        "result": str(found.result),
        "severity": found.severity,
        "message": found.message,
        "action": found.action,
    }
    if found.twin is not None:
        told["notice"] = {name: word for name, word in asdict(found.twin).items() if word}
    return told
