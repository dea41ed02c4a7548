"""A drill's report as plain text: for the terminal, and for a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.cli import text

_MARKS = {True: "ok", False: "FAILED", None: "not proven"}
OUTCOMES = {"ok": "PROVEN", "partial": "PARTLY PROVEN", "failed": "FAILED"}


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report, line by line, from the data of ``app.drill_report.report_data``."""
    yield f"Drill: {OUTCOMES.get(report['outcome'], report['outcome'])}"
    yield from _table(_head(report))
    yield ""
    yield "Recovery"
    yield from _table(recovery(report))
    yield ""
    yield "Files"
    yield from _table(files(report))
    if report["databases"]:
        yield ""
        yield "Databases"
        for database in report["databases"]:
            yield from _database(database)
    if report["commands"]:
        yield ""
        yield "Commands in the restored tree"
        for command in report["commands"]:
            took = text.duration(command["seconds"])
            why = f": {text.lines(command['message'])}" if command["message"] else ""
            yield f"  {_MARKS[command['ok']]:<11}{text.name(command['name'])} ({took}){why}"
    if report["damage"]:
        yield ""
        yield "Damage"
        for damage in report["damage"]:
            yield f"  {text.lines(damage['message'])}"
    if report["not_proven"]:
        yield ""
        yield "Not proven"
        for words in report["not_proven"]:
            yield f"  {text.lines(words)}"
    if report["previous"]:
        yield ""
        yield "Earlier drills"
        for earlier in report["previous"]:
            yield f"  {_earlier(earlier)}"


def _head(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "when", f"{report['at']} to {report['ended']}"
    yield "by", f"{report['program']} on {report['host']}"
    if report["plan"]:
        yield "plan", report["plan"]
    yield "vault", f"{report['vault']} ({report['vault_kind']})"
    yield "snapshot", report["snapshot"]
    yield "made", f"{report['snapshot_time']} on {report['snapshot_host']}"
    yield "of", ", ".join(report["snapshot_paths"])


def recovery(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was measured."""
    found = report["recovery"]
    parts = [f"opening the vault {text.duration(found['open_seconds'])}"]
    parts.append(f"restoring {text.duration(found['restore_seconds'])}")
    if found["load_seconds"]:
        parts.append(f"loading dumps {text.duration(found['load_seconds'])}")
    yield "time to recover (RTO)", f"{text.duration(found['seconds'])} ({', '.join(parts)})"
    yield "age of the data (RPO)", text.duration(report["data_age_seconds"])
    if found["restore_seconds"] > 0:
        speed = report["restored"]["bytes"] / found["restore_seconds"]
        yield "speed of the restore", f"{text.size(speed)}/s"
    yield "the drill itself", text.duration(report["drill_seconds"])
    seconds = [earlier["seconds"] for earlier in report["previous"] if earlier.get("whole") == report["whole"]]
    if seconds and seconds[0] > 0:
        change = (found["seconds"] / seconds[0] - 1) * 100
        yield "the drill before", f"{text.duration(seconds[0])} to recover ({change:+.0f} %)"


def files(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was compared."""
    compared = report["compared"]
    yield "in the snapshot", f"{text.plural(report['files_total'], 'file')}, {text.size(report['bytes_total'])}"
    if report["sample"] is not None:
        yield "sample", f"{text.plural(compared['files'], 'file')}, {text.size(compared['bytes'])}"
    yield (
        "verified and read back",
        f"{text.plural(compared['files'], 'file')}, {text.size(compared['bytes'])} ({compared['hash']})",
    )
    yield (
        "equal to their source",
        f"{text.plural(compared['files_with_source'], 'unchanged file')}, {text.size(compared['bytes_with_source'])}",
    )
    if metadata := compared.get("metadata"):
        which = "all" if metadata["all"] else "some, picked at random"
        what = "permissions, owners, times" if metadata["owners"] else "permissions, times"
        yield "as saved beside content", f"{text.plural(metadata['items'], 'item')} ({which}): {what}"


def _database(found: Mapping[str, Any]) -> Iterator[str]:
    kind = f" ({found['kind']})" if found["kind"] else ""
    parts = [text.size(found["bytes"])]
    if found["rows"]:
        tables = text.plural(len(found["rows"]), "table")
        parts.append(f"{tables}, {text.plural(found['rows_total'], 'row')}")
    if found["load_seconds"]:
        parts.append(f"loaded in {text.duration(found['load_seconds'])}")
    yield f"  {_MARKS[found['ok']]:<11}{text.name(found['name'])}{kind}: {', '.join(parts)}"
    if found["message"]:
        yield f"             {text.lines(found['message'])}"
    for query in found["queries"]:
        answer = query["message"] or query["value"]
        yield f"             {_MARKS[query['ok']]}: {text.lines(query['query'])} -> {text.lines(answer)}"
    for table, rows in found["fewer_rows"].items():
        yield f"             fewer rows: {text.name(table)} had {rows['before']:,}, has {rows['now']:,}"


def _earlier(found: Mapping[str, Any]) -> str:
    parts = [str(found.get("at", "")), str(found.get("outcome", ""))]
    if "seconds" in found:
        parts.append(f"recovered in {text.duration(found['seconds'])}")
    if "bytes" in found:
        parts.append(text.size(found["bytes"]))
    if not found.get("whole", True):
        parts.append("a sample")
    return text.name(", ".join(parts))


def _table(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    known = list(rows)
    width = max(len(name) for name, _ in known)
    for name, value in known:
        yield f"  {name:<{width}}  {text.name(value)}"
