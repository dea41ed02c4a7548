"""What a report finds in the figures: what is unusual, what did not happen, and what was proven."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from holdfast.monitor.report.history import History, number
from holdfast.monitor.report.model import DAY_NS, Anomaly, Due, Expected, Missing, Period, Validated
from holdfast.monitor.report.words import duration, plural, size

if TYPE_CHECKING:
    from holdfast.monitor.journal import RunRow
    from holdfast.monitor.record import Record

LEAST_BEFORE = 3
"""So many runs make up what is usual."""
SHRUNK = 0.5
SLOWER = 3.0
SLOWER_SECONDS = 60.0
FASTER = 0.1
FASTER_SECONDS = 30.0
MOST = 30
PROOF_DAYS = 31
"""A vault that nobody looked at for longer is worth a line."""
EARLY_NS = 10 * 60 * 10**9
"""A run may begin so much before it was due: clocks and timers are not exact."""
LATE_NS = 3 * 3_600 * 10**9
"""Whatever was missed is made up for within an hour of the machine being awake."""

_STRANGE = {
    "damage.found": "damage",
    "lock.stuck": "lock",
    "silent.failure": "silent failure",
    "expectation.failed": "expectation",
    "validation.failed": "validation",
    "error.raised": "error",
    "error.recorded": "error",
    "critical.recorded": "critical",
    "fatal.recorded": "fatal",
    "hook.failed": "hook",
    "plan.not_thinned": "keep",
}


STRANGE = tuple(_STRANGE)
"""Kinds of facts that say that something was not as it should be."""


def subject(plan: str, vault: str, operation: str = "") -> str:
    """How a plan and a vault are called: ``backup documents in home``."""
    what = " in ".join(part for part in (plan, vault) if part)
    return " ".join(part for part in (operation, what) if part)


def anomalies(inside: Sequence[RunRow], before: Sequence[RunRow], facts: Sequence[Record]) -> list[Anomaly]:
    """What is unusual in the backups of the period, and facts that tell of such; at most 30, the newest last."""
    found = [anomaly for run in inside for anomaly in _unusual(run, before)]
    for record in facts:
        word = _STRANGE.get(record.kind)
        if word is not None:
            where = subject(record.plan, record.vault) or str(record.data.get("name", ""))
            message = record.message.removeprefix(f"{where}: ") if where else record.message
            found.append(Anomaly(record.at_ns, f"{word}: {where}" if where else word, message, record.run))
    return sorted(found, key=lambda anomaly: anomaly.at_ns)[-MOST:]


def _unusual(run: RunRow, before: Sequence[RunRow]) -> Iterator[Anomaly]:
    if run.operation != "backup" or run.outcome not in ("ok", "partial") or "total_files" not in run.data:
        return
    at_ns = run.finished_ns or run.started_ns

    def anomaly(message: str) -> Anomaly:
        return Anomaly(at_ns, subject(run.plan, run.vault, "backup"), message, run.id)

    usual = [
        other
        for other in before
        if (other.operation, other.plan, other.vault) == ("backup", run.plan, run.vault)
        and other.outcome in ("ok", "partial")
    ]
    if number(run.data, "total_files") == 0:
        yield anomaly("it saved no file at all")
    if len(usual) < LEAST_BEFORE:
        return
    bytes_now, bytes_usual = number(run.data, "total_bytes"), median(number(u.data, "total_bytes") for u in usual)
    if bytes_now and bytes_now < bytes_usual * SHRUNK:
        yield anomaly(f"it saved {size(bytes_now)}, where {size(bytes_usual)} are usual")
    taken, usually = run.seconds or 0.0, median(other.seconds or 0.0 for other in usual)
    if taken > usually * SLOWER and taken > usually + SLOWER_SECONDS:
        yield anomaly(f"it took {duration(taken)}, where {duration(usually)} are usual")
    if taken < usually * FASTER and usually > FASTER_SECONDS:
        yield anomaly(f"it took only {duration(taken)}, where {duration(usually)} are usual")


def validated(inside: Sequence[RunRow], facts: Sequence[Record]) -> Validated:
    """What checks and drills of the period looked at and found whole."""
    checks = [run for run in inside if run.operation == "check" and run.outcome == "ok"]
    drills = [record for record in facts if record.kind == "drill.finished" and record.data.get("outcome") == "ok"]
    databases = 0
    for record in drills:
        found = record.data.get("databases")
        if isinstance(found, (list, tuple)):
            databases += sum(1 for database in found if isinstance(database, Mapping) and database.get("ok"))
    return Validated(
        checks=len(checks),
        bytes_read=sum(number(run.data, "bytes_read") for run in checks),
        drills=len(drills),
        files_compared=sum(number(record.data, "files") for record in drills),
        bytes_compared=sum(number(record.data, "bytes") for record in drills),
        databases=databases,
    )


def missing(history: History, period: Period, expected: Sequence[Expected], due: Sequence[Due]) -> list[Missing]:
    """What was promised or due, and did not come; then what would be good to do. The grave first."""
    found = [gap for each in expected for gap in _promised(history, period, each)]
    found += [gap for gap in (_not_started(history, period, each) for each in due) if gap is not None]
    found += [gap for each in expected for gap in _unproven(history, period, each)]
    unique = dict.fromkeys(found)
    return sorted(unique, key=lambda gap: not gap.grave)


def _promised(history: History, period: Period, each: Expected) -> Iterator[Missing]:
    last = _last(history, "backup", each, period.until_ns)
    what = subject(each.plan, each.vault)
    action = f"holdfast backup {each.plan}" if each.plan else ""
    if last is None:
        yield Missing(what, "there has never been a backup that worked", action, True)
        return
    age = (period.until_ns - (last.finished_ns or last.started_ns)) / 1e9
    if each.every is not None and age > each.every:
        yield Missing(
            what, f"no backup for {duration(age)}; one is expected every {duration(each.every)}", action, True
        )


def _not_started(history: History, period: Period, each: Due) -> Missing | None:
    """Every start has until the next one to happen, the last one until the end of the period, if that leaves it long
    enough: a machine that was asleep makes up for what it missed."""
    ends = [*each.times[1:], period.until_ns]
    runs = history.runs(
        operations=(each.operation,), plan=each.plan, since_ns=each.times[0] - EARLY_NS, until_ns=period.until_ns
    )
    began = sorted(run.started_ns for run in runs)
    gone = [
        at_ns
        for at_ns, end_ns in zip(each.times, ends, strict=True)
        if (end_ns < period.until_ns or end_ns - at_ns >= LATE_NS)
        and bisect_left(began, at_ns - EARLY_NS) == bisect_left(began, end_ns)
    ]
    if not gone:
        return None
    what = subject(each.plan, "", each.operation)
    times = "once" if len(gone) == 1 else f"{len(gone):,} times"
    return Missing(what, f"it was due and did not start, {times}", "holdfast schedule list", True)


def _unproven(history: History, period: Period, each: Expected) -> Iterator[Missing]:
    if _last(history, "backup", each, period.until_ns) is None:
        return
    since = period.until_ns - PROOF_DAYS * DAY_NS
    drills = history.facts(kinds=("drill.finished",), plan=each.plan, since_ns=since, until_ns=period.until_ns)
    if not any(record.data.get("outcome") == "ok" for record in drills):
        message = f"no restore was proven in the last {PROOF_DAYS} days"
        yield Missing(subject(each.plan, ""), message, f"holdfast drill {each.plan}", False)
    if not each.vault:
        return
    checks = history.runs(
        operations=("check",), vault=each.vault, outcomes=("ok",), since_ns=since, until_ns=period.until_ns, limit=1
    )
    if not checks:
        message = f"it was not checked for damage in the last {PROOF_DAYS} days"
        yield Missing(f"vault {each.vault}", message, f"holdfast check --vault {each.vault}", False)


def _last(history: History, operation: str, each: Expected, until_ns: int) -> RunRow | None:
    runs = history.runs(
        operations=(operation,),
        plan=each.plan or None,
        vault=each.vault or None,
        outcomes=("ok", "partial"),
        until_ns=until_ns,
        limit=1,
    )
    return runs[0] if runs else None


def proven_words(found: Validated) -> list[str]:
    """What was proven, in words."""
    told = []
    if found.checks:
        read = f", {size(found.bytes_read)} read and compared" if found.bytes_read else ""
        told.append(f"{plural(found.checks, 'check')} found no damage{read}")
    if found.drills:
        databases = f", {plural(found.databases, 'database')} loaded" if found.databases else ""
        files = f"{plural(found.files_compared, 'file')} ({size(found.bytes_compared)}) restored and compared"
        told.append(f"{plural(found.drills, 'drill')} worked: {files}{databases}")
    return told
