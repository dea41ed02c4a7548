"""``holdfast find``."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.entries import entry_fields, entry_line
from holdfast.cli.errors import DAMAGE, OK
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import session
from holdfast.cli.values import SIZE, SNAPSHOT, WHEN
from holdfast.kernel.ids import short


@click.command("find")
@click.argument("patterns", nargs=-1, required=True, type=click.Path(path_type=bytes), metavar="PATTERN...")
@click.option("--snapshot", "chosen", multiple=True, type=SNAPSHOT, metavar="SNAPSHOT[:PATH]", help="Only in it. Repeatable.")
@click.option("-i", "--ignore-case", is_flag=True, help="Small and capital letters are the same.")
@click.option("--newer", type=WHEN, metavar="TIME", help="Changed after TIME: 2026-11-21, '2026-11-21 18:30', 36h, 2w.")
@click.option("--older", type=WHEN, metavar="TIME", help="Changed before TIME.")
@click.option("--larger", type=SIZE, metavar="SIZE", help="Files larger than SIZE, such as 10M.")
@click.option("--smaller", type=SIZE, metavar="SIZE", help="Files smaller than SIZE.")
@click.option("-l", "--long", is_flag=True, help="Also mode, owner, size and time.")
@which_latest
@shared(no_lock=True)
@click.pass_obj
def command(
    common: Common,
    patterns: tuple[bytes, ...],
    chosen: tuple[tuple[str, bytes], ...],
    ignore_case: bool,
    newer: int | None,
    older: int | None,
    larger: int | None,
    smaller: int | None,
    long: bool,
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
) -> int:
    """Find files in snapshots by name, size and time.

    A PATTERN is a glob such as '*.odt' and fits the last part of a path; with a slash in it, it fits the whole path. The
    newest snapshot comes first.
    """
    from holdfast.app.browse import FindRequest, find
    from holdfast.app.selection import make_filter

    request = FindRequest(patterns, chosen, ignore_case, newer, older, larger, smaller)
    with session(common, hard=True) as here:
        console, count, shown = here.console, 0, b""
        for info, entry in find(here.context, request, make_filter(hosts, paths, tags)):
            if info.id != shown:
                shown = info.id
                console.line(console.paint(f"Snapshot {short(info.id)} of {text.moment(info.time_ns)}:", "bold"))
            count += 1
            console.line("  " + entry_line(entry, long=long))
            console.event("entry", **entry_fields(entry, info))
        if not console.quiet:
            console.remark(f"{text.plural(count, 'entry', 'entries')} found")
        console.event("summary", entries=count)
        return DAMAGE if console.saw_damage else OK
