"""``holdfast diff``."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean, path_fields
from holdfast.cli.errors import DAMAGE, OK, PARTIAL
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import Session, session
from holdfast.cli.values import RAW_PATH, SNAPSHOT, SNAPSHOT_ID

if TYPE_CHECKING:
    from holdfast.app.diff import DiffRequest
    from holdfast.vaults.base import SnapshotFilter
    from holdfast.vaults.diff import Difference, DiffSummary

COLOURS = {"+": "green", "-": "red", "M": "yellow", "U": "dim", "T": "cyan"}


@click.command("diff")
@click.argument("words", nargs=-1, type=RAW_PATH, metavar="SNAPSHOT[:PATH] [SNAPSHOT[:PATH]] [PATH] | FILE")
@click.option("--from", "since", type=SNAPSHOT_ID, metavar="SNAPSHOT", help="The changed lines of FILE since this one.")
@click.option("--to", "until", type=SNAPSHOT_ID, metavar="SNAPSHOT", help="With --from: up to this one. [the disk]")
@click.option("--text", "file", type=RAW_PATH, metavar="FILE", help="The changed lines of this file.")
@click.option("--open", "in_editor", is_flag=True, help="Show the changed lines in your editor ($VISUAL, $EDITOR).")
@click.option("-e", "--exclude", "excludes", multiple=True, metavar="PATTERN", help="On the disk, pass this over.")
@click.option("--no-default-excludes", is_flag=True, help="On the disk, also look at caches, trash and the like.")
@click.option("--reread", is_flag=True, help="Read files of the disk even if size, times and inode are the same.")
@which_latest
@shared(no_lock=True)
@click.pass_obj
def command(
    common: Common,
    words: tuple[bytes, ...],
    since: str | None,
    until: str | None,
    file: bytes | None,
    in_editor: bool,
    excludes: tuple[str, ...],
    no_default_excludes: bool,
    reread: bool,
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
) -> int:
    """Show what changed between two snapshots, or since one.

    With one SNAPSHOT it is compared with the disk as it is now. FILE --from SNAPSHOT [--to SNAPSHOT] shows the changed
    lines of one file; so does --text FILE behind the snapshots.

    \b
    +  added        M  content changed    T  became something else
    -  removed      U  only metadata changed
    """
    from holdfast.app.diff import DiffRequest
    from holdfast.app.selection import make_filter

    if since is not None:
        if len(words) != 1 or file is not None:
            raise click.UsageError("--from goes with one FILE: holdfast diff FILE --from SNAPSHOT [--to SNAPSHOT]")
        file = words[0]
        first, second = (since, b""), None if until is None else (until, b"")
    else:
        if until is not None:
            raise click.UsageError("--to goes with --from.")
        first, second = _sides(words)
    if in_editor and (file is None or common.json):
        raise click.UsageError("--open goes with FILE --from SNAPSHOT or --text FILE, and not with --json.")
    request = DiffRequest(first, second, excludes, not no_default_excludes, reread)
    wanted = make_filter(hosts, paths, tags)
    with session(common, hard=True) as here:
        if file is not None:
            return _lines(here, request, wanted, file, in_editor=in_editor)
        return _differences(here, request, wanted)


def _sides(words: tuple[bytes, ...]) -> tuple[tuple[str, bytes], tuple[str, bytes] | None]:
    if not 1 <= len(words) <= 3:
        raise click.UsageError("One or two snapshots are wanted, and perhaps a path.")
    if len(words) == 1 and os.path.isfile(words[0]) and not _is_snapshot(words[0]):
        raise click.UsageError("For the changed lines of a file: holdfast diff FILE --from SNAPSHOT [--to SNAPSHOT]")
    first, *more = (SNAPSHOT.convert(os.fsdecode(word), None, None) for word in words[:2])
    second, path = more[0] if more else None, words[2] if len(words) == 3 else b""
    if path and (first[1] or (second and second[1])):
        raise click.UsageError("Give the path behind the snapshots or at the end, not both.")
    if path:
        return (first[0], path), (second[0], path) if second else None
    return first, second


def _is_snapshot(word: bytes) -> bool:
    try:
        SNAPSHOT.convert(os.fsdecode(word), None, None)
    except click.BadParameter:
        return False
    return True


def _differences(here: Session, request: DiffRequest, wanted: SnapshotFilter) -> int:
    from holdfast.app.diff import diff
    from holdfast.vaults.diff import DiffSummary

    console, summary = here.console, DiffSummary()
    problems: list[tuple[bytes, str, str]] = []
    for difference in diff(here.context, request, wanted, lambda path, why: problems.append((path, why, "diff"))):
        summary.count(difference)
        _show(console, difference)
    console.problems(problems)
    if not console.quiet:
        console.line(sentence(summary))
    outcome = "partial" if problems else "ok"
    console.event("summary", outcome=outcome, equal=summary.equal, **dataclasses.asdict(summary))
    if console.saw_damage:
        return DAMAGE
    return PARTIAL if problems else OK


def _show(console: Console, difference: Difference) -> None:
    mark = str(difference.change)
    if console.json:
        old, new = difference.before, difference.after
        console.event(
            "change",
            change=mark,
            **path_fields(difference.path),
            kind=new.kind if new is not None else old.kind if old is not None else None,
            details=list(difference.details),
            size_before=old.size if old is not None else None,
            size_after=new.size if new is not None else None,
        )
        return
    item = difference.after or difference.before
    shown = text.name(difference.path) + ("/" if item is not None and item.kind == "dir" else "")
    details = f"  ({', '.join(difference.details)})" if difference.details else ""
    console.line(f"{console.paint(mark, COLOURS[mark])}  {shown}{details}")


def _lines(here: Session, request: DiffRequest, wanted: SnapshotFilter, file: bytes, *, in_editor: bool) -> int:
    from holdfast.app.diff import diff_text

    console = here.console
    lines = list(diff_text(here.context, request, wanted, file))
    if in_editor:
        _open(console, lines)
        return DAMAGE if console.saw_damage else OK
    terminal = sys.stdout.isatty()
    for line in () if console.json else lines:
        if not terminal:
            sys.stdout.flush()
            sys.stdout.buffer.write(os.fsencode(line))
            continue
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        shown = text.name(line.rstrip("\n").expandtabs())
        console.line(console.paint(shown, colour) if colour else shown)
    console.event("summary", outcome="ok", **path_fields(file), equal=not lines, diff=[clean(line) for line in lines])
    return DAMAGE if console.saw_damage else OK


def _open(console: Console, lines: list[str]) -> None:
    """Show lines in the user's editor and wait for it. The file is theirs alone, and gone afterwards."""
    import tempfile

    from holdfast.kernel.errors import Unavailable

    if not lines:
        console.line("No differences")
        return
    with tempfile.NamedTemporaryFile(prefix="holdfast-", suffix=".diff") as file:
        file.write(b"".join(map(os.fsencode, lines)))
        file.flush()
        try:
            click.edit(filename=file.name)
        except click.ClickException as error:
            raise Unavailable(
                f"the editor does not start: {error.message}", hint="Set VISUAL or EDITOR to the command of an editor."
            ) from error


def sentence(summary: DiffSummary) -> str:
    """The result in one sentence."""
    if summary.equal:
        return "No differences"
    files = f"{summary.files_added:,} added, {summary.files_removed:,} removed, {summary.files_modified:,} modified"
    parts = [f"Files: {files}"]
    if summary.dirs_added or summary.dirs_removed:
        parts.append(f"folders: {summary.dirs_added:,} added, {summary.dirs_removed:,} removed")
    others = summary.others_added + summary.others_removed + summary.others_modified + summary.types
    if others:
        parts.append(f"{text.plural(others, 'other change')}")
    if summary.metadata:
        parts.append(f"{summary.metadata:,} with other metadata only")
    return "; ".join([*parts, f"+{text.size(summary.bytes_added)} -{text.size(summary.bytes_removed)}"])
