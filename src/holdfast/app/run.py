"""Use case: run any command as a monitored run. Output, time, overlap, retries, and success that is none."""

from __future__ import annotations

import os
import re
import shlex
import signal
from dataclasses import field
from typing import Any

from holdfast.app.context import Context
from holdfast.app.overlap import alone
from holdfast.app.promises import Broken, Promises, broken, forms
from holdfast.app.recording import Recording, note, recorded
from holdfast.kernel.errors import Cancelled, Invalid, Locked
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass
from holdfast.monitor.masking import environment_secrets, mask
from holdfast.runners.output import Search, Tail
from holdfast.runners.process import CannotStart, Ended, Heard, Order, run
from holdfast.runners.signals import Signals, caught

_NAME = re.compile(r"[^\W_][\w.-]{0,63}")
_LONGEST_DELAY = 3600.0
_COMMAND_SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and how. ``overlap`` is ``fail``, ``skip`` or ``wait``; ``retry_delay`` (seconds) doubles from one
    retry to the next, up to an hour; ``timeout`` holds for each attempt, and ``grace`` lies between asking and killing.
    ``onto`` takes what it prints (see ``runners.process.Order``)."""

    name: str
    argv: tuple[str, ...]
    cwd: str | None = None
    timeout: float | None = None
    grace: float = 10.0
    overlap: str = "fail"
    retries: int = 0
    retry_delay: float = 10.0
    promises: Promises = field(default_factory=Promises)
    onto: tuple[int | None, int | None] = (1, 2)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: ``broken`` promises make it a failure though the command said that it worked."""

    exit_code: int
    seconds: float
    message: str
    broken: tuple[Broken, ...] = ()
    ended: Ended | None = None
    hint: str = ""

    @property
    def ok(self) -> bool:
        """Whether it worked."""
        return self.exit_code == 0


@dataclass(frozen=True, slots=True)
class Result:
    """How it ended. ``outcome`` is ``ok``, ``failed`` or ``cancelled``; ``exit_code`` is that of the last attempt, 1
    for a silent failure; ``message`` says in a sentence what went wrong, else what was done; ``tail`` is masked."""

    run: str
    outcome: str
    exit_code: int
    message: str
    hint: str = ""
    attempts: tuple[Attempt, ...] = ()
    tail: str = ""
    bytes_printed: int = 0
    skipped: bool = False


def run_command(context: Context, command: Command, heard: Heard) -> Result:
    """Run ``command``; ``heard`` hears its output, beside where it is passed on to.

    Raises ``Invalid`` for a name, a folder or an expression that is none, ``Locked`` where the run before it still goes
    on and ``overlap`` says ``fail``, ``Cancelled`` for a signal while nothing runs. All of that is recorded, as the run
    is, except what is wrong with the call itself.
    """
    if _NAME.fullmatch(command.name) is None:
        raise Invalid(
            f"{command.name!r} cannot be the name of a run",
            hint="Letters, digits, '.', '-' and '_', such as 'nightly-export'. The command comes after '--'.",
        )
    if command.cwd is not None and not os.path.isdir(command.cwd):
        raise Invalid(f"there is no folder {command.cwd} to run in")
    command.promises.pattern()
    line = mask(shlex.join(command.argv), known=environment_secrets(context.environ))[:_COMMAND_SHOWN]
    with caught() as signals, recorded(context, "run", plan=command.name, data={"command": line}) as this:
        try:
            with alone(
                context.paths.state / "runs",
                command.name,
                line,
                signals,
                wait=command.overlap == "wait",
                warn=context.warn,
            ):
                result = _attempts(this, command, heard, signals)
        except Locked as error:
            if command.overlap != "skip":
                raise
            message = f"skipped: {error.message}"
            this.finish("cancelled", message, skipped=True)
            return Result(this.id, "cancelled", 0, message, skipped=True)
        this.finish(result.outcome, result.message, **_told(result))
        return result


def _attempts(this: Recording, command: Command, heard: Heard, signals: Signals) -> Result:
    attempts: list[Attempt] = []
    while True:
        tail = Tail()
        attempt = _attempt(this, command, _hearing(tail, heard), tail, signals)
        attempts.append(attempt)
        last = attempt.ok or signals.first or len(attempts) > command.retries or attempt.ended is None
        if last:
            break
        delay = min(command.retry_delay * 2.0 ** (len(attempts) - 1), _LONGEST_DELAY)
        this.context.warn(f"{command.name} {attempt.message}; attempt {len(attempts) + 1} begins in {delay:g} s")
        if signals.wait(delay):
            raise Cancelled(f"cancelled by {signal.Signals(signals.first).name} before another attempt")
    return _result(this, command, tuple(attempts), tail, signals)


def _attempt(this: Recording, command: Command, heard: Heard, tail: Tail, signals: Signals) -> Attempt:
    promises, context = command.promises, this.context
    pattern = promises.pattern()
    search = None if pattern is None else Search(pattern)

    def hear(stream: int, data: bytes) -> None:
        heard(stream, data)
        if search is not None:
            search.add(stream, data)

    before = forms(promises.files, command.cwd, signals.wait)
    # What the command records itself, with the monitor of its own, belongs to this run.
    environ = {**context.environ, "HOLDFAST_RUN": this.id, "HOLDFAST_RUN_NAME": command.name}
    order = Order(command.argv, command.cwd, environ, command.timeout, command.grace, command.onto)
    try:
        ended = run(order, hear, signals)
    except CannotStart as error:
        return Attempt(int(error.context["exit_code"]), 0.0, f"could not be started: {error.message}", hint=error.hint)
    if ended.left:
        context.warn(f"{command.name}: something that it started still runs; what that prints is not heard any more")
    if ended.code:
        return Attempt(ended.code, ended.seconds, _how(ended, command.timeout), ended=ended)
    _mind_slowness(context, command, ended.seconds)
    found = broken(promises, search, tail.blank, before, command.cwd, ended.seconds)
    for each in found:
        data = {"name": command.name, "expected": each.expected, "actual": each.actual}
        note(context, Fact("silent.failure", f"{command.name}: {each}", "error", data))
    if found:
        message = "said that it worked, but " + "; ".join(map(str, found))
        return Attempt(1, ended.seconds, message, tuple(found), ended)
    return Attempt(0, ended.seconds, "", ended=ended)


def _mind_slowness(context: Context, command: Command, seconds: float) -> None:
    most = command.promises.most
    if most is not None and seconds > most:
        message = f"{command.name} took {seconds:.1f} s, longer than the {most:g} s expected"
        data = {"name": command.name, "expected": f"at most {most:g} s", "actual": f"{seconds:.1f} s"}
        context.emit(Fact("expectation.failed", message, "warning", data))


def _result(this: Recording, command: Command, attempts: tuple[Attempt, ...], tail: Tail, signals: Signals) -> Result:
    last = attempts[-1]
    of = f" (attempt {len(attempts)} of {command.retries + 1})" if command.retries else ""
    message = f"{command.name} {last.message}{of}"
    outcome = "failed"
    if signals.first:
        outcome = "cancelled"
        message = f"{command.name} was cancelled by {signal.Signals(signals.first).name}"
    elif last.ok:
        outcome, message = (
            "ok",
            f"{command.name} ended well after {last.seconds:.1f} s{of if len(attempts) > 1 else ''}",
        )
    known = environment_secrets(this.context.environ)
    return Result(
        this.id, outcome, last.exit_code, message, last.hint, attempts, mask(tail.text(), known=known), tail.total
    )


def _told(result: Result) -> dict[str, Any]:
    """The data of ``run.finished``."""
    last = result.attempts[-1]
    data: dict[str, Any] = {
        "exit_code": result.exit_code,
        "command_seconds": round(last.seconds, 3),
        "output_bytes": result.bytes_printed,
        "output_tail": result.tail,
        "attempts": [
            {"exit_code": each.exit_code, "seconds": round(each.seconds, 3), "message": each.message}
            for each in result.attempts
        ],
        "problems": sum(len(each.broken) or not each.ok for each in result.attempts),
    }
    if last.ended is not None and last.ended.signal:
        data["signal"] = signal.Signals(last.ended.signal).name
    if last.ended is not None and last.ended.timed_out:
        data["timed_out"] = True
    if last.broken:
        data["silent"] = [{"expected": each.expected, "actual": each.actual} for each in last.broken]
    if result.outcome == "failed":
        data["error"] = {"code": "error", "message": result.message, "hint": result.hint}
    return data


def _how(ended: Ended, timeout: float | None) -> str:
    if ended.timed_out:
        return f"was ended, because it took longer than its limit of {timeout:g} s"
    if ended.signal:
        return f"was killed by {signal.Signals(ended.signal).name}"
    return f"failed with exit code {ended.code}"


def _hearing(tail: Tail, heard: Heard) -> Heard:
    def hear(stream: int, data: bytes) -> None:
        tail.add(data)
        heard(stream, data)

    return hear
