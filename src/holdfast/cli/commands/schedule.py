"""``holdfast schedule``."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.options import Common, shared
from holdfast.cli.session import Session, session
from holdfast.cli.values import DURATION

if TYPE_CHECKING:
    from holdfast.app.fire import Fired
    from holdfast.app.schedules import Change

_BACKENDS = click.Choice(["auto", "cron", "systemd", "systemd-system", "launchd"])


@click.group("schedule")
@shared(vault=False)
def command() -> None:
    """Let this machine start everything by itself.

    Backups, checks, drills and copies at the times that each plan says (schedule, check, drill, copy), and health,
    reports and notices at those of 'schedules'.
    """


@command.command("install")
@click.option("--backend", type=_BACKENDS, help="What starts them. [default: as configured, else what runs here]")
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be written.")
@shared(vault=False)
@click.pass_obj
def install(common: Common, backend: str | None, dry_run: bool) -> None:
    """Write what starts the plans into cron, systemd or launchd. Running it again brings it up to date.

    Nothing else that stands there is touched. What cannot be relied on is refused, and everything stays as it was.
    """
    from holdfast.app.schedules import install

    with session(common) as here:
        change = install(here.context, backend or "", dry_run=dry_run)
        _show(here, change, dry_run=dry_run)
        for remark in change.remarks:
            here.console.warn(remark)
        if not here.console.quiet:
            done = "nothing to change" if change.is_none else "would be installed" if dry_run else "installed"
            here.console.line(f"{done}, with {change.starter}. 'holdfast schedule list' shows what starts when.")
        here.console.event(
            "summary",
            outcome="ok",
            backend=change.starter,
            changed=not change.is_none,
            dry_run=dry_run,
            texts=dict(change.after),
        )


def _show(here: Session, change: Change, *, dry_run: bool) -> None:
    """Dry: every line that comes and goes. Else only the places."""
    for place in sorted({*change.before, *change.after}):
        before, after = change.before.get(place, ""), change.after.get(place, "")
        if before == after or here.console.quiet:
            continue
        if not dry_run:
            here.console.line(f"{'written' if after else 'removed'}: {text.name(place)}")
            continue
        for line in difflib.unified_diff(before.splitlines(), after.splitlines(), place, place, lineterm="", n=1):
            here.console.line(text.lines(line))


@command.command("uninstall")
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would go.")
@shared(vault=False)
@click.pass_obj
def uninstall(common: Common, dry_run: bool) -> None:
    """Take away what 'schedule install' wrote for this configuration."""
    from holdfast.app.schedules import uninstall

    with session(common) as here:
        gone = uninstall(here.context, dry_run=dry_run)
        for change in gone:
            _show(here, change, dry_run=dry_run)
        if not gone and not here.console.quiet:
            here.console.line("Nothing is installed for this configuration.")
        here.console.event("summary", outcome="ok", removed=[change.starter for change in gone], dry_run=dry_run)


@command.command("list", short_help="Show what starts when, and whether it is installed.")
@shared(vault=False)
@click.pass_obj
def listing(common: Common) -> None:
    """Show what has its times: when it last started, when it starts next, and whether it is installed."""
    from holdfast.app.fire import last_start, next_start
    from holdfast.app.schedules import drift, installed, state_folder, works

    with session(common, hard=True) as here:
        context, console = here.context, here.console
        every = works(context.required())
        rows = [("WHAT", "SCHEDULE", "LAST START", "NEXT START")]
        for work in every:
            last, upcoming = last_start(state_folder(context), work), next_start(context, work)
            rows.append((work.name, work.schedule, _moment(last, "never"), _moment(upcoming, "never")))
            console.event("schedule", name=work.name, schedule=work.schedule, last_ns=last, next_ns=upcoming)
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            console.line("  ".join(cells).rstrip())
        known, why = installed(context), drift(context)
        if known is None:
            console.warn("Nothing of this is installed: 'holdfast schedule install' does that.")
        elif why:
            console.warn(f"{why[0].upper()}{why[1:]}. 'holdfast schedule install' mends that.")
        elif not console.quiet:
            console.line(f"Installed with {known.starter} since {text.moment(known.at_ns)}.")
        starter = None if known is None else known.starter
        console.event("summary", outcome="ok", installed=starter, drift=why or None)


@command.command("next")
@click.option(
    "--count", type=click.IntRange(1, 1000), default=10, metavar="N", show_default=True, help="How many starts to show."
)
@shared(vault=False)
@click.pass_obj
def upcoming(common: Common, count: int) -> None:
    """Show what starts next, in order. Clocks that change are taken into account."""
    from holdfast.app.schedules import upcoming

    with session(common, hard=True) as here:
        found = upcoming(here.context, count)
        for instant, work in found:
            here.console.line(f"{text.moment(instant)}  {work.name}")
            here.console.event("start", at_ns=instant, name=work.name)
        if not found:
            here.console.line("Nothing has a schedule.")
        here.console.event("summary", outcome="ok", starts=len(found))


@command.command("fire", hidden=True)
@click.argument("name")
@click.option("--wait", type=DURATION, default=None, metavar="TIME", help="Begin so much later.")
@shared(vault=False)
@click.pass_obj
def fire(common: Common, name: str, wait: float | None) -> int:
    """What timers call: start one thing, and stay silent unless it fails (cron mails what is printed)."""
    from holdfast.app.fire import fire

    with session(common) as here:
        return _tell(here, fire(here.context, name, wait=wait or 0.0))


@command.command("catch-up", short_help="Start what was missed while the machine was off.")
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what was missed.")
@shared(vault=False)
@click.pass_obj
def catch_up(common: Common, dry_run: bool) -> int:
    """Start what was missed while the machine was off or asleep: each thing once, one after the other."""
    from holdfast.app.fire import catch_up

    with session(common) as here:
        code, count = 0, 0
        for fired in catch_up(here.context, dry_run=dry_run):
            count += 1
            if dry_run:
                here.console.line(f"missed: {fired.work.name}")
                here.console.event("missed", name=fired.work.name)
            else:
                code = code or _tell(here, fired)
        here.console.event("summary", outcome="failed" if code else "ok", missed=count, dry_run=dry_run)
        return code


def _tell(here: Session, fired: Fired) -> int:
    if fired.exit_code:
        here.console.warn(f"{fired.work.name} ended with exit code {fired.exit_code}. It said:")
        for line in fired.output.splitlines():
            here.console.remark(text.lines(line))
    if fired.exit_code is None and here.context.ask is not None:  # else cron would mail it
        here.console.remark(f"{fired.work.name} is still running from its last start.")
    here.console.event("fired", name=fired.work.name, exit_code=fired.exit_code, output=fired.output)
    return fired.exit_code or 0


def _moment(instant: int | None, otherwise: str) -> str:
    return otherwise if instant is None else text.moment(instant)
