"""Use case: look back at runs, at one of them in full, and at notices."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.monitor.journal import RunRow
    from holdfast.monitor.record import Record


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """Which runs or notices are meant; empty means all. ``since_ns`` and ``until_ns`` are nanoseconds since 1970.

    The outcome of a run that goes on is called ``running``.
    """

    plan: str | None = None
    vault: str | None = None
    host: str | None = None
    operations: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class RunInFull:
    """One run, the runs that began inside of it, and the facts of all of them, oldest first."""

    run: RunRow
    inner: list[RunRow] = field(default_factory=list)
    facts: list[Record] = field(default_factory=list)


RUNNING = "running"


def history(context: Context, request: HistoryRequest) -> list[RunRow]:
    """The runs that are meant, the newest first."""
    from holdfast.app.journal import open_journal

    with open_journal(context) as journal:
        return journal.runs(
            operations=request.operations,
            plan=request.plan,
            vault=request.vault,
            host=request.host,
            outcomes=["" if outcome == RUNNING else outcome for outcome in request.outcomes],
            since_ns=request.since_ns,
            until_ns=request.until_ns,
            limit=request.limit,
        )


def notices(context: Context, request: HistoryRequest) -> list[Record]:
    """What people were told, or should have been: the facts about notices, the newest first."""
    from holdfast.app.journal import open_journal

    with open_journal(context) as journal:
        return journal.facts(
            kinds=["notice.*"],
            plan=request.plan,
            vault=request.vault,
            host=request.host,
            since_ns=request.since_ns,
            until_ns=request.until_ns,
            limit=request.limit,
        )


def run_in_full(context: Context, id_prefix: str) -> RunInFull:
    """Raises ``NotFound`` where no run has such an id, ``Invalid`` where several have."""
    from holdfast.app.journal import open_journal

    with open_journal(context) as journal:
        run = journal.run(id_prefix)
        inner: list[RunRow] = []
        waiting = [run.id]
        while waiting:
            found = journal.inner_runs(waiting)
            inner += found
            waiting = [each.id for each in found]
        facts = journal.facts(run=run.id, newest_first=False)
        for each in inner:
            facts += journal.facts(run=each.id, newest_first=False)
        return RunInFull(run, inner, sorted(facts, key=lambda fact: fact.seq))
