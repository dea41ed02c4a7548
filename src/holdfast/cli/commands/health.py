"""``holdfast health``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean
from holdfast.cli.errors import FAILED, OK
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session

if TYPE_CHECKING:
    from holdfast.app.health import HealthResult

_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "skip": "dim"}


@click.command("health")
@click.option("--only", multiple=True, metavar="CHECK", help="Only these, such as vault or vault:home. Repeatable.")
@click.option("--skip", multiple=True, metavar="CHECK", help="All but this one. Repeatable.")
@shared(vault=False)
@click.pass_obj
def command(common: Common, only: tuple[str, ...], skip: tuple[str, ...]) -> int:
    """Look whether everything that protects the data does.

    Backups, vaults, disks, keys, clock.

    Every check is made whatever the others find, each within a time limit, and nobody is asked for a password. Exit
    code 0: nothing fails; 1: something does. What was found is also in status/health.json in the state folder.
    With -v, checks that do not apply here are shown too.
    """
    from holdfast.app.health import check_health

    with session(common) as here:
        result = check_health(here.context, only=only, skip=skip)
        _show(here.console, result)
        return OK if result.ok else FAILED


def _show(console: Console, result: HealthResult) -> None:
    from holdfast.monitor.health import as_json

    width = max((len(check.name) for check in result.checks if str(check.finding.result) != "skip"), default=0)
    for check in result.checks:
        found = check.finding
        word = str(found.result)
        console.event(
            "check",
            name=check.name,
            result=word,
            severity=found.severity,
            message=clean(found.message),
            action=clean(found.action),
            **({"notice": as_json(check)["notice"]} if found.twin is not None else {}),
            seconds=round(check.seconds, 3),
        )
        if (word == "skip" and not console.verbose) or (console.quiet and word in ("pass", "skip")):
            continue
        console.line(
            f"{console.paint(word, _COLOURS[word])}  {text.name(check.name):<{width}}  {text.name(found.message)}"
        )
        if found.action and word in ("warn", "fail"):
            console.line(f"      {'':<{width}}  -> {text.name(found.action)}")
    if result.unsaved:
        console.warn(f"what was found could not be kept: {result.unsaved}")
    if not console.quiet:
        console.line(_sentence(result))
    counts = result.counts
    outcome = "ok" if result.ok else "failed"
    names = {"passed": "pass", "warnings": "warn", "failed": "fail", "skipped": "skip"}
    console.event(
        "summary",
        outcome=outcome,
        **{name: counts[word] for name, word in names.items()},
        file=str(result.file),
        seconds=round(result.seconds, 3),
    )


def _sentence(result: HealthResult) -> str:
    made = {word: sum(str(check.finding.result) == word for check in result.checks) for word in _COLOURS}
    told = [
        f"{made['pass']:,} passed",
        text.plural(made["warn"], "warning") if made["warn"] else "",
        f"{made['fail']:,} failed" if made["fail"] else "",
        f"{made['skip']:,} not applicable" if made["skip"] else "",
    ]
    return f"{', '.join(filter(None, told))} ({text.duration(result.seconds)})"
