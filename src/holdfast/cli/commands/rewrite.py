"""``holdfast rewrite``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean, path_fields
from holdfast.cli.errors import DAMAGE, OUTCOMES
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import session
from holdfast.cli.values import SNAPSHOT_ID
from holdfast.kernel.ids import short
from holdfast.vaults.base import Outcome

if TYPE_CHECKING:
    from holdfast.vaults.archive.rewrite import RewriteSummary

SHOWN = 20


@click.command("rewrite")
@click.argument("snapshots", nargs=-1, type=SNAPSHOT_ID, metavar="[SNAPSHOT]...")
@click.option("-e", "--exclude", "excludes", multiple=True, metavar="PATTERN", help="Take this out (as in .gitignore).")
@click.option("--exclude-file", "exclude_files", multiple=True, metavar="FILE", help="Read such patterns from FILE.")
@click.option("--forget", is_flag=True, help="Delete the old snapshots once new ones are in their place.")
@which_latest
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what would be taken out.")
@shared()
@click.pass_obj
def command(
    common: Common,
    snapshots: tuple[str, ...],
    excludes: tuple[str, ...],
    exclude_files: tuple[str, ...],
    forget: bool,
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
    dry_run: bool,
) -> int:
    """Take files out of existing snapshots.

    For example one that should never have been saved. Patterns mean what they mean in a backup. Without any SNAPSHOT,
    --host, --tag or --path it looks at all snapshots. The data itself is gone only when the old snapshots are forgotten
    and 'holdfast prune' has run.
    """
    from holdfast.app.repair import Choice
    from holdfast.app.rewrite import RewriteRequest, rewrite
    from holdfast.app.selection import make_filter

    choice = Choice(snapshots, make_filter(hosts, paths, tags))
    with session(common) as here:
        request = RewriteRequest(excludes, exclude_files, choice, forget, dry_run)
        done = rewrite(here.context, request)
        _show(here.console, done, forget=forget)
        return DAMAGE if done.outcome is Outcome.FAILED else OUTCOMES[done.outcome]


def _show(console: Console, done: RewriteSummary, *, forget: bool) -> None:
    for identifier, path in done.removed:
        console.event("removed", snapshot=identifier.hex(), **path_fields(path))
    for identifier, path in done.removed[:SHOWN]:
        console.line(f"{'would go' if done.dry_run else 'gone'}: {short(identifier)}:{text.name(os.fsdecode(path))}")
    if len(done.removed) > SHOWN:
        console.line(f"... and {len(done.removed) - SHOWN:,} more (--json lists all of them)")
    for replacement in done.replaced:
        new = replacement.new
        console.event(
            "replaced",
            snapshot=replacement.old.hex(),
            new=new.hex() if new is not None else None,
            tree=replacement.tree.hex(),
        )
        if new is not None:
            console.line(f"Snapshot {short(new)} is {short(replacement.old)} without it.")
    for identifier, why in done.damaged:
        console.event("damaged", snapshot=identifier.hex(), message=clean(why))
    if not console.quiet:
        for line in _sentences(done, forget=forget):
            console.line(line)
    console.event(
        "summary",
        outcome=str(done.outcome),
        dry_run=done.dry_run,
        snapshots=done.snapshots,
        folders=done.folders,
        rewritten=len(done.replaced),
        removed=len(done.removed),
        damaged=len(done.damaged),
        forgotten=done.forgotten,
        seconds=round(done.seconds, 3),
    )


def _sentences(done: RewriteSummary, *, forget: bool) -> list[str]:
    looked = f"{text.plural(done.snapshots, 'snapshot')} looked at"
    if not done.replaced:
        return [f"Nothing matches: {looked}."]
    if done.dry_run:
        return [f"{looked}, {len(done.replaced):,} would be rewritten."]
    said = f"{looked}, {len(done.replaced):,} rewritten"
    if forget:
        return [f"{said}; the old ones are deleted.", "The data is still stored: 'holdfast prune' removes it."]
    return [
        f"{said}; the old ones are still there.",
        "The data is gone only when they are forgotten (here with --forget, or by 'holdfast forget') and 'holdfast "
        "prune' has run.",
    ]
