"""``holdfast restore``."""

from __future__ import annotations

import os

import click

from holdfast.cli import text
from holdfast.cli.console import Console, path_fields
from holdfast.cli.errors import DAMAGE, OUTCOMES
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import Session, session
from holdfast.cli.values import RAW_PATH, SNAPSHOT
from holdfast.kernel.ids import short
from holdfast.vaults.base import Overwrite, RestoreOptions, RestoreSummary, SnapshotFilter, SnapshotInfo


@click.command("restore")
@click.argument("snapshot", type=SNAPSHOT, metavar="SNAPSHOT[:PATH]")
@click.option("-t", "--target", default=b"", type=RAW_PATH, metavar="DIR", help="Restore into DIR.")
@click.option("--in-place", is_flag=True, help="Put everything back where it was saved from.")
@click.option(
    "-i", "--include", "includes", multiple=True, metavar="PATTERN", help="Only what fits (as in .gitignore)."
)
@click.option("-e", "--exclude", "excludes", multiple=True, metavar="PATTERN", help="Not what fits. Repeatable.")
@click.option(
    "--overwrite",
    type=click.Choice([str(choice) for choice in Overwrite]),
    default=str(Overwrite.ALWAYS),
    show_default=True,
    help="What to do with files that are there already.",
)
@click.option("--delete", is_flag=True, help="Remove from restored folders what the snapshot does not hold.")
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option(
    "--verify", is_flag=True, help="Read every written file again (hashes of what is read are always compared)."
)
@click.option("--no-sparse", is_flag=True, help="Write runs of zeros instead of leaving holes.")
@click.option("--database", type=RAW_PATH, metavar="NAME", help="Load this database back instead of restoring files.")
@click.option("--to", default="", metavar="URL|FILE", help="Where to load it: a server's database, or an SQLite file.")
@click.option("--replace", is_flag=True, help="Take the place of a database that is there; it is kept aside.")
@click.option("--no-owner", is_flag=True, help="What is loaded belongs to who loads it.")
@click.option("--workers", type=click.IntRange(0, 256), metavar="N", help="Worker processes. [default: by the machine]")
@which_latest
@shared(no_lock=True)
@click.pass_obj
def command(
    common: Common,
    snapshot: tuple[str, bytes],
    target: bytes,
    in_place: bool,
    includes: tuple[str, ...],
    excludes: tuple[str, ...],
    overwrite: str,
    delete: bool,
    dry_run: bool,
    verify: bool,
    no_sparse: bool,
    database: bytes | None,
    to: str,
    replace: bool,
    no_owner: bool,
    workers: int | None,
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
) -> int:
    """Bring back files and folders from a snapshot.

    SNAPSHOT is an id, the first digits of one, or latest. With :PATH only that file or folder comes
    back, right into DIR. --database loads a dump back into a server, or replaces a live SQLite file.
    """
    from holdfast.app.restore import patterns, restore
    from holdfast.app.selection import make_filter

    if target and in_place:
        raise click.UsageError("--target and --in-place exclude each other.")
    identifier, path = snapshot
    if database is not None:
        if target or in_place or path or includes or excludes or delete:
            raise click.UsageError("--database goes with --to, --replace, --no-owner and --dry-run only.")
        with session(common) as here:
            wanted = make_filter(hosts, paths, tags)
            return _load(here, identifier, wanted, database, to, replace=replace, owners=not no_owner, dry_run=dry_run)
    if to or replace or no_owner:
        raise click.UsageError("--to, --replace and --no-owner go with --database.")
    options = RestoreOptions(
        target=target,
        path=path,
        in_place=in_place,
        include=patterns(includes),
        exclude=patterns(excludes),
        overwrite=Overwrite(overwrite),
        delete=delete,
        dry_run=dry_run,
        verify=verify,
        sparse=not no_sparse,
        workers=workers,
    )
    with session(common) as here:
        result = restore(here.context, identifier, make_filter(hosts, paths, tags), options)
        return _show(here.console, result.snapshot, result.summary, dry_run=dry_run)


def _load(
    here: Session,
    identifier: str,
    wanted: SnapshotFilter,
    name: bytes,
    to: str,
    *,
    replace: bool,
    owners: bool,
    dry_run: bool,
) -> int:
    from holdfast.app.restore_database import DatabaseRequest, restore_database

    console = here.console
    request = DatabaseRequest(name, to, replace, owners, dry_run)
    result = restore_database(here.context, identifier, wanted, request)
    if not console.quiet:
        begin = "Would load" if dry_run else "Loaded"
        kept = f"; the former one is kept as {result.kept}" if result.kept else ""
        console.line(
            f"{begin} {text.name(result.path)} ({text.size(result.size)}) from snapshot {short(result.snapshot.id)}"
            f" into {text.name(os.fsencode(result.to))}{kept}"
        )
    console.event(
        "summary",
        outcome="ok",
        dry_run=dry_run,
        snapshot=result.snapshot.id.hex(),
        **path_fields(result.path),
        kind=result.kind,
        to=result.to,
        bytes=result.size,
        kept=result.kept or None,
    )
    return 0


def _show(console: Console, snapshot: SnapshotInfo, summary: RestoreSummary, *, dry_run: bool) -> int:
    for verb, path in summary.actions:
        console.line(f"{verb:<10} {text.name(path)}")
        console.event("action", verb=verb, **path_fields(path))
    console.problems((problem.path, problem.message, problem.during) for problem in summary.problems)
    if not console.quiet:
        console.line(sentence(snapshot, summary, dry_run=dry_run))
    console.event(
        "summary",
        outcome=str(summary.outcome),
        dry_run=dry_run,
        snapshot=snapshot.id.hex(),
        files_restored=summary.files_restored,
        files_skipped=summary.files_skipped,
        files_deleted=summary.files_deleted,
        dirs=summary.dirs,
        links=summary.links,
        others=summary.others,
        bytes_restored=summary.bytes_restored,
        bytes_read=summary.bytes_read,
        seconds=round(summary.seconds, 3),
        problems=len(summary.problems),
    )
    if console.saw_damage:
        return DAMAGE
    return OUTCOMES[summary.outcome]


def sentence(snapshot: SnapshotInfo, summary: RestoreSummary, *, dry_run: bool) -> str:
    """The result in one sentence."""
    begin = "Would restore" if dry_run else "Restored"
    parts = [
        f"{begin} {text.plural(summary.files_restored, 'file')} ({text.size(summary.bytes_restored)})"
        + f" and {text.plural(summary.dirs, 'folder')} from snapshot {short(snapshot.id)}"
    ]
    if summary.links or summary.others:
        parts.append(f"{text.plural(summary.links, 'link')}, {text.plural(summary.others, 'other item')}")
    if summary.files_skipped:
        parts.append(f"{summary.files_skipped:,} left as they were")
    if summary.files_deleted:
        parts.append(f"{summary.files_deleted:,} {'to delete' if dry_run else 'deleted'}")
    if summary.problems:
        parts.append(f"{text.plural(len(summary.problems), 'item')} with problems")
    return "; ".join(parts) + ("" if dry_run else f" in {text.duration(summary.seconds)}")
