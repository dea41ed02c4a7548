"""The report as one HTML page: no script, nothing loaded from anywhere, light and dark, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files

from holdfast.monitor.report import charts
from holdfast.monitor.report.judging import proven_words, subject
from holdfast.monitor.report.model import DAY_NS, OUTCOMES, DrillLine, Line, Report, SpaceLine
from holdfast.monitor.report.plain import (
    Offset,
    compared_with,
    drill_words,
    forecast_words,
    headline,
    outcome_words,
    span,
)
from holdfast.monitor.report.words import day, duration, moment, plural, safe, signed_share, size

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Even if something slipped through the escaping, a browser would neither run nor load it."""


def as_html(report: Report, offset: Offset) -> str:
    """The whole page."""
    css = files("holdfast.monitor.report").joinpath("page.css").read_text("utf-8")
    title = f"Holdfast report, {span(report, offset)}"
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{_text(POLICY)}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f"<title>{_text(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n",
            *_body(report, offset),
            "</main>\n</body>\n</html>\n",
        )
    )


def _body(report: Report, offset: Offset) -> Iterator[str]:
    hosts = f" · {_text(', '.join(report.hosts))}" if report.hosts else ""
    yield f'<header>\n<h1>Holdfast report</h1>\n<p class="period">{_text(span(report, offset))}{hosts}</p>\n'
    yield f'<p class="state{"" if report.ok else " bad"}">{_text(headline(report))}</p>\n</header>\n'
    grave = [gap for gap in report.missing if gap.grave]
    yield _section("What did not happen", _list(_gap(gap.subject, gap.message, gap.action) for gap in grave))
    yield _section("What failed", _list(_failures(report, offset)))
    unusual = (f"<strong>{_text(found.subject)}</strong>: {_text(found.message)}" for found in report.anomalies)
    yield _section("Unusual", _list(unusual))
    yield from _charts(report, offset)
    yield _section("What ran", _runs(report))
    proven = [*map(_text, proven_words(report.validated)), *(_drill(drill, offset) for drill in report.drills)]
    yield _section("Proven", _list(proven))
    would_be_good = (gap for gap in report.missing if not gap.grave)
    yield _section("Not proven", _list(_gap(gap.subject, gap.message, gap.action) for gap in would_be_good))
    yield _section("Space", _spaces(report, offset))
    yield _section("Notices", _list(_notices(report, offset)))
    yield _section("Health", _health(report, offset))
    made = moment(report.made_ns, offset(report.made_ns))
    yield f"<footer>Made by Holdfast, {_text(made)}. Times are local to the machine that made it.</footer>\n"


def _text(words: str) -> str:
    return escape(safe(words), quote=True)


def _section(name: str, inside: str) -> str:
    if not inside:
        return ""
    return f"<section>\n<h2>{_text(name)}</h2>\n{inside}</section>\n"


def _list(items: Iterable[str]) -> str:
    """A list of items that are HTML already; nothing where there are none."""
    told = "".join(f"<li>{item}</li>\n" for item in items)
    return f"<ul>\n{told}</ul>\n" if told else ""


def _mark(word: str) -> str:
    return f'<span class="mark {_text(word)}">{_text(word)}</span>'


def _act(action: str) -> str:
    if not action:
        return ""
    inside = f"<code>{_text(action)}</code>" if action.startswith("holdfast ") else _text(action)
    return f'<div class="act">{inside}</div>'


def _gap(what: str, message: str, action: str) -> str:
    return f"<strong>{_text(what)}</strong>: {_text(message)}{_act(action)}"


def _charts(report: Report, offset: Offset) -> Iterator[str]:
    # The column of the last 24 hours is called by the day in which they end.
    length = report.period.length_ns
    called = [column.since_ns + (length - 1 if length <= DAY_NS else 0) for column in report.columns]
    names = [day(at_ns, offset(at_ns)) for at_ns in called]
    figures = []
    if any(any(column.outcomes.values()) for column in report.columns):
        bad = sum(column.outcomes.get("failed", 0) + column.outcomes.get("partial", 0) for column in report.columns)
        total = sum(sum(column.outcomes.values()) for column in report.columns)
        label = f"Runs in each period: {total} in all, {bad} of them failed or partial"
        legend = "Runs: " + ", ".join(map(_mark, OUTCOMES))
        figures.append((legend, charts.columns(label, [column.outcomes for column in report.columns], names)))
    if any(column.added for column in report.columns):
        added = [column.added for column in report.columns]
        label = f"Bytes added in each period: {size(added[-1])} in the last, at most {size(max(added))}"
        figures.append(
            ("Added to the vaults", charts.line(label, added, names[0], names[-1], peak=f"{size(max(added))} at most"))
        )
    figures += [_drill_chart(drill) for drill in report.drills if len(drill.trend) > 1]
    figures += [_space_chart(line, offset) for line in report.spaces if len(line.points) > 1]
    if figures:
        told = "".join(f"<figure><figcaption>{words}</figcaption>{svg}</figure>\n" for words, svg in figures)
        yield f'<div class="charts">\n{told}</div>\n'


def _drill_chart(drill: DrillLine) -> tuple[str, str]:
    name = subject(drill.plan, drill.vault)
    label = f"Recovery time of {safe(name)} in the last {len(drill.trend)} drills, now {duration(drill.trend[-1])}"
    longest = f"{duration(max(drill.trend))} at most"
    svg = charts.line(label, drill.trend, "earlier", f"now {duration(drill.trend[-1])}", peak=longest)
    return _text(f"Recovery time: {name}"), svg


def _space_chart(line: SpaceLine, offset: Offset) -> tuple[str, str]:
    used = [float(point.total - point.free) for point in line.points]
    ends = [day(point.at_ns, offset(point.at_ns)) for point in (line.points[0], line.points[-1])]
    total = line.last.total
    label = f"Disk of the vault {safe(line.vault)}: {size(used[-1])} used of {size(total)}"
    svg = charts.line(label, used, *ends, top=float(total), peak=size(total))
    return _text(f"Disk of {line.vault}: used"), svg


def _failures(report: Report, offset: Offset) -> Iterator[str]:
    for failure in report.failures:
        what = subject(failure.plan, failure.vault, failure.operation)
        problems = f", {plural(failure.problems, 'problem')}" if failure.problems else ""
        message = f": {_text(failure.message)}" if failure.message else ""
        when = moment(failure.at_ns, offset(failure.at_ns))
        more = failure.problems - len(failure.items)
        items = [*map(_text, failure.items), *([f"... and {more:,} more"] if failure.items and more > 0 else [])]
        yield (
            f"<strong>{_text(what)}</strong> {_mark(failure.outcome)}{problems}{message}"
            f' <span class="soft">{when}</span>{_list(items)}{_act(failure.hint)}'
            f"{_act(f'holdfast history {failure.run}')}"
        )
    if report.more_failures:
        yield f"... and {plural(report.more_failures, 'more run')}"


def _runs(report: Report) -> str:
    if not report.lines:
        return ""
    head = ("Run", "Runs", "Outcome", "Time", "", "Added", "")
    cells = "".join(f'<th scope="col"{_numeric(place)}>{name}</th>' for place, name in enumerate(head))
    rows = "".join(map(_run, report.lines))
    caption = f"In brackets: compared with {compared_with(report)}. Time is the median of one run."
    return (
        f'<div class="wide"><table>\n<caption>{_text(caption)}</caption>\n<thead><tr>{cells}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table></div>\n"
    )


def _numeric(place: int) -> str:
    return ' class="number"' if place in (1, 3, 5) else ""


def _run(line: Line) -> str:
    words = [word for word, count in line.outcomes.items() if count] + (["running"] if line.running else [])
    worst = max(words, key=("running", "ok", "cancelled", "partial", "failed").index, default="ok")
    seconds = added = ""
    if line.earlier is not None:
        seconds, added = signed_share(line.seconds, line.earlier.seconds), signed_share(line.added, line.earlier.added)
    outcome = f'<span class="mark {worst}">{_text(outcome_words(line))}</span>'
    cells = [
        f"{line.runs:,}",
        outcome,
        duration(line.seconds),
        f"({seconds})" if seconds else "",
        size(line.added) if line.added else "",
        f"({added})" if added else "",
    ]
    told = "".join(f"<td{_numeric(place)}>{cell}</td>" for place, cell in enumerate(cells, 1))
    return f'<tr><th scope="row">{_text(subject(line.plan, line.vault, line.operation))}</th>{told}</tr>\n'


def _drill(drill: DrillLine, offset: Offset) -> str:
    word = "ok" if drill.outcome == "ok" else "failed"
    when = moment(drill.at_ns, offset(drill.at_ns))
    words = f'<span class="mark {word}">{_text(drill_words(drill))}</span>'
    return (
        f'<strong>drill of {_text(subject(drill.plan, drill.vault))}</strong>: {words} <span class="soft">{when}</span>'
    )


def _spaces(report: Report, offset: Offset) -> str:
    if not report.spaces:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{_text(line.vault)}</th><td class="number">{size(line.last.free)}</td>'
        f'<td class="number">{size(line.last.total)}</td><td class="number">{line.last.free / line.last.total:.0%}</td>'
        f"<td>{_text(forecast_words(line, report, offset))}</td></tr>\n"
        for line in report.spaces
    )
    head = (
        '<tr><th scope="col">Vault</th><th scope="col" class="number">Free</th><th scope="col" class="number">Of</th>'
        '<th scope="col" class="number">Share</th><th scope="col">Forecast</th></tr>'
    )
    return f'<div class="wide"><table>\n<thead>{head}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n'


def _notices(report: Report, offset: Offset) -> Iterator[str]:
    notices = report.notices
    for at_ns, level, message in notices.raised:
        yield f'{_text(level)}: {_text(message)} <span class="soft">{moment(at_ns, offset(at_ns))}</span>'
    if notices.more:
        yield f"... and {notices.more:,} more"
    if notices.resolved or notices.open:
        yield f"{notices.resolved:,} resolved, {notices.open:,} open"
    for channel in notices.deliveries:
        failed = f", {plural(channel.failed, 'try', 'tries')} failed: {_text(channel.error)}" if channel.failed else ""
        yield f"<strong>{_text(channel.channel)}</strong>: {channel.sent:,} delivered{failed}"


def _health(report: Report, offset: Offset) -> str:
    health = report.health
    if health is None:
        return "<p>Never looked at: <code>holdfast health</code> does.</p>\n"
    counts = health.counts
    told = (
        f"{counts['pass']:,} pass, {counts['warn']:,} warn, {counts['fail']:,} fail, {counts['skip']:,} skipped, "
        f"{moment(health.at_ns, offset(health.at_ns))}"
    )
    troubles = (
        f"{_mark(result)} <strong>{_text(name)}</strong>: {_text(message)}{_act(action)}"
        for name, result, message, action in health.troubles
    )
    return f"<p>{told}</p>\n{_list(troubles)}"
