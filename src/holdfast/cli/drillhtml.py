"""A drill's report as one HTML page that needs nothing else: to be shown, printed and filed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from holdfast.cli import text
from holdfast.cli.drilltext import OUTCOMES, files, recovery

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2329;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid #ccd3da}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0}
th{font-weight:600;white-space:nowrap}thead th{border-bottom:1px solid #ccd3da}code{overflow-wrap:anywhere}
.ok{color:#12692f}.failed{color:#a51420}.partial{color:#8a5a00}.badge{font-weight:700}td.n{text-align:right}
pre{background:#f4f6f8;padding:.5rem;overflow:auto}@media print{body{margin:0}}
"""
_CLASSES = {True: "ok", False: "failed", None: "partial"}
_WORDS = {True: "ok", False: "failed", None: "not proven"}
_WIDTH, _HEIGHT, _EDGE = 640, 140, 24


def page(report: Mapping[str, Any]) -> str:
    """The page, from the data of ``app.drill_report.report_data``. Everything from outside is escaped; it loads nothing
    and runs no script."""
    outcome = str(report["outcome"])
    title = f"Drill of {report['plan'] or report['vault']}, {report['at']}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        f'<p class="badge {_text(outcome)}">{_text(OUTCOMES.get(outcome, outcome))}</p>',
        _pairs(_identity(report)),
        "<h2>Recovery</h2>",
        _pairs(recovery(report)),
        _trend([one for one in (*reversed(report["previous"]), report) if one.get("whole") == report["whole"]]),
        "<h2>Files</h2>",
        _pairs(files(report)),
        *_databases(report["databases"]),
        *_commands(report["commands"]),
        *_list("Damage", [found["message"] for found in report["damage"]]),
        *_damaged_files(report["damage"]),
        *_list("What this does not prove", report["not_proven"]),
        "<h2>How it was proven</h2>",
        f"<p>{_text(_METHOD)}</p>",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


_METHOD = (
    "The snapshot was restored into an empty private folder. All content was verified against its SHA-256 in the vault "
    "before it was written; every file was read back after it was written, and compared with what had been verified, "
    "byte by byte. Files whose originals had the size and time of the snapshot were compared with those as well. "
    "Of a snapshot that was restored whole, permissions, owners and times were compared with its records. "
    "Databases were loaded or opened, their rows counted, and the queries and commands above were run. The folder was "
    "removed."
)


def _identity(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "when (UTC)", f"{report['at']} to {report['ended']}"
    yield "by", f"{report['program']} on {report['host']}"
    yield "plan", report["plan"] or "none"
    yield "vault", f"{report['vault']} ({report['vault_kind']})"
    yield "snapshot", report["snapshot"]
    if report["tree"]:
        yield "hash of its tree", report["tree"]
    yield "snapshot made", f"{report['snapshot_time']} on {report['snapshot_host']} by {report['snapshot_program']}"
    yield "of", ", ".join(report["snapshot_paths"])


def _pairs(rows: Iterator[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{_text(name)}</th><td><code>{_text(value)}</code></td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _databases(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not found:
        return
    yield "<h2>Databases</h2><table><thead><tr><th>database</th><th>kind</th><th>result</th><th>rows</th>"
    yield "<th>queries and remarks</th></tr></thead><tbody>"
    for one in found:
        remarks = [_text(one["message"])] if one["message"] else []
        remarks += [
            f"<code>{_text(query['query'])}</code> → {_mark(query['ok'])} {_text(query['message'] or query['value'])}"
            for query in one["queries"]
        ]
        remarks += [
            f"fewer rows in {_text(table)}: {rows['before']:,} before, {rows['now']:,} now"
            for table, rows in one["fewer_rows"].items()
        ]
        yield (
            f"<tr><td>{_text(one['name'])}</td><td>{_text(one['kind'])}</td><td>{_mark(one['ok'])}</td>"
            f'<td class="n">{one["rows_total"]:,}</td><td>{"<br>".join(remarks)}</td></tr>'
        )
    yield "</tbody></table>"


def _commands(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not found:
        return
    yield "<h2>Commands in the restored tree</h2>"
    for one in found:
        words = f"{_text(one['name'])}: {_mark(one['ok'])} in {text.duration(one['seconds'])} {_text(one['message'])}"
        yield f"<p>{words}</p>"
        if one["output"]:
            yield f"<pre>{_text(one['output'])}</pre>"


def _list(title: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield f"<h2>{title}</h2><ul>"
        yield from (f"<li>{_text(item)}</li>" for item in items)
        yield "</ul>"


def _damaged_files(damage: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in damage:
        if one["files_total"] > 1:
            names = "\n".join(_text(name) for name in one["files"])
            more = one["files_total"] - len(one["files"])
            yield f"<pre>{names}{f'{chr(10)}... and {more:,} more' if more > 0 else ''}</pre>"


def _trend(drills: Sequence[Mapping[str, Any]]) -> str:
    """Seconds to recover of the drills, oldest first, as a small picture; nothing for fewer than two."""
    seconds = [float(one["seconds"]) for one in drills if "seconds" in one]
    if len(seconds) < 2:
        return ""
    top = max(seconds) or 1.0
    step = (_WIDTH - 2 * _EDGE) / (len(seconds) - 1)
    points = [
        (_EDGE + number * step, _HEIGHT - _EDGE - value / top * (_HEIGHT - 2 * _EDGE))
        for number, value in enumerate(seconds)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_colour(one)}"><title>{_text(str(one.get("at", "")))}: '
        f"{text.duration(float(one['seconds']))}</title></circle>"
        for (x, y), one in zip(points, [one for one in drills if "seconds" in one], strict=True)
    )
    return (
        f'<svg role="img" aria-label="seconds to recover" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%">'
        f'<line x1="{_EDGE}" y1="{_HEIGHT - _EDGE}" x2="{_WIDTH - _EDGE}" y2="{_HEIGHT - _EDGE}" stroke="#ccd3da"/>'
        f'<polyline points="{line}" fill="none" stroke="#33658a" stroke-width="2"/>{dots}'
        f'<text x="{_EDGE}" y="14" font-size="12">time to recover, at most {text.duration(top)}</text></svg>'
    )


def _colour(one: Mapping[str, Any]) -> str:
    return {"ok": "#12692f", "failed": "#a51420"}.get(str(one.get("outcome")), "#8a5a00")


def _mark(ok: bool | None) -> str:
    return f'<span class="badge {_CLASSES[ok]}">{_WORDS[ok]}</span>'


def _text(value: object) -> str:
    """Escaped, without characters that act on how the rest is shown."""
    return escape(text.lines(str(value)))
