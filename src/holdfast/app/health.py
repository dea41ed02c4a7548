"""Use case: look whether everything that should protect the data does, and leave it in ``status/health.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.app.context import Context, hostname
from holdfast.app.health_machine import machine_checks
from holdfast.app.health_own import own_checks
from holdfast.app.health_plans import plan_checks
from holdfast.app.health_scene import Past, Scene, read_past, set_scene
from holdfast.app.health_schedule import schedule_checks
from holdfast.app.health_vaults import vault_checks
from holdfast.app.recording import Ending, note, recording
from holdfast.app.status import write
from holdfast.config.healthsettings import HealthChoice
from holdfast.kernel.errors import Invalid
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass
from holdfast.monitor.health import (
    Check,
    Examined,
    Finding,
    Result,
    as_json,
    examine,
    failed,
    is_chosen,
    passed,
    skipped,
    warned,
)
from holdfast.monitor.place import status_folder
from holdfast.monitor.plain import plain
from holdfast.monitor.record import time_text
from holdfast.monitor.report.words import plural

if TYPE_CHECKING:
    from holdfast.monitor.journal import Journal

FILE = "health.json"
FAMILIES = (
    *("config", "journal", "age", "days", "outcome", "disk", "vault", "space", "forecast", "key"),
    *("state", "databases", "status", "outbox", "logs", "clock", "schedule", "tracker", "git", "own"),
)
"""What checks there are: the part of a name before the colon."""
FINDERS = (plan_checks, vault_checks, schedule_checks, machine_checks, own_checks)
_ORDER = (Result.FAIL, Result.WARN, Result.PASS, Result.SKIP)


@dataclass(frozen=True, slots=True)
class HealthResult:
    """``checks`` were made now, the worst first; ``counts`` and ``ok`` are over all that are known, with those of
    earlier times that were not made now. ``file`` has them all, unless ``unsaved`` says why not."""

    checks: tuple[Examined, ...]
    counts: dict[str, int]
    file: Path
    unsaved: str
    seconds: float
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing fails."""
        return not self.counts["fail"] and not self.unsaved


def _ending(result: HealthResult) -> Ending:
    return Ending("ok" if result.ok else "failed", result.message, dict(result.counts))


def check_health(context: Context, *, only: Sequence[str] = (), skip: Sequence[str] = ()) -> HealthResult:
    """Make every check, or those that ``only`` and ``skip`` name (a whole name, or its part before the colon).

    Nothing that one of them finds or does keeps the others from being made; the result is always written. Leaves the
    fact ``health.checked``. Raises ``Invalid`` for words that mean no check, and ``Cancelled``.
    """
    _refuse_unknown((*only, *skip))  # a mistyped command is not a run
    return _look(context, only=only, skip=skip)


@recording("health", _ending, of_vault=False)
def _look(context: Context, *, only: Sequence[str], skip: Sequence[str]) -> HealthResult:
    started = context.clock.monotonic()
    scene, first = _first(context)
    checks = list(chain(*(find(scene) for find in FINDERS)))
    off = [check.name for check in checks if is_chosen(check.name, scene.choice.skip)]
    made = [check for check in checks if check.name not in off and _is_wanted(check.name, only, skip)]
    found = [each for each in first if _is_wanted(each.name, only, skip)]
    if only and not made and not found:
        known = ", ".join(check.name for check in checks)
        raise Invalid(f"there is no check {', '.join(only)} here", hint=f"There are {known}.")
    found += examine(made, clock=context.clock, cancel=context.cancel)
    found += [_switched_off(context, name) for name in off if _is_wanted(name, only, skip)]
    found.sort(key=lambda each: _ORDER.index(each.finding.result))
    seconds = context.clock.monotonic() - started
    path = status_folder(context.paths.state) / FILE
    document = _document(
        context, found, {each.name for each in first} | {check.name for check in checks}, path, seconds
    )
    unsaved = ""
    try:
        write(path, plain(document))
    except OSError as error:
        unsaved = f"{path}: {error.strerror}"
    result = HealthResult(tuple(found), document["counts"], path, unsaved, seconds)
    fact = _fact(document, result)
    note(context, fact)
    return replace(result, message=fact.message)


def _refuse_unknown(words: Iterable[str]) -> None:
    for word in words:
        if word.partition(":")[0] not in FAMILIES:
            raise Invalid(f"there is no check named {word!r}", hint=f"There are: {', '.join(FAMILIES)}.")


def _is_wanted(name: str, only: Sequence[str], skip: Sequence[str]) -> bool:
    return (not only or is_chosen(name, only)) and not is_chosen(name, skip)


def _first(context: Context) -> tuple[Scene, list[Examined]]:
    """The scene, and the checks of what it is built from: the configuration and the journal."""
    scenes: list[Scene] = []
    pasts: list[Past] = []
    found = examine([Check("config", partial(_configuration, context, scenes))], clock=context.clock)
    bare = Scene(context, HealthChoice(), None, (), {}, (), context.clock.now_ns())
    scene = scenes[0] if scenes else bare
    # Taking in what a machine has recorded for weeks takes its time.
    look = partial(_journal, scene, pasts) if scenes else _unknown_journal
    check = Check("journal", look, scene.choice.limit * 4)
    found += examine([check], clock=context.clock, cancel=context.cancel)
    return replace(scene, past=pasts[0] if pasts else None), found


def _configuration(context: Context, scenes: list[Scene]) -> Finding:
    try:
        scene = set_scene(context)
    except Invalid as error:
        return failed(*_mistakes(error))
    scenes.append(scene)
    if scene.settings is None:
        return skipped("there is no configuration", "'holdfast config init' writes one.")
    return passed(f"{scene.settings.path}: no mistakes")


def _mistakes(error: Invalid) -> tuple[str, str]:
    """How many, and the first of them: a check has one line."""
    mistakes = error.context.get("mistakes")
    if not mistakes:
        return error.message, error.hint
    first = mistakes[0]
    many = f"{plural(len(mistakes), 'mistake')}, the first in line {first['line']}"
    where = f"{first['key']}: " if first["key"] else ""
    return f"{error.context['file']}: {many}: {where}{first['message']}", "holdfast config check"


def _journal(scene: Scene, pasts: list[Past]) -> Finding:
    from holdfast.app.journal import open_journal

    said: list[str] = []
    journal: Journal = open_journal(replace(scene.context, warn=said.append))
    try:
        pasts.append(read_past(journal, scene))
    finally:
        journal.close()
    if said:
        return warned(said[0], "holdfast history")
    return passed("it can be read, and has everything that was recorded on this machine")


def _unknown_journal() -> Finding:
    return failed("the configuration, which says where it is, cannot be used", "See the check 'config'.")


def _switched_off(context: Context, name: str) -> Examined:
    return Examined(name, skipped("switched off in the configuration"), context.clock.now_ns(), 0.0)


def _document(
    context: Context, found: Sequence[Examined], known: set[str], path: Path, seconds: float
) -> dict[str, Any]:
    """What is written: what was found now, and of what was not looked at now what was found last."""
    now = [{**as_json(each), "at": time_text(each.at_ns), "seconds": round(each.seconds, 3)} for each in found]
    fresh = {each.name for each in found}
    now += [each for each in _former(path) if each["name"] in known - fresh]
    counts = {str(result): sum(each["result"] == result for each in now) for result in reversed(_ORDER)}
    return {
        "schema": 1,
        "at": time_text(context.clock.now_ns()),
        "host": hostname(),
        "ok": not counts["fail"],
        "counts": counts,
        "seconds": round(seconds, 3),
        "checks": now,
    }


def _former(path: Path) -> Iterator[dict[str, Any]]:
    try:
        checks = json.loads(path.read_bytes())["checks"]
        yield from (each for each in checks if isinstance(each["name"], str) and each["result"] in set(Result))
    except (OSError, ValueError, KeyError, TypeError):
        return


def _fact(document: dict[str, Any], result: HealthResult) -> Fact:
    counts = result.counts
    bad = [each["name"] for each in document["checks"] if each["result"] == "fail"]
    if bad:
        message = f"Health: {plural(len(bad), 'check fails', 'checks fail')}: {', '.join(bad[:5])}"
        message += " ..." if len(bad) > 5 else ""
    else:
        message = f"Health: {plural(counts['pass'], 'check')} passed, {plural(counts['warn'], 'warning')}"
    # A line of the outbox has an end: what is well needs fewer words, and comes last.
    order = [str(result) for result in _ORDER]
    told = sorted(document["checks"], key=lambda each: order.index(each["result"]))
    checks = [
        {name: str(each.get(name, ""))[:300] for name in ("name", "result", "severity", "message", "action")}
        | ({"notice": each["notice"]} if isinstance(each.get("notice"), dict) else {})
        if each["result"] in ("fail", "warn") or len(told) <= 60
        else {"name": each["name"], "result": each["result"]}
        for each in told
    ]
    level = "error" if counts["fail"] else "warning" if counts["warn"] else "info"
    return Fact("health.checked", message, level, {"ok": document["ok"], "counts": counts, "checks": checks})
