"""``holdfast unlock``."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.console import clean
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session


@click.command("unlock")
@click.option(
    "--all", "everything", is_flag=True, help="Also locks that somebody may still hold. Be sure that nobody does."
)
@click.option("-n", "--dry-run", is_flag=True, help="Only tell which locks would go.")
@shared()
@click.pass_obj
def command(common: Common, everything: bool, dry_run: bool) -> None:
    """Remove locks that nobody holds any more.

    Those are locks of processes of this machine that are gone, and locks that were not renewed for half an hour.
    """
    from holdfast.app.unlock import unlock

    with session(common) as here:
        gone, left = unlock(here.context, everything=everything, dry_run=dry_run)
        verb = "would be removed" if dry_run else "removed"
        for lock in gone:
            who = f"process {lock.info.pid} on {lock.info.hostname}, renewed {lock.info.time}"
            here.console.line(f"{verb}: lock {lock.id.hex()[:8]} of {text.name(who)}")
            here.console.event(
                "lock", id=lock.id.hex(), host=clean(lock.info.hostname), pid=lock.info.pid, time=clean(lock.info.time)
            )
        here.console.remark(f"{text.plural(len(gone), 'lock')} {verb}, {text.plural(left, 'lock')} left.")
        here.console.event("summary", outcome="ok", removed=len(gone), left=left, dry_run=dry_run)
