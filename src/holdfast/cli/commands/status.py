"""``holdfast status``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean, clean_value
from holdfast.cli.errors import OK
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session

if TYPE_CHECKING:
    from holdfast.app.overview import Overview, Standing
    from holdfast.monitor.journal import RunRow
    from holdfast.monitor.notice import Notice

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.:-=+*#"


@click.command("status")
@shared(vault=False)
@click.pass_obj
def command(common: Common) -> int:
    """Show how every plan and vault stands.

    Problems first; the last good backup and its age, the size, the next run, the last drill. Vaults are shown that
    were used without a plan, and at the end the notices that are open. The exit code is 0 whatever is shown: 'holdfast
    health' fails.
    """
    from holdfast.app.overview import overview
    from holdfast.monitor.noticebook import notice_json

    with session(common, hard=True) as here:
        found = overview(here.context)
        for standing in found.standings:
            kind = "command" if standing.is_command else "plan" if standing.plan else "vault"
            here.console.event(kind, **clean_value(_fields(standing)))
        for notice in found.notices:
            here.console.event("notice", **clean_value(notice_json(notice)))
        _tell(here.console, found)
    return OK


def _tell(console: Console, found: Overview) -> None:
    with_problems = sum(bool(standing.problems) for standing in found.standings)
    counts = {"standings": len(found.standings), "with_problems": with_problems, "notices": len(found.notices)}
    console.event("summary", **counts)
    if console.json:
        return
    if not found.standings and not found.notices:
        console.line("Nothing was backed up here yet: holdfast backup ~/Documents")
        return
    for standing in found.standings:
        _tell_one(console, standing, found.at_ns)
    _tell_notices(console, found.notices, found.at_ns)
    good = len(found.standings) - with_problems
    words = (
        f"{text.plural(with_problems, 'needs', 'need')} attention, {good} in order" if with_problems else "All in order"
    )
    if found.notices:
        words += f"; {text.plural(len(found.notices), 'notice is', 'notices are')} open"
    console.line(console.paint(f"{words}.", "red" if with_problems or found.notices else "green"))


def _tell_notices(console: Console, notices: tuple[Notice, ...], now: int) -> None:
    """The open ones, a line each; those that nobody knows of first."""
    from holdfast.app.overview import in_words

    if not notices:
        return
    console.line("Open notices ('holdfast notify list' tells more):")
    for notice in sorted(notices, key=lambda notice: notice.acknowledged_ns is not None):
        known = ", acknowledged" if notice.acknowledged_ns is not None else ""
        level = console.paint(f"{notice.level:<8}", "dim" if known else "red")
        age = in_words(max(0, now - notice.opened_ns))
        console.line(f"    {notice.id[:6]}  {level}  {text.lines(notice.title)}  ({age} ago{known})")
    console.line()


def _tell_one(console: Console, standing: Standing, now: int) -> None:
    mark = console.paint("!!", "red") if standing.problems else console.paint("ok", "green")
    name = text.name(standing.plan) if standing.plan else f"{text.name(standing.vaults[0])} (no plan)"
    vaults = f"  in {', '.join(map(text.name, standing.vaults))}" if standing.plan and standing.vaults else ""
    vaults += "  (command)" if standing.is_command else ""
    console.line(f"{mark}  {console.paint(name, 'bold')}{vaults}")
    for problem in standing.problems:
        console.line(f"    {console.paint(text.lines(problem), 'red')}")
    for label, value in _lines(standing, now):
        console.line(f"    {console.paint(f'{label:<12}', 'dim')}{value}")
    console.line()


def _lines(standing: Standing, now: int) -> Iterator[tuple[str, str]]:
    from holdfast.app.overview import in_words

    if standing.running is not None:
        yield "running", f"since {text.moment(standing.running.started_ns)}"
    if standing.success is None:
        yield "last good", "none yet"
    elif standing.age_ns is not None and standing.success.finished_ns is not None:
        expected = f", one expected every {in_words(standing.every_ns)}" if standing.every_ns is not None else ""
        whole = "" if standing.success.outcome == "ok" else ", not whole"
        when = f"{text.moment(standing.success.finished_ns)}{whole}"
        yield "last good", f"{in_words(standing.age_ns)} ago ({when}){expected}"
    if standing.sizes:
        trend = _trend(standing.sizes)
        yield "size", f"{text.size(standing.sizes[-1])}{'  ' + trend if trend else ''}"
    if standing.next_ns is not None:
        yield "next", f"{text.moment(standing.next_ns)} (in {in_words(max(0, standing.next_ns - now))})"
    elif standing.schedule:
        yield "next", f"nothing starts it: {standing.schedule} is not installed (holdfast schedule install)"
    if standing.drill is not None:
        seconds = standing.drill.data.get("seconds")
        took = f", restored in {text.duration(seconds)}" if isinstance(seconds, (int, float)) else ""
        outcome = text.name(str(standing.drill.data.get("outcome", "")))
        yield "last drill", f"{in_words(max(0, now - standing.drill.at_ns))} ago: {outcome}{took}"


def _trend(sizes: tuple[int, ...]) -> str:
    """The sizes as little bars, and what the first of them was."""
    import sys

    if len(sizes) < 2:
        return ""
    bars = _BARS if "utf" in (sys.stdout.encoding or "").lower() else _ASCII_BARS
    least, most = min(sizes), max(sizes)
    drawn = "".join(bars[(size - least) * 7 // (most - least)] if most > least else bars[3] for size in sizes)
    return f"{drawn}  (was {text.size(sizes[0])} {text.plural(len(sizes) - 1, 'backup')} ago)"


def _fields(standing: Standing) -> dict[str, Any]:
    from holdfast.monitor.record import time_text

    drill = standing.drill
    return {
        "plan": standing.plan,
        "vaults": list(standing.vaults),
        "last": _run(standing.last),
        "last_success": _run(standing.success),
        "running": None if standing.running is None else standing.running.id,
        "age_seconds": None if standing.age_ns is None else standing.age_ns // 10**9,
        "expected_every_seconds": None if standing.every_ns is None else standing.every_ns // 10**9,
        "schedule": standing.schedule,
        "next": None if standing.next_ns is None else time_text(standing.next_ns),
        "sizes": list(standing.sizes),
        "drill": None if drill is None else {"at": time_text(drill.at_ns), **drill.data},
        "problems": [clean(problem) for problem in standing.problems],
    }


def _run(run: RunRow | None) -> dict[str, Any] | None:
    return None if run is None else run.to_json()
