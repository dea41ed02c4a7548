"""``holdfast history``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean_value
from holdfast.cli.errors import OK
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session
from holdfast.cli.values import WHEN

if TYPE_CHECKING:
    from holdfast.app.history import HistoryRequest, RunInFull
    from holdfast.monitor.journal import RunRow
    from holdfast.monitor.record import Record

SHORT = 14
"""Characters of a run's id that are shown: its millisecond, and 20 random bits for runs of the same one."""

SHOWN_FACTS = 40
LIMIT = 50
OUTCOMES = ("ok", "partial", "failed", "cancelled", "running", "refused")
_COLOURS = {
    "ok": "green",
    "partial": "yellow",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "refused": "dim",
}
_HIDDEN = ("run.started", "run.finished")


@click.command("history")
@click.argument("run", required=False, metavar="[RUN]")
@click.option("--plan", metavar="NAME", help="Only what belongs to this plan.")
@click.option("--vault", metavar="VAULT", help="Only work on this vault, by name or location.")
@click.option("--host", metavar="NAME", help="Only what was done on this machine, where several share a journal.")
@click.option("--operation", "operations", multiple=True, metavar="NAME", help="Only backup, check, ... Repeatable.")
@click.option("--outcome", "outcomes", multiple=True, type=click.Choice(OUTCOMES), help="Only such runs. Repeatable.")
@click.option("--since", type=WHEN, metavar="TIME", help="Only from then on: 2026-11-21, or an age such as 36h, 2w.")
@click.option("--until", type=WHEN, metavar="TIME", help="Only before then.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000_000),
    default=LIMIT,
    show_default=True,
    metavar="N",
    help="At most so many, the newest.",
)
@click.option("--notices", is_flag=True, help="Show notices and their delivery, not runs.")
@shared(vault=False)
@click.pass_obj
def command(
    common: Common,
    run: str | None,
    plan: str | None,
    vault: str | None,
    host: str | None,
    operations: tuple[str, ...],
    outcomes: tuple[str, ...],
    since: int | None,
    until: int | None,
    limit: int,
    notices: bool,
) -> int:
    """Look back at what was done, and at what came of it.

    With RUN (an id, or the beginning of one): that run in full, with the items that failed.
    """
    from holdfast.app import history as app

    request = app.HistoryRequest(plan, vault or common.vault, host, operations, outcomes, since, until, limit)
    if run is not None and request != app.HistoryRequest(limit=limit):
        raise click.UsageError("A run is named: nothing else can be chosen.")
    if notices and (operations or outcomes or run is not None):
        raise click.UsageError("--notices goes with --plan, --vault, --host, --since, --until and --limit.")
    with session(common, hard=True) as here:
        if run is not None:
            _show_run(here.console, app.run_in_full(here.context, run))
        elif notices:
            _show_notices(here.console, app.notices(here.context, request))
        else:
            _show_runs(here.console, app.history(here.context, request), request)
    return OK


def _show_runs(console: Console, runs: list[RunRow], request: HistoryRequest) -> None:
    for run in runs:
        console.event("run", **clean_value(run.to_json()))
    console.event("summary", runs=len(runs))
    if console.json:
        return
    if not runs:
        console.line("No such run is known." if _is_narrowed(request) else "Nothing was done here yet.")
        return
    hosts = len({run.host for run in runs}) > 1
    head = ["Run", "Begun", "Operation", "Plan", "Vault", "Outcome", "Took", "What came of it"]
    rows = [[*_row(run), *([text.name(run.host)] if hosts else [])] for run in runs]
    head += ["Host"] if hosts else []
    for number, line in enumerate(text.table(head, rows, right=frozenset({6}))):
        outcome = _outcome(runs[number - 2]) if number >= 2 else ""
        console.line(
            line.replace(f"  {outcome}  ", f"  {console.paint(outcome, _COLOURS[outcome])}  ") if outcome else line
        )
    if request.limit is not None and len(runs) == request.limit:
        console.remark(f"The newest {len(runs)} are shown; --limit {len(runs) * 10} shows more.")


def _is_narrowed(request: HistoryRequest) -> bool:
    return any(
        (
            request.plan,
            request.vault,
            request.host,
            request.operations,
            request.outcomes,
            request.since_ns,
            request.until_ns,
        )
    )


def _row(run: RunRow) -> list[str]:
    return [
        run.id[:SHORT],
        text.moment(run.started_ns),
        ("· " if run.parent else "") + text.name(run.operation),
        text.name(run.plan),
        text.shorten(text.name(run.vault), 30),
        _outcome(run),
        "" if run.finished_ns is None else text.duration(run.seconds),
        "" if run.finished_ns is None else text.shorten(text.name(run.message), 70),
    ]


def _outcome(run: RunRow) -> str:
    return run.outcome or "running"


def _show_run(console: Console, found: RunInFull) -> None:
    run = found.run
    console.event("run", **clean_value(run.to_json()))
    for inner in found.inner:
        console.event("inner", **clean_value(inner.to_json()))
    for fact in found.facts:
        console.event("fact", **clean_value(fact.to_json()))
    console.event("summary", runs=1 + len(found.inner), facts=len(found.facts))
    if console.json:
        return
    console.line(console.paint(f"Run {run.id}", "bold"))
    for name, value in _details(run):
        console.line(f"  {name + ':':<11} {value}")
    console.line(f"  {'outcome:':<11} {console.paint(_outcome(run), _COLOURS.get(_outcome(run), 'bold'))}")
    error = run.data.get("error")
    if isinstance(error, dict) and error.get("hint"):
        console.line(f"  {'hint:':<11} {text.lines(str(error['hint']))}")
    if figures := _figures(run):
        console.line(f"  {'figures:':<11} {figures}")
    if found.inner:
        console.line("Inside of it:")
        for inner in found.inner:
            where = text.name(inner.vault or inner.plan)
            console.line(
                f"  {inner.id[:SHORT]}  {inner.operation} {where}: {_outcome(inner)}, {text.lines(inner.message)}"
            )
    _show_facts(console, [fact for fact in found.facts if fact.kind not in _HIDDEN])


def _details(run: RunRow) -> list[tuple[str, str]]:
    took = "still running" if run.finished_ns is None else text.duration(run.seconds)
    found = [
        ("operation", text.name(run.operation)),
        ("plan", text.name(run.plan)),
        ("vault", text.name(run.vault)),
        ("host", text.name(run.host)),
        ("begun", text.moment(run.started_ns)),
        ("took", took),
        ("came of it", text.lines(run.message) if run.finished_ns is not None else ""),
    ]
    return [(name, value) for name, value in found if value]


def _figures(run: RunRow) -> str:
    shown = (
        f"{name.replace('_', ' ')} {value:,}"
        for name, value in run.data.items()
        if isinstance(value, int) and not isinstance(value, bool) and value
    )
    return ", ".join(shown)


def _show_facts(console: Console, facts: list[Record]) -> None:
    if not facts:
        return
    console.line("Facts:")
    for fact in facts[:SHOWN_FACTS]:
        console.line(f"  {_fact(console, fact)}")
    if len(facts) > SHOWN_FACTS:
        console.line(f"  ... and {len(facts) - SHOWN_FACTS:,} more (--json lists all of them)")


def _fact(console: Console, fact: Record) -> str:
    colour = {"warning": "yellow", "error": "red", "critical": "red"}.get(fact.level, "dim")
    path = fact.data.get("path")
    shown = text.name(path) if isinstance(path, str) else ""
    where = f"{shown}: " if shown and shown not in fact.message else ""
    return f"{text.moment(fact.at_ns)[11:]}  {console.paint(fact.kind, colour)}  {where}{text.lines(fact.message)}"


def _show_notices(console: Console, facts: list[Record]) -> None:
    for fact in facts:
        console.event("fact", **clean_value(fact.to_json()))
        console.line(f"{text.moment(fact.at_ns)[:10]} {_fact(console, fact)}")
    console.event("summary", facts=len(facts))
    if not facts:
        console.line("Nobody had to be told anything.")
