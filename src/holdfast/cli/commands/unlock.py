"""``holdfast unlock``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session

if TYPE_CHECKING:
    from holdfast.repository.locks import HeldLock


@click.command("unlock")
@click.option(
    "--all", "everything", is_flag=True, help="Also locks that somebody may still hold. Be sure that nobody does."
)
@click.option("-n", "--dry-run", is_flag=True, help="Only tell whose locks there are, and which would go.")
@shared(locks=False)
@click.pass_obj
def command(common: Common, everything: bool, dry_run: bool) -> None:
    """Tell whose locks there are, and remove those of nobody.

    Those of nobody are the locks of processes of this machine that are gone, and locks that were not renewed for half
    an hour: whoever holds one renews it every five minutes.
    """
    from holdfast.app.unlock import unlock

    with session(common) as here:
        console = here.console
        found = unlock(here.context, everything=everything, dry_run=dry_run)
        verb = "would be removed" if dry_run else "removed"
        for lock in found.gone:
            _tell(console, lock, verb)
        for lock in found.left:
            _tell(console, lock, "stays")
        for identifiers, outcome in ((found.damaged_gone, verb), (found.damaged_left, "stays")):
            for identifier in identifiers:
                console.line(
                    f"{outcome}: lock {identifier.hex()[:8]}, which cannot be read: damaged, or still being written"
                )
                console.event("lock", id=identifier.hex(), outcome=outcome, damaged=True)
        gone = len(found.gone) + len(found.damaged_gone)
        left = len(found.left) + len(found.damaged_left)
        more = " '--all' removes them too, if you are sure that nobody works on the vault." if left else ""
        console.remark(f"{text.plural(gone, 'lock')} {verb}, {text.plural(left, 'lock')} left.{more}")
        console.event("summary", outcome="ok", removed=gone, left=left, dry_run=dry_run)


def _tell(console: Console, lock: HeldLock, outcome: str) -> None:
    """Who, where, since when, renewed when, and what is known of the process."""
    info, known = lock.info, lock.standing
    kind = "exclusive lock" if info.exclusive else "lock"
    who = f"process {info.pid} of {info.username or 'somebody'} on {info.hostname or 'an unnamed host'}"
    console.line(f"{outcome}: {kind} {lock.id.hex()[:8]} of {text.name(who)}")
    console.line(f"  taken or last renewed {text.moment(info.time_ns)} ({ago(lock.age_seconds)}); {known.value}")
    console.event(
        "lock",
        id=lock.id.hex(),
        outcome=outcome,
        host=clean(info.hostname),
        user=clean(info.username),
        pid=info.pid,
        time=clean(info.time),
        age_seconds=round(lock.age_seconds),
        exclusive=info.exclusive,
        process=known.name.lower(),
        stale=lock.is_stale,
    )


def ago(seconds: float) -> str:
    """``12 min ago``, ``3 days ago``; in the future where clocks differ."""
    if seconds < -60:
        return f"{-seconds / 60:,.0f} min in the future: the clocks differ"
    if seconds < 7200:
        return f"{max(seconds, 0) / 60:.0f} min ago"
    if seconds < 2 * 86_400:
        return f"{seconds / 3600:.0f} hours ago"
    return f"{seconds / 86_400:,.0f} days ago"
