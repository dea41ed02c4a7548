"""``holdfast drill``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.app.hearing import Hearing
from holdfast.cli import drilltext
from holdfast.cli.console import Console, clean_value
from holdfast.cli.errors import DAMAGE, OUTCOMES
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session
from holdfast.cli.values import DRILL_SNAPSHOT, SAMPLE
from holdfast.files.whole import replace_file
from holdfast.kernel.events import Emit, Event, Fact

if TYPE_CHECKING:
    from holdfast.vaults.drill.model import Sample

ENDINGS = (".html", ".json", ".txt")
_TOLD = ("damage.found", "drill.finished", "drill.shrunk")


@click.command("drill")
@click.argument("plan", required=False, metavar="[PLAN]")
@click.option("--snapshot", type=DRILL_SNAPSHOT, metavar="WHICH", help="latest, random, or an id. [default: latest]")
@click.option("--sample", type=SAMPLE, metavar="SIZE|PERCENT", help="Restore only so much, at random: 5%, or 20G.")
@click.option("--scratch", metavar="DIR", help="Restore below DIR. [default: in the cache folder]")
@click.option("--keep", is_flag=True, help="Leave what was restored; you remove it.")
@click.option("--no-databases", is_flag=True, help="Load no dumps, open no SQLite files.")
@click.option("--report", metavar="FILE", help="Write a report; FILE ends in .html, .json or .txt.")
@click.option("--workers", type=click.IntRange(0, 256), metavar="N", help="Worker processes. [default: by the machine]")
@shared(no_lock=True)
@click.pass_obj
def command(
    common: Common,
    plan: str | None,
    snapshot: str | None,
    sample: Sample | None,
    scratch: str | None,
    keep: bool,
    no_databases: bool,
    report: str | None,
    workers: int | None,
) -> int:
    """Prove that a snapshot comes back, databases included.

    Restores it into a private scratch folder, compares every byte with the vault and with files that are unchanged,
    loads dumps into servers of its own, opens SQLite files, asks the plan's queries and runs its commands there.
    Then everything is removed. It tells how long recovery takes, and what is not proven. Exit code 13: it does not
    come back as it should.
    """
    from holdfast.app.drill import at_vault, request_of
    from holdfast.app.drill_run import run_drill

    if report is not None and not report.endswith(ENDINGS):
        raise click.UsageError(f"--report wants a file that ends in {', '.join(ENDINGS)}.")
    if report is not None and not os.access(os.path.dirname(os.path.abspath(report)), os.W_OK | os.X_OK):
        raise click.UsageError(f"--report: no file can be written at {report}.")  # said before hours of work
    with session(common) as here:
        named = None if plan is None else here.context.required().plan(plan)
        request = request_of(
            named,
            snapshot=snapshot,
            sample=sample,
            scratch=scratch,
            keep=keep,
            databases=not no_databases,
            workers=workers,
        )
        context = replace(here.context, emit=Hearing(_all_but_the_report(here.console)))
        context = at_vault(context, named, common.vault)
        data = run_drill(context, request)
        if report is not None:
            _write(report, data)
        return _show(here.console, data, report)


def _all_but_the_report(console: Console) -> Emit:
    """For people, the report tells what was found; with ``--quiet`` damage is told as it is found."""

    def emit(event: Event) -> None:
        told = ("drill.finished",) if console.quiet else _TOLD
        if console.json or not (isinstance(event, Fact) and event.kind in told):
            console.emit(event)

    return emit


def _show(console: Console, data: dict[str, Any], report: str | None) -> int:
    if not console.quiet:
        for line in drilltext.lines(data):
            console.line(line)
        if data["kept"]:
            console.line(f"\nWhat was restored is kept in {data['kept']}; remove it when you are done.")
        if report is not None:
            console.remark(f"The report is in {report}.")
    console.event("summary", **clean_value(data))
    return DAMAGE if data["outcome"] == "failed" else OUTCOMES[data["outcome"]]


def _write(path: str, data: dict[str, Any]) -> None:
    """Write the report, whole or not at all."""
    import json

    if path.endswith(".html"):
        from holdfast.cli.drillhtml import page

        words = page(data)
    elif path.endswith(".json"):
        words = json.dumps(clean_value(data), indent=2, ensure_ascii=False) + "\n"
    else:
        words = "\n".join(drilltext.lines(data)) + "\n"
    replace_file(Path(path), words.encode("utf-8", "replace"), 0o600)
