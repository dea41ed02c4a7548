"""From the journal to a report: reads the runs and facts of a period and of those before it, and puts them in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from holdfast.monitor.forecast import Space, daily_last, forecast
from holdfast.monitor.report.history import History, number
from holdfast.monitor.report.judging import STRANGE, anomalies, missing, validated
from holdfast.monitor.report.model import (
    DAY_NS,
    OUTCOMES,
    Column,
    Delivery,
    DrillLine,
    Due,
    Earlier,
    Expected,
    Failure,
    HealthLine,
    Line,
    Notices,
    Period,
    Report,
    SpaceLine,
)

if TYPE_CHECKING:
    from holdfast.monitor.journal import RunRow
    from holdfast.monitor.record import Record

MOST_RUNS = 50_000
"""Of more runs than these, only the newest are read: a report is read by a person."""
MOST_STRANGE = 500
MOST_NOTICES = 20_000
SHOWN_FAILURES = 20
SHOWN_ITEMS = 5
SHOWN_NOTICES = 20
SPACE_DAYS = 60
DRILL_DAYS = 400
TREND = 12
OPEN_DAYS = 30


def gather(
    history: History,
    period: Period,
    *,
    made_ns: int,
    expected: Sequence[Expected] = (),
    due: Sequence[Due] = (),
    itself: str = "",
) -> Report:
    """The report of ``period``, made at ``made_ns``. ``expected`` is what the plans promise, ``due`` what was to start
    in the period; without them it cannot tell what did not happen. ``itself`` is the run that makes it: no news."""
    found = history.runs(since_ns=period.earlier_ns, until_ns=period.until_ns, limit=MOST_RUNS)
    found = [run for run in found if run.id != itself]
    found.sort(key=lambda run: run.started_ns)
    everything = without_parents(found)
    inside = [run for run in everything if run.started_ns >= period.since_ns]
    before = [run for run in everything if run.started_ns < period.since_ns]
    failures = _failures(history, [run for run in found if run.started_ns >= period.since_ns])
    since, until = period.since_ns, period.until_ns
    strange = history.facts(kinds=STRANGE, since_ns=since, until_ns=until, limit=MOST_STRANGE)
    drilled = history.facts(kinds=("drill.finished",), since_ns=since, until_ns=until)
    return Report(
        period=period,
        made_ns=made_ns,
        hosts=tuple(sorted({run.host for run in inside})),
        lines=tuple(_lines(inside, before, period.compared)),
        failures=tuple(failures[:SHOWN_FAILURES]),
        more_failures=max(len(failures) - SHOWN_FAILURES, 0),
        missing=tuple(missing(history, period, expected, due)),
        anomalies=tuple(anomalies(inside, before, strange)),
        validated=validated(inside, drilled),
        drills=tuple(_drills(history, period)),
        spaces=tuple(_spaces(history, period)),
        notices=_notices(history, period),
        health=_health(history, period),
        columns=tuple(_columns(everything, period)),
    )


def without_parents(runs: Sequence[RunRow]) -> list[RunRow]:
    """The runs without those that only hold others of their kind (a plan's over its vaults): what they did, those tell.

    A backup that holds the making of its vault, or forgetting what is old, stays.
    """
    parents = {(run.parent, run.operation) for run in runs if run.parent}
    return [run for run in runs if (run.id, run.operation) not in parents]


def _lines(inside: Sequence[RunRow], before: Sequence[RunRow], compared: int) -> list[Line]:
    lines: dict[tuple[str, str, str], Line] = {}
    taken: dict[tuple[str, str, str], list[float]] = {}
    earlier: dict[tuple[str, str, str], list[RunRow]] = {}
    for run in before:
        earlier.setdefault((run.operation, run.plan, run.vault), []).append(run)
    for run in inside:
        key = (run.operation, run.plan, run.vault)
        line = lines.setdefault(key, Line(*key))
        line.runs += 1
        line.added += number(run.data, "data_added_packed", "stored", "bytes_added")
        line.size = number(run.data, "total_bytes") or line.size
        line.files = number(run.data, "total_files") or line.files
        if run.outcome in line.outcomes:
            line.outcomes[run.outcome] += 1
            taken.setdefault(key, []).append(run.seconds or 0.0)
        else:
            line.running += 1
    for key, line in lines.items():
        line.seconds = median(taken[key]) if key in taken else 0.0
        line.earlier = _earlier(earlier.get(key, []), compared)
    order = {"backup": 0, "copy": 1, "check": 2, "drill": 3}
    return sorted(
        lines.values(), key=lambda line: (order.get(line.operation, 9), line.operation, line.plan, line.vault)
    )


def _earlier(runs: Sequence[RunRow], compared: int) -> Earlier | None:
    ended = [run for run in runs if run.outcome]
    if not ended:
        return None
    added = sum(number(run.data, "data_added_packed", "stored", "bytes_added") for run in ended)
    return Earlier(len(ended) / compared, median(run.seconds or 0.0 for run in ended), added / compared)


def _failures(history: History, runs: Sequence[RunRow]) -> list[Failure]:
    """Newest first. A run that holds others counts where none of those tells why it failed. What health finds has a
    section of its own: that it found something is no failure of the look."""
    bad = [run for run in runs if run.outcome in ("failed", "partial") and run.operation != "health"]
    told = {run.parent for run in bad if run.parent}
    bad = [run for run in reversed(bad) if run.id not in told]
    return [_failure(history, run, items=place < SHOWN_FAILURES) for place, run in enumerate(bad)]


def _failure(history: History, run: RunRow, *, items: bool) -> Failure:
    error = run.data.get("error")
    error = error if isinstance(error, Mapping) else {}
    problems = number(run.data, "problems")
    found: tuple[str, ...] = ()
    if items and (problems or run.outcome == "partial"):
        records = history.facts(run=run.id, kinds=("item.failed",), newest_first=False, limit=SHOWN_ITEMS)
        found = tuple(_item(record) for record in records)
    return Failure(
        at_ns=run.finished_ns or run.started_ns,
        run=run.id,
        operation=run.operation,
        plan=run.plan,
        vault=run.vault,
        outcome=run.outcome,
        message=str(error.get("message") or run.message),
        hint=str(error.get("hint") or ""),
        problems=problems,
        items=found,
    )


def _item(record: Record) -> str:
    path = record.data.get("path")
    return f"{path}: {record.message}" if isinstance(path, str) and path not in record.message else record.message


def _drills(history: History, period: Period) -> list[DrillLine]:
    since = period.until_ns - DRILL_DAYS * DAY_NS
    records = history.facts(kinds=("drill.finished",), since_ns=since, until_ns=period.until_ns, newest_first=False)
    by_plan: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        by_plan.setdefault((record.plan, record.vault), []).append(record)
    return [_drill(key, found, period) for key, found in sorted(by_plan.items())]


def _drill(key: tuple[str, str], records: Sequence[Record], period: Period) -> DrillLine:
    last = records[-1]
    worked = [record for record in records if record.data.get("outcome") == "ok"]
    return DrillLine(
        plan=key[0],
        vault=key[1],
        at_ns=last.at_ns,
        outcome=str(last.data.get("outcome", "")),
        seconds=_float(last.data.get("seconds")),
        data_age=_float(last.data.get("data_age_seconds")),
        files=number(last.data, "files"),
        bytes=number(last.data, "bytes"),
        recent=last.at_ns >= period.since_ns,
        trend=tuple(_float(record.data.get("seconds")) for record in worked[-TREND:]),
    )


def _float(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def spaces(records: Iterable[Record]) -> dict[str, list[Space]]:
    """Of each vault what the facts ``vault.space`` say, oldest first."""
    found: dict[str, list[Space]] = {}
    for record in records:
        total = number(record.data, "total")
        if total > 0:
            space = Space(record.at_ns, number(record.data, "free"), total)
            found.setdefault(record.vault, []).append(space)
    for points in found.values():
        points.sort(key=lambda point: point.at_ns)
    return found


def _spaces(history: History, period: Period) -> list[SpaceLine]:
    since = period.until_ns - SPACE_DAYS * DAY_NS
    records = history.facts(kinds=("vault.space",), since_ns=since, until_ns=period.until_ns)
    return [
        SpaceLine(vault, points[-1], tuple(daily_last(points)), forecast(points, period.until_ns))
        for vault, points in sorted(spaces(records).items())
    ]


def _notices(history: History, period: Period) -> Notices:
    until = period.until_ns
    since = until - OPEN_DAYS * DAY_NS
    records = history.facts(kinds=("notice.*",), since_ns=since, until_ns=until, limit=MOST_NOTICES)[::-1]
    still: dict[str, None] = {}
    for record in records:
        notice = str(record.data.get("notice", ""))
        if record.kind == "notice.raised":
            still[notice] = None
        elif record.kind == "notice.resolved":
            still.pop(notice, None)
    inside = [record for record in records if record.at_ns >= period.since_ns]
    raised = [record for record in inside if record.kind == "notice.raised"]
    return Notices(
        raised=tuple((record.at_ns, record.level, record.message) for record in raised[-SHOWN_NOTICES:]),
        more=max(len(raised) - SHOWN_NOTICES, 0),
        resolved=sum(record.kind == "notice.resolved" for record in inside),
        open=len(still),
        deliveries=tuple(_deliveries(inside)),
    )


def _deliveries(records: Iterable[Record]) -> list[Delivery]:
    sent: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    errors: dict[str, str] = {}
    for record in records:
        channel = str(record.data.get("channel", ""))
        if record.kind == "notice.sent":
            sent[channel] += 1
        elif record.kind == "notice.failed":
            failed[channel] += 1
            errors[channel] = str(record.data.get("error") or record.message)
    return [Delivery(name, sent[name], failed[name], errors.get(name, "")) for name in sorted({*sent, *failed})]


def _health(history: History, period: Period) -> HealthLine | None:
    records = history.facts(kinds=("health.checked",), until_ns=period.until_ns, limit=1)
    if not records:
        return None
    found = records[0].data.get("checks")
    checks = [check for check in found if isinstance(check, Mapping)] if isinstance(found, (list, tuple)) else []
    counts = Counter(str(check.get("result", "")) for check in checks)
    troubles = [
        (str(check.get("name", "")), result, str(check.get("message", "")), str(check.get("action", "")))
        for result in ("fail", "warn")
        for check in checks
        if check.get("result") == result
    ]
    return HealthLine(
        records[0].at_ns, {word: counts[word] for word in ("pass", "warn", "fail", "skip")}, tuple(troubles)
    )


def _columns(runs: Sequence[RunRow], period: Period) -> list[Column]:
    outcomes = [dict.fromkeys(OUTCOMES, 0) for _ in range(period.compared + 1)]
    added = [0] * (period.compared + 1)
    for run in runs:
        place = period.place(run.started_ns)
        if 0 <= place <= period.compared:
            if run.outcome in OUTCOMES:
                outcomes[place][run.outcome] += 1
            added[place] += number(run.data, "data_added_packed", "stored", "bytes_added")
    return [
        Column(period.earlier_ns + place * period.length_ns, outcomes[place], added[place])
        for place in range(period.compared + 1)
    ]
