"""``holdfast recover``."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.errors import DAMAGE, OUTCOMES
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session
from holdfast.kernel.ids import short
from holdfast.vaults.base import Outcome

SHOWN = 20


@click.command("recover")
@click.option("-n", "--dry-run", is_flag=True, help="Only tell which folders would be brought back.")
@click.option("--workers", type=click.IntRange(0, 256), metavar="N", help="Worker processes. [default: by the machine]")
@shared()
@click.pass_obj
def command(common: Common, dry_run: bool, workers: int | None) -> int:
    """Bring back folders that no snapshot leads to any more.

    After a forget too much, or where snapshots are damaged: everything that is still stored comes into one new snapshot
    with the tag 'recovered', each folder under its id. After a prune there is nothing left to find.
    """
    from holdfast.app.recover import recover

    with session(common) as here:
        done = recover(here.context, dry_run=dry_run, workers=workers)
        console = here.console
        for root in done.roots:
            console.event("root", tree=root.hex(), name=short(root))
        for root in done.roots[:SHOWN] if dry_run else ():
            console.line(f"would be brought back: {short(root)}")
        if not console.quiet:
            found = f"{text.plural(len(done.roots), 'folder')} ({text.plural(done.trees, 'folder')} with those inside)"
            if not done.roots:
                console.line("Nothing to recover: snapshots lead to every folder that can be read.")
            elif done.snapshot is None:
                console.line(f"{found} would be recovered.")
            else:
                console.line(f"Snapshot {short(done.snapshot)} holds {found} that no snapshot led to.")
        if done.unreadable:
            console.line(f"{text.plural(done.unreadable, 'folder')} cannot be read; 'holdfast check' tells more.")
        console.event(
            "summary",
            outcome=str(done.outcome),
            dry_run=dry_run,
            snapshot=done.snapshot.hex() if done.snapshot is not None else None,
            roots=len(done.roots),
            trees=done.trees,
            unreadable=done.unreadable,
            seconds=round(done.seconds, 3),
        )
        return DAMAGE if done.outcome is Outcome.FAILED else OUTCOMES[done.outcome]
