"""``holdfast ls``."""

from __future__ import annotations

import click

from holdfast.cli.entries import show_item
from holdfast.cli.errors import DAMAGE, OK
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import session
from holdfast.cli.values import SNAPSHOT


@click.command("ls")
@click.argument("snapshot", type=SNAPSHOT, metavar="SNAPSHOT[:PATH]")
@click.option("-l", "--long", is_flag=True, help="Also mode, owner, size and time.")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Also everything in folders.")
@which_latest
@shared(no_lock=True)
@click.pass_obj
def command(
    common: Common,
    snapshot: tuple[str, bytes],
    long: bool,
    recursive: bool,
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
) -> int:
    """List what a snapshot holds.

    Without :PATH, what was saved; with it, that file or the content of that folder.
    """
    from holdfast.app.browse import ls
    from holdfast.app.selection import make_filter

    identifier, path = snapshot
    with session(common, hard=True) as here:
        console = here.console
        count = 0
        for info, item in ls(here.context, identifier, make_filter(hosts, paths, tags), path, recursive=recursive):
            count += 1
            show_item(console, info, item, long=long)
        console.event("summary", entries=count)
        return DAMAGE if console.saw_damage else OK
