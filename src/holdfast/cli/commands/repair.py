"""``holdfast repair``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean, path_fields
from holdfast.cli.errors import DAMAGE, OUTCOMES
from holdfast.cli.options import Common, from_password, shared, which_latest
from holdfast.cli.session import Session, session
from holdfast.cli.values import SNAPSHOT_ID
from holdfast.config.secrets import PasswordChoice
from holdfast.kernel.ids import short
from holdfast.vaults.base import Outcome

if TYPE_CHECKING:
    from holdfast.vaults.archive.repair import IndexRepair, PacksRepair, SnapshotsRepair

F = TypeVar("F", bound=Callable[..., Any])

SHOWN = 20


def _second_vault(function: F) -> F:
    options = (
        click.option("--from", "source", metavar="LOCATION", help="Take what is lost from this second vault."),
        from_password,
        click.option("--from-no-lock", is_flag=True, help="Take no lock in the second vault: write nothing there."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group("repair", invoke_without_command=True)
@_second_vault
@shared()
@click.pass_context
def command(ctx: click.Context, /, source: str | None, **second: Any) -> int | None:
    """Mend a damaged vault: its index, packs and snapshots.

    In this order: 'repair index', 'repair packs --all-damaged' (with --from VAULT if a second vault has the data), and
    last 'repair snapshots', which gives up what nobody has. What is deleted is copied to a local folder first. Without
    a word, --from means 'repair packs --from'.
    """
    if ctx.invoked_subcommand is not None:
        if source is not None or any(second.values()):
            raise click.UsageError("--from and what belongs to it stand after 'packs'.")
        return None
    if source is None:
        raise click.UsageError("Say what to repair: index, packs or snapshots; or --from a second vault.")
    rest = {"packs": (), "all_damaged": False, "aside": None, "dry_run": False, "workers": None}
    code: int = ctx.invoke(packs_, source=source, **second, **rest)
    return code


def _shared_by_all(function: F) -> F:
    for option in (
        click.option("-n", "--dry-run", is_flag=True, help="Only tell what would be done."),
        click.option("--aside", metavar="FOLDER", help="Where damaged files are copied before they are deleted."),
    ):
        function = option(function)
    return function


_WORKERS = click.option(
    "--workers", type=click.IntRange(0, 256), metavar="N", help="Worker processes. [default: by the machine]"
)


@command.command("index")
@click.option("--read-all-packs", is_flag=True, help="Trust no index file: read the header of every pack.")
@_shared_by_all
@_WORKERS
@shared()
@click.pass_obj
def index(common: Common, read_all_packs: bool, aside: str | None, dry_run: bool, workers: int | None) -> int:
    """Make the index say again what the packs hold.

    Packs that it lacks or has wrong are read; packs that are gone are dropped from it; damaged index files go.
    """
    from holdfast.app.repair import repair_index
    from holdfast.vaults.archive.repair import IndexOptions

    with session(common) as here:
        done = repair_index(here.context, IndexOptions(read_all_packs, dry_run, workers), _folder(aside))
        _show_index(here.console, done)
        return _code(here, done.outcome)


@command.command("packs")
@click.argument("packs", nargs=-1, metavar="[PACK]...")
@click.option("--all-damaged", is_flag=True, help="Read all packs, and repair those that are damaged or gone.")
@_second_vault
@_shared_by_all
@_WORKERS
@shared()
@click.pass_obj
def packs_(
    common: Common,
    packs: tuple[str, ...],
    all_damaged: bool,
    source: str | None,
    from_password_file: str | None,
    from_password_command: str | None,
    from_no_lock: bool,
    aside: str | None,
    dry_run: bool,
    workers: int | None,
) -> int:
    """Save what is intact in damaged packs, and replace them.

    PACK is the id of a pack, or its first digits. With --from, what is lost comes from a second vault that has the same
    data, such as a copy; without any PACK, that means --all-damaged.
    """
    from holdfast.app.repair import Second, repair_packs
    from holdfast.vaults.archive.repair import PacksOptions

    if source == "":
        raise click.BadParameter("it is empty.", param_hint="--from")
    if packs and all_damaged:
        raise click.UsageError("Name packs, or give --all-damaged; not both.")
    password = PasswordChoice(from_password_file, from_password_command)
    if source is None and (password != PasswordChoice() or from_no_lock):
        raise click.UsageError("--from-password-file, --from-password-command and --from-no-lock go with --from.")
    everything = all_damaged or (source is not None and not packs)
    second = Second(source, password, from_no_lock) if source is not None else None
    with session(common) as here:
        options = PacksOptions(packs, everything, dry_run, workers)
        done = repair_packs(here.context, options, second, _folder(aside))
        _show_packs(here.console, done)
        return _code(here, done.outcome)


@command.command("snapshots")
@click.argument("snapshots", nargs=-1, type=SNAPSHOT_ID, metavar="[SNAPSHOT]...")
@click.option("--forget", is_flag=True, help="Delete the damaged snapshots once new ones are in their place.")
@which_latest
@_shared_by_all
@shared()
@click.pass_obj
def snapshots_(
    common: Common,
    snapshots: tuple[str, ...],
    forget: bool,
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
    aside: str | None,
    dry_run: bool,
) -> int:
    """Make damaged snapshots anew without what is lost.

    Lost parts of files and folders are left out; the new snapshots have the tag 'repaired'. Try 'repair packs --from'
    and a new backup first: both can bring data back, this gives it up.
    """
    from holdfast.app.repair import Choice, repair_snapshots
    from holdfast.app.selection import make_filter

    choice = Choice(snapshots, make_filter(hosts, paths, tags))
    with session(common) as here:
        done = repair_snapshots(here.context, choice, forget=forget, dry_run=dry_run, aside=_folder(aside))
        _show_snapshots(here.console, done, forget=forget)
        return _code(here, done.outcome)


def _folder(aside: str | None) -> str | None:
    if aside == "":
        raise click.BadParameter("it is empty.", param_hint="--aside")
    return aside


def _code(here: Session, outcome: Outcome) -> int:
    if outcome is Outcome.FAILED:
        return DAMAGE
    return OUTCOMES[outcome]


# -- index -------------------------------------------------------------------------------------------------------------


def _show_index(console: Console, done: IndexRepair) -> None:
    for pack, why in done.unreadable:
        console.event("unreadable", pack=pack.hex(), message=clean(why))
    if not console.quiet:
        console.line(_index_sentence(done))
    if done.unreadable:
        words = text.plural(len(done.unreadable), "pack")
        console.line(f"{words} cannot be listed: 'holdfast repair packs' saves what is left of")
        for pack, why in done.unreadable[:SHOWN]:
            console.line(f"  {short(pack)}  ({text.name(why)})")
    if done.lost:
        console.line(
            f"{text.plural(done.lost, 'piece')} of data went with the packs that are gone. 'holdfast check' tells what "
            "is touched.\nTo bring it back: back up the same files again, or 'holdfast repair packs --from VAULT'. To "
            "give it up: 'holdfast repair snapshots'."
        )
    if done.kept_damaged:
        words = text.plural(done.kept_damaged, "damaged index file")
        console.line(f"{words} could not be read to be set aside, and were not deleted.")
    _tell_aside(console, done.aside)
    console.event(
        "summary",
        outcome=str(done.outcome),
        dry_run=done.dry_run,
        changed=done.changes,
        packs=done.packs,
        blobs=done.blobs,
        headers_read=done.headers_read,
        added=done.added,
        corrected=done.corrected,
        gone=done.gone,
        lost=done.lost,
        unreadable=len(done.unreadable),
        damaged_files=done.damaged_files,
        files_deleted=done.files_deleted,
        files_written=done.files_written,
        aside=clean(done.aside),
        seconds=round(done.seconds, 3),
    )


def _index_sentence(done: IndexRepair) -> str:
    size = f"{text.plural(done.packs, 'pack')}, {text.plural(done.blobs, 'piece')} of data"
    if not done.changes:
        return f"The index is in order: {size}."
    counts = {
        "added": done.added,
        "corrected": done.corrected,
        "gone": done.gone,
        "damaged index files": done.damaged_files,
    }
    parts = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    begin = "The index would be repaired" if done.dry_run else "The index is repaired"
    return f"{begin}: {parts}; now {size}." if parts else f"{begin}; now {size}."


def _tell_aside(console: Console, folder: str) -> None:
    if folder:
        console.line(f"Copies of what was deleted are in {text.name(folder)}")


# -- packs -------------------------------------------------------------------------------------------------------------


def _show_packs(console: Console, done: PacksRepair) -> None:
    for pack, why in done.damaged:
        console.event("pack", id=pack.hex(), message=clean(why))
    if not console.quiet:
        console.line(_packs_sentence(done))
    if done.lost and not done.needed:
        console.line(f"{text.plural(len(done.lost), 'piece')} of data is lost, but no snapshot needs it.")
    if done.needed:
        verb = "would stay lost" if done.dry_run else "stay lost"
        console.line(
            f"{text.plural(len(done.needed), 'piece')} of data that snapshots need {verb}. 'holdfast check' tells what "
            "is touched.\nTo bring it back: back up the same files again, or give --from another vault. To give it up: "
            "'holdfast repair snapshots'."
        )
    _tell_aside(console, done.aside)
    console.event(
        "summary",
        outcome=str(done.outcome),
        dry_run=done.dry_run,
        changed=done.changes,
        damaged=len(done.damaged),
        gone=done.gone,
        fetched=done.fetched,
        saved=done.saved,
        healed=done.healed,
        healed_bytes=done.healed_bytes,
        lost=len(done.lost),
        needed=[identifier.hex() for identifier in sorted(done.needed)],
        packs_written=done.packs_written,
        packs_deleted=done.packs_deleted,
        aside=clean(done.aside),
        seconds=round(done.seconds, 3),
    )


def _packs_sentence(done: PacksRepair) -> str:
    if not done.changes:
        return "No pack is damaged." if not done.needed else "No pack is damaged, but data is missing."
    begin = "Would replace" if done.dry_run else "Replaced"
    parts = [f"{begin} {text.plural(len(done.damaged), 'damaged pack')}: {done.saved:,} intact pieces saved"]
    if done.gone:
        parts.append(f"{text.plural(done.gone, 'pack')} gone")
    if done.fetched:
        parts.append(f"{text.plural(done.fetched, 'pack')} brought back whole")
    if done.healed:
        parts.append(f"{done.healed:,} pieces ({text.size(done.healed_bytes)}) from the second vault")
    return ", ".join(parts)


# -- snapshots ---------------------------------------------------------------------------------------------------------


def _show_snapshots(console: Console, done: SnapshotsRepair, *, forget: bool) -> None:
    for identifier, path, what in done.changes:
        console.event("mended", snapshot=identifier.hex(), **path_fields(path), message=clean(what))
    for identifier, path, what in done.changes[:SHOWN]:
        console.line(f"{short(identifier)}:{text.name(os.fsdecode(path))}: {text.name(what)}")
    if len(done.changes) > SHOWN:
        console.line(f"... and {len(done.changes) - SHOWN:,} more (--json lists all of them)")
    for identifier, why in done.hopeless:
        console.line(f"Nothing of snapshot {short(identifier)} can be repaired: {text.name(why)}")
        console.event("hopeless", snapshot=identifier.hex(), message=clean(why))
    for replacement in done.replaced:
        new = replacement.new
        console.event(
            "replaced",
            snapshot=replacement.old.hex(),
            new=new.hex() if new is not None else None,
            tree=replacement.tree.hex(),
        )
        if new is not None:
            console.line(f"Snapshot {short(new)} is {short(replacement.old)} repaired.")
    if not console.quiet:
        console.line(_snapshots_sentence(done))
    if done.kept and not forget and not done.dry_run:
        console.line("The damaged snapshots are still there; 'holdfast repair snapshots --forget' deletes them.")
    if done.hopeless:
        console.line("'holdfast recover' finds folders of snapshots that cannot be read; run it before any prune.")
    _tell_aside(console, done.aside)
    console.event(
        "summary",
        outcome=str(done.outcome),
        dry_run=done.dry_run,
        snapshots=done.snapshots,
        folders=done.folders,
        repaired=len(done.replaced),
        hopeless=len(done.hopeless),
        changes=len(done.changes),
        forgotten=done.forgotten,
        kept=done.kept,
        aside=clean(done.aside),
        seconds=round(done.seconds, 3),
    )


def _snapshots_sentence(done: SnapshotsRepair) -> str:
    looked = f"{text.plural(done.snapshots, 'snapshot')} looked at"
    if not done.replaced and not done.hopeless:
        return f"No snapshot is damaged: {looked}."
    verb = "would be repaired" if done.dry_run else "repaired"
    parts = [looked, f"{len(done.replaced):,} {verb}"]
    if done.hopeless:
        parts.append(f"{len(done.hopeless):,} beyond repair")
    if done.forgotten:
        parts.append(f"{done.forgotten:,} {'would be deleted' if done.dry_run else 'deleted'}")
    return ", ".join(parts) + "."
