"""``holdfast hold``."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean
from holdfast.cli.errors import DAMAGE, OK
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import Session, session
from holdfast.cli.values import SNAPSHOT_ID
from holdfast.kernel.ids import short


class _Day(click.ParamType[str]):
    """A day to come: a date, or a span from today on."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        import datetime

        word = str(value).strip()
        try:
            return datetime.date.fromisoformat(word).isoformat()
        except ValueError:
            self.fail(f"{value!r} is not a date. Write for example 2027-01-31.", param, ctx)


@click.command("hold")
@click.argument("snapshots", metavar="[SNAPSHOT]...", nargs=-1, type=SNAPSHOT_ID)
@click.option("--until", type=_Day(), metavar="DATE", help="Through this day, such as 2027-01-31. [default: no end]")
@click.option("--release", is_flag=True, help="Release them instead.")
@click.option("--list", "listed", is_flag=True, help="List what is held instead.")
@which_latest
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what would change.")
@shared()
@click.pass_obj
def command(
    common: Common,
    snapshots: tuple[str, ...],
    until: str | None,
    release: bool,
    listed: bool,
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
    dry_run: bool,
) -> int:
    """Hold snapshots back from being forgotten.

    'forget' does not delete them until they are released or the day is over. A hold is a pair of tags (hold,
    hold-until:DATE), so a snapshot gets a new id by it; the one that it had at first still names it. restic does not
    know holds: there, 'restic forget --keep-tag hold' spares them.
    """
    from holdfast.app.selection import make_filter
    from holdfast.app.tag import hold
    from holdfast.cli.commands.tag import show_changes

    if (release and until) or (listed and (snapshots or until or release)):
        raise click.UsageError("--list stands alone, and --release has no --until.")
    wanted = make_filter(hosts, paths, tags)
    with session(common) as here:
        if listed:
            return _list(here, wanted)
        done = hold(here.context, snapshots, wanted, until=until, release=release, dry_run=dry_run)
        return show_changes(here.console, done, dry_run=dry_run)


def _list(here: Session, wanted: Any) -> int:
    from holdfast.app.tag import list_holds

    console: Console = here.console
    held = list_holds(here.context, wanted)
    rows = []
    for item in held:
        snapshot, state = item.snapshot, item.until or "ended"
        first = text.name(snapshot.paths[0]) if snapshot.paths else ""
        rows.append([short(snapshot.id), text.moment(snapshot.time_ns), text.name(snapshot.hostname), state, first])
        console.event(
            "hold",
            id=snapshot.id.hex(),
            time=snapshot.time,
            host=clean(snapshot.hostname),
            paths=[clean(path) for path in snapshot.paths],
            tags=[clean(tag) for tag in snapshot.tags],
            held=item.until,
        )
    if rows and not console.json:
        for line in text.table(["ID", "Time", "Host", "Held until", "Paths"], rows):
            console.line(line)
    active = sum(item.until is not None for item in held)
    if not console.quiet:
        console.line(f"{text.plural(active, 'snapshot')} held")
    console.event("summary", held=active, ended=len(held) - active)
    return DAMAGE if console.saw_damage else OK
