"""``holdfast find``."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.entries import show_item
from holdfast.cli.errors import DAMAGE, OK
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import session
from holdfast.cli.values import RAW_PATH, SIZE, SNAPSHOT_ID, WHEN
from holdfast.kernel.ids import short

KINDS = {"file": "file", "folder": "dir", "link": "symlink", "pipe": "fifo", "device": "dev", "chardevice": "chardev"}


@click.command("find")
@click.argument("patterns", nargs=-1, required=True, type=RAW_PATH, metavar="PATTERN...")
@click.option(
    "--snapshot", "chosen", multiple=True, type=SNAPSHOT_ID, metavar="SNAPSHOT", help="Only in it. Repeatable."
)
@click.option("--type", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Only such things. Repeatable.")
@click.option("-i", "--ignore-case", is_flag=True, help="Small and capital letters are the same.")
@click.option("--newer", type=WHEN, metavar="TIME", help="Changed at TIME or later: 2026-11-21, 36h, 2w.")
@click.option("--older", type=WHEN, metavar="TIME", help="Changed at TIME or earlier.")
@click.option("--larger", type=SIZE, metavar="SIZE", help="Files of at least SIZE, such as 10M.")
@click.option("--smaller", type=SIZE, metavar="SIZE", help="Files of at most SIZE.")
@click.option("-l", "--long", is_flag=True, help="Also mode, owner, size and time.")
@which_latest
@shared(no_lock=True)
@click.pass_obj
def command(
    common: Common,
    patterns: tuple[bytes, ...],
    chosen: tuple[str, ...],
    kinds: tuple[str, ...],
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

    A PATTERN is a glob such as '*.odt' and fits the last part of a path. With a slash in it, it fits the path, from the
    root or from any folder on. The newest snapshot comes first.
    """
    from holdfast.app.browse import find
    from holdfast.app.selection import make_filter
    from holdfast.vaults.find import Criteria

    criteria = Criteria(
        patterns=patterns,
        ignore_case=ignore_case,
        kinds=frozenset(KINDS[kind] for kind in kinds),
        larger=larger,
        smaller=smaller,
        newer=newer,
        older=older,
    )
    with session(common, hard=True) as here:
        console, count = here.console, 0
        for info, items in find(here.context, chosen, make_filter(hosts, paths, tags), criteria):
            if items:
                console.line(console.paint(f"Snapshot {short(info.id)} of {text.moment(info.time_ns)}:", "bold"))
            count += len(items)
            for item in items:
                show_item(console, info, item, long=long, indent="  ")
        if not console.quiet:
            console.remark(f"{text.plural(count, 'entry', 'entries')} found")
        console.event("summary", entries=count)
        return DAMAGE if console.saw_damage else OK
