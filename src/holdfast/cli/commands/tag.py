"""``holdfast tag``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean
from holdfast.cli.errors import DAMAGE, OK
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import session
from holdfast.cli.values import SNAPSHOT_ID
from holdfast.kernel.ids import short

if TYPE_CHECKING:
    from holdfast.app.tag import Retagged


@click.command("tag")
@click.argument("snapshots", metavar="[SNAPSHOT]...", nargs=-1, type=SNAPSHOT_ID)
@click.option("--add", multiple=True, metavar="TAG,..", help="Add these tags.")
@click.option("--remove", multiple=True, metavar="TAG,..", help="Take these tags away.")
@click.option("--set", "replace", multiple=True, metavar="TAG,..", help="Put these in place of all tags; '' for none.")
@which_latest
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what would change.")
@shared()
@click.pass_obj
def command(
    common: Common,
    snapshots: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    replace: tuple[str, ...],
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
    dry_run: bool,
) -> int:
    """Change the tags of snapshots.

    Of those that are named, or of all that --host, --tag and --path fit. A snapshot gets a new id by this; the one that
    it had at first still names it. Tags that make a hold stay: 'holdfast hold' sets and releases those.
    """
    from holdfast.app.selection import make_filter
    from holdfast.app.tag import change_tags
    from holdfast.vaults.tags import TagChange

    change = TagChange(_words(add), _words(remove), _words(replace) if replace else None)
    with session(common) as here:
        done = change_tags(here.context, snapshots, make_filter(hosts, paths, tags), change, dry_run=dry_run)
        return show_changes(here.console, done, dry_run=dry_run)


def _words(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for value in values for word in value.split(",") if word))


def show_changes(console: Console, done: Iterable[Retagged], *, dry_run: bool) -> int:
    """A line for each snapshot whose tags changed (or would), and a summary; returns the exit code."""
    everything = list(done)
    changed = [item for item in everything if item.is_changed]
    for item in changed:
        before, after = (text.name(",".join(tags)) or "(none)" for tags in (item.before.tags, item.tags))
        name = short(item.before.id) if dry_run else f"{short(item.before.id)} is now {short(item.id)}"
        if not console.quiet:
            console.line(f"{name}: {before} -> {after}")
        console.event(
            "tagged",
            id=item.id.hex(),
            before=item.before.id.hex(),
            tags=[clean(tag) for tag in item.tags],
            tags_before=[clean(tag) for tag in item.before.tags],
        )
    verb = "would be changed" if dry_run else "changed"
    console.remark(f"{text.plural(len(changed), 'snapshot')} {verb}, {len(everything) - len(changed)} already so.")
    console.event(
        "summary", outcome="ok", changed=len(changed), unchanged=len(everything) - len(changed), dry_run=dry_run
    )
    return DAMAGE if console.saw_damage else OK
