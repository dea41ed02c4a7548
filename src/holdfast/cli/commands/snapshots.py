"""``holdfast snapshots``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean
from holdfast.cli.errors import DAMAGE, OK
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import session
from holdfast.kernel.ids import short
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.holds import hold_of


def _split(_ctx: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in value.split(",") if word.strip())
    known = ("host", "paths", "tags")
    for word in words:
        if word not in known:
            raise click.BadParameter(f"{word!r} is none of {', '.join(known)}.")
    return words


@click.command("snapshots")
@click.option("--group-by", default="", callback=_split, metavar="host,paths,tags", help="Show them in groups.")
@click.option(
    "--latest", type=click.IntRange(1), metavar="N", help="Only the newest N of each group, or host and paths."
)
@which_latest
@shared(no_lock=True, locks=False)
@click.pass_obj
def command(
    common: Common,
    group_by: tuple[str, ...],
    latest: int | None,
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
) -> int:
    """List the snapshots in a vault. The oldest comes first."""
    from holdfast.app.selection import make_filter
    from holdfast.app.snapshots import list_snapshots

    with session(common, hard=True) as here:
        groups = list_snapshots(here.context, make_filter(hosts, paths, tags), group_by=group_by, latest=latest)
        console = here.console
        for common_values, members in groups:
            if common_values:
                title = ", ".join(f"{name} {text.name(value) or '-'}" for name, value in common_values.items())
                console.line(console.paint(f"{title}:", "bold"))
            _table(console, members)
            for snapshot in members:
                console.event("snapshot", **fields(snapshot), **({"group": common_values} if common_values else {}))
        total = sum(len(members) for _, members in groups)
        if any(snapshot.parts for _, members in groups for snapshot in members):
            console.remark("A mirror is one snapshot; beside each path stands the run that saved it last.")
        if not console.quiet:
            console.line(text.plural(total, "snapshot"))
        console.event("summary", snapshots=total)
        return DAMAGE if console.saw_damage else OK


def fields(snapshot: SnapshotInfo) -> dict[str, Any]:
    """A snapshot for JSON."""
    return {
        "id": snapshot.id.hex(),
        "short_id": short(snapshot.id),
        "time": snapshot.time,
        "host": clean(snapshot.hostname),
        "user": clean(snapshot.username),
        "paths": [clean(path) for path in snapshot.paths],
        "tags": [clean(tag) for tag in snapshot.tags],
        "note": clean(snapshot.note),
        "held": hold_of(snapshot.tags, time.strftime("%Y-%m-%d")),
        "parent": snapshot.parent.hex() if snapshot.parent else None,
        "original": snapshot.original.hex() if snapshot.original else None,
        "tree": snapshot.tree.hex(),
        "program": clean(snapshot.program),
        "summary": snapshot.summary,
        **({"parts": [_part(run) for run in snapshot.runs]} if snapshot.parts else {}),
    }


def _part(run: SnapshotInfo) -> dict[str, Any]:
    whole = fields(run)
    return {name: whole[name] for name in ("time", "host", "paths", "tags", "note")}


def _table(console: Console, snapshots: Sequence[SnapshotInfo]) -> None:
    if console.json or not snapshots:
        return
    with_notes = any(run.note for snapshot in snapshots for run in snapshot.runs)
    rows: list[list[str]] = []
    for snapshot in snapshots:
        summary = snapshot.summary or {}
        files, size = summary.get("total_files_processed"), summary.get("total_bytes_processed")
        counts = [f"{files:,}" if isinstance(files, int) else "", text.size(size) if isinstance(size, int) else ""]
        front = [short(snapshot.id)]
        for run in snapshot.runs:
            first, *others = [text.name(path) for path in run.paths] or [""]
            said = [text.moment(run.time_ns), text.name(run.hostname), text.name(",".join(run.tags))]
            rows.append([*front, *said, *counts, first, *([text.name(run.note)] if with_notes else [])])
            rows += [["", "", "", "", "", "", other, *([""] if with_notes else [])] for other in others]
            front, counts = [""], ["", ""]
    head = ["ID", "Time", "Host", "Tags", "Files", "Size", "Paths", *(["Note"] if with_notes else [])]
    for line in text.table(head, rows, right=frozenset({4, 5})):
        console.line(line)
