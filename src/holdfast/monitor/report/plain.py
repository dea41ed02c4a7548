"""The report as plain text: for a terminal, and for the digest that goes out by mail or to a phone."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence

from holdfast.monitor.report.judging import proven_words, subject
from holdfast.monitor.report.model import HOUR_NS, DrillLine, Line, Report, SpaceLine
from holdfast.monitor.report.words import day, duration, moment, plural, safe, signed_share, size

Offset = Callable[[int], int]
"""Seconds east of UTC that local time shows at an instant (nanoseconds)."""

Section = tuple[str, list[str]]


def as_text(report: Report, offset: Offset) -> str:
    """The whole report; ends with a newline. What has nothing to tell is left out."""
    lines = [title(report, offset), headline(report), ""]
    for name, body in sections(report, offset):
        if body:
            lines += [name, *(f"  {line}" for line in body), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def title(report: Report, offset: Offset) -> str:
    """What the report is of."""
    hosts = f" on {safe(', '.join(report.hosts))}" if report.hosts else ""
    return f"Holdfast report, {span(report, offset)}{hosts}"


def span(report: Report, offset: Offset) -> str:
    """From when until when."""
    since, until = report.period.since_ns, report.period.until_ns
    return f"{moment(since, offset(since))} to {moment(until, offset(until))}"


def headline(report: Report) -> str:
    """The one sentence, as a sentence."""
    words = report.headline
    return words[:1].upper() + words[1:] + "."


def compared_with(report: Report) -> str:
    """What the figures are compared with."""
    return {7: "the week before", 4: "the four periods before"}.get(report.period.compared, "the period before")


def sections(report: Report, offset: Offset) -> Iterator[Section]:
    """Every section with its lines, problems first."""
    grave = [gap for gap in report.missing if gap.grave]
    yield "What did not happen", [line for gap in grave for line in _gap(gap.subject, gap.message, gap.action)]
    yield "What failed", list(_failures(report, offset))
    yield "Unusual", [f"{safe(found.subject)}: {safe(found.message)}" for found in report.anomalies]
    yield f"What ran, compared with {compared_with(report)}", _runs(report)
    yield "Proven", [*proven_words(report.validated), *_drills(report, offset)]
    yield (
        "Not proven",
        [line for gap in report.missing if not gap.grave for line in _gap(gap.subject, gap.message, gap.action)],
    )
    yield "Space", [space_words(line, report, offset) for line in report.spaces]
    yield "Notices", list(_notices(report, offset))
    yield "Health", list(_health(report, offset))


def _gap(what: str, message: str, action: str) -> Iterator[str]:
    yield f"{safe(what)}: {safe(message)}"
    if action:
        yield f"  -> {safe(action)}"


def _failures(report: Report, offset: Offset) -> Iterator[str]:
    for failure in report.failures:
        what = subject(failure.plan, failure.vault, failure.operation)
        problems = f", {plural(failure.problems, 'problem')}" if failure.problems else ""
        when = moment(failure.at_ns, offset(failure.at_ns))
        yield f"{when} {safe(what)}: {failure.outcome}{problems}" + (
            f": {safe(failure.message)}" if failure.message else ""
        )
        for item in failure.items:
            yield f"  {safe(item)}"
        if failure.problems > len(failure.items) > 0:
            yield f"  ... and {failure.problems - len(failure.items):,} more"
        if failure.hint:
            yield f"  -> {safe(failure.hint)}"
        yield f"  holdfast history {safe(failure.run)}"
    if report.more_failures:
        yield f"... and {plural(report.more_failures, 'more run', 'more runs')}"


def _runs(report: Report) -> list[str]:
    if not report.lines:
        return []
    rows = [["Run", "Runs", "Outcome", "Time", "", "Added", ""]]
    for line in report.lines:
        rows.append(
            [
                safe(subject(line.plan, line.vault, line.operation)),
                f"{line.runs:,}",
                outcome_words(line),
                duration(line.seconds),
                "" if line.earlier is None else signed_share(line.seconds, line.earlier.seconds),
                size(line.added) if line.added else "",
                "" if line.earlier is None else signed_share(line.added, line.earlier.added),
            ]
        )
    return _table(rows, right=(1, 3, 5))


def outcome_words(line: Line) -> str:
    """``ok``, or how many runs ended how."""
    counted = {word: count for word, count in line.outcomes.items() if count}
    if line.running:
        counted["running"] = line.running
    if len(counted) == 1 and line.runs == 1:
        return next(iter(counted))
    return ", ".join(f"{count:,} {word}" for word, count in counted.items())


def _table(rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            " " * (widths[place] - _width(cell)) + cell
            if place in right
            else cell + " " * (widths[place] - _width(cell))
            for place, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _drills(report: Report, offset: Offset) -> Iterator[str]:
    for drill in report.drills:
        yield f"drill of {safe(subject(drill.plan, drill.vault))}, {moment(drill.at_ns, offset(drill.at_ns))}: " + (
            drill_words(drill)
        )


def drill_words(drill: DrillLine) -> str:
    """How a drill went, and how fast."""
    if drill.outcome != "ok":
        return safe(drill.outcome) or "no outcome"
    before = drill.trend[:-1]
    usual = sorted(before)[len(before) // 2] if before else 0.0
    trend = signed_share(drill.seconds, usual)
    compared = f" ({trend})" if trend and trend != "as before" else f", {trend}" if trend else ""
    age = f", data {duration(drill.data_age)} old" if drill.data_age else ""
    return f"ok, restored in {duration(drill.seconds)}{compared}{age}"


def space_words(line: SpaceLine, report: Report, offset: Offset) -> str:
    """What is free, and where it leads."""
    share = line.last.free / line.last.total
    told = f"{safe(line.vault)}: {size(line.last.free)} free of {size(line.last.total)} ({share:.0%})"
    return f"{told}; {forecast_words(line, report, offset)}"


def forecast_words(line: SpaceLine, report: Report, offset: Offset) -> str:
    """When it will be full."""
    found = line.forecast
    if found is None:
        return "too few days with figures for a forecast"
    if found.full_ns is None:
        return "it does not fill up"
    left = found.days_left(report.period.until_ns) or 0.0
    when = day(found.full_ns, offset(found.full_ns)) if left < 300 else f"in {duration(left * 86400)}"
    return f"full {when}, at {size(found.per_day)} a day"


def _notices(report: Report, offset: Offset) -> Iterator[str]:
    notices = report.notices
    for at_ns, level, message in notices.raised:
        yield f"{moment(at_ns, offset(at_ns))} {level}: {safe(message)}"
    if notices.more:
        yield f"... and {notices.more:,} more"
    if notices.resolved or notices.open:
        yield f"{notices.resolved:,} resolved, {notices.open:,} open"
    for channel in notices.deliveries:
        failed = f", {plural(channel.failed, 'try', 'tries')} failed: {safe(channel.error)}" if channel.failed else ""
        yield f"{safe(channel.channel)}: {channel.sent:,} delivered{failed}"


def _health(report: Report, offset: Offset) -> Iterator[str]:
    health = report.health
    if health is None:
        yield "never looked at: 'holdfast health' does"
        return
    counts = health.counts
    stale = " (not in this period)" if health.at_ns < report.period.since_ns - HOUR_NS else ""
    yield (
        f"{moment(health.at_ns, offset(health.at_ns))}{stale}: {counts['pass']:,} pass, {counts['warn']:,} warn, "
        f"{counts['fail']:,} fail, {counts['skip']:,} skipped"
    )
    for name, result, message, action in health.troubles:
        yield f"{result} {safe(name)}: {safe(message)}"
        if action:
            yield f"  -> {safe(action)}"
