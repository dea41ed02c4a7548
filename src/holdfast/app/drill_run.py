"""Use case: a drill as a run that is recorded, beside those before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from holdfast.app.context import Context
from holdfast.app.drill import DrillRequest, drill, sentence
from holdfast.app.drill_report import report_data
from holdfast.app.recording import label, recorded
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.pool import Pool, default_size

TREND = 12
"""So many earlier drills are in a report."""

Drills = list[Mapping[str, Any]]


def run_drill(context: Context, request: DrillRequest) -> dict[str, Any]:
    """Drill, and return the report (``app.drill_report.report_data``). What is wrong is in it; raises as ``drill``."""
    said = {"snapshot": request.snapshot, "sample": request.sample is not None}
    with (
        _before(context, request.plan_name, label(context)) as before,
        recorded(context, "drill", plan=request.plan_name, vault=label(context), data=said) as run,
    ):
        result = drill(run.context, request, before)
        data = report_data(result)
        run.finish(
            str(result.outcome),
            sentence(result),
            snapshot=data["snapshot"],
            total_files=data["files_total"],
            total_bytes=data["bytes_total"],
            files_compared=data["compared"]["files"],
            bytes_compared=data["compared"]["bytes"],
            recovery_seconds=data["seconds"],
            data_age_seconds=data["data_age_seconds"],
            databases=len(result.databases),
            damage=len(result.damage),
            problems=len(result.proof.unproven),
        )
    return data


def last_drills(context: Context, plan: str, vault: str) -> Drills:
    """The data of the last drills of ``plan`` (empty: of those without one) from ``vault`` that the journal knows,
    newest first."""
    from holdfast.app.journal import open_journal

    with open_journal(context) as journal:
        facts = journal.facts(kinds=("drill.finished",), plan=plan or None, vault=vault, limit=4 * TREND)
    return [fact.data for fact in facts if fact.plan == plan][:TREND]


@contextmanager
def _before(context: Context, plan: str, vault: str) -> Iterator[Callable[[], Drills]]:
    """What gives the earlier drills; they are looked up by another process meanwhile.

    The journal's library takes 0.3 s to import, which would count as time of the drill; the key is derived in that
    time. A journal that cannot be read costs the trend, not the drill.
    """

    def start() -> Callable[[str], list[Drills]]:
        return lambda plan: [last_drills(context, plan, vault)]

    with Pool(start, min(1, default_size(0))) as pool:
        pool.submit(plan)
        pool.begin()

        def collect() -> Drills:
            try:
                return next((found for found in pool.results() if found is not None), [])
            except HoldfastError as error:
                context.warn(f"nothing is told of earlier drills: {error.message}")
                return []

        yield collect
