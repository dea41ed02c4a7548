"""``holdfast backup``."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.errors import OUTCOMES, failure
from holdfast.cli.options import Common, shared
from holdfast.cli.session import Session, session
from holdfast.cli.values import DURATION, RAW_PATH, SIZE
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.ids import short

if TYPE_CHECKING:
    from holdfast.app.backup import BackupRequest, BackupResult
    from holdfast.vaults.base import BackupSummary


@click.command("backup")
@click.argument("paths", nargs=-1, type=RAW_PATH)
@click.option("--to", multiple=True, metavar="LOCATION", help="The vault to save into. Repeatable.")
@click.option(
    "-e", "--exclude", "excludes", multiple=True, metavar="PATTERN", help="Leave this out (as in .gitignore)."
)
@click.option("--exclude-file", "exclude_files", multiple=True, metavar="FILE", help="Read such patterns from FILE.")
@click.option(
    "--no-default-excludes", is_flag=True, help="Also save caches, byte code, node_modules, trash and the like."
)
@click.option("--exclude-larger-than", type=SIZE, metavar="SIZE", help="Leave out files larger than SIZE, such as 10M.")
@click.option("-x", "--one-file-system", is_flag=True, help="Stay on the file systems of the given paths.")
@click.option(
    "--files-from", multiple=True, metavar="FILE", help="Read paths to save from FILE, one a line (-: stdin)."
)
@click.option("--optional", multiple=True, metavar="PATH", type=RAW_PATH, help="Save it if it is there.")
@click.option(
    "--sqlite",
    type=click.Choice(["auto", "off"]),
    default="auto",
    show_default=True,
    help="Copy the SQLite databases among the files as of one instant.",
)
@click.option("--postgres", multiple=True, metavar="[NAME=]URL", help="Save a PostgreSQL database, or all of a server.")
@click.option("--mariadb", multiple=True, metavar="[NAME=]URL", help="The same for MariaDB and MySQL.")
@click.option("--command", "commands", multiple=True, metavar="NAME=COMMAND", help="Save the output of a program.")
@click.option("--dump-timeout", type=DURATION, metavar="TIME", help="The most time that a dump or program may take.")
@click.option("--tag", "tags", multiple=True, metavar="TAG[,TAG]", help="Mark the snapshot. Repeatable.")
@click.option("--host", default="", metavar="NAME", help="Record this host name instead of the machine's.")
@click.option("--note", default="", metavar="TEXT", help="Record a note with the snapshot.")
@click.option(
    "--parent", metavar="SNAPSHOT", help="Compare with this snapshot. [default: the latest of host and paths]"
)
@click.option("--force", is_flag=True, help="Read every file again, changed or not.")
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what would be saved.")
@click.option("--workers", type=click.IntRange(0, 256), metavar="N", help="Worker processes. [default: by the machine]")
@shared()
@click.pass_obj
def command(
    common: Common,
    paths: tuple[bytes, ...],
    to: tuple[str, ...],
    excludes: tuple[str, ...],
    exclude_files: tuple[str, ...],
    no_default_excludes: bool,
    exclude_larger_than: int | None,
    one_file_system: bool,
    files_from: tuple[str, ...],
    optional: tuple[bytes, ...],
    sqlite: str,
    postgres: tuple[str, ...],
    mariadb: tuple[str, ...],
    commands: tuple[str, ...],
    dump_timeout: float | None,
    tags: tuple[str, ...],
    host: str,
    note: str,
    parent: str | None,
    force: bool,
    dry_run: bool,
    workers: int | None,
) -> int:
    """Save files and folders as a new snapshot.

    Databases are saved below /.holdfast/databases, straight from the program that writes them out; one that fails is
    not in the snapshot. Without --to and --vault it goes into the default vault, which the first backup makes
    together with a key file.
    """
    from holdfast.app.backup import BackupRequest, read_paths
    from holdfast.app.databases import make_sources

    if not all(to):
        raise click.BadParameter("it is empty.", param_hint="--to")
    request = BackupRequest(
        paths=(*paths, *read_paths(files_from)),
        optional=optional,
        excludes=excludes,
        exclude_files=exclude_files,
        default_excludes=not no_default_excludes,
        larger_than=exclude_larger_than,
        one_file_system=one_file_system,
        tags=tuple(tag for words in tags for tag in words.split(",") if tag),
        hostname=host,
        note=note,
        parent=parent,
        force=force,
        dry_run=dry_run,
        verbose=common.verbose,
        workers=workers,
        sources=make_sources(postgres=postgres, mariadb=mariadb, commands=commands, limit=dump_timeout),
        sqlite=sqlite == "auto",
    )
    with session(common) as here:
        request = replace(request, estimate=here.console.is_watched)
        if len(to) <= 1:
            return _one(here.at(to[0] if to else None), request)
        return _several(here, to, request)


def _one(here: Session, request: BackupRequest) -> int:
    from holdfast.app.backup import back_up

    return _show(here, request, back_up(here.context, request))


def _several(here: Session, to: tuple[str, ...], request: BackupRequest) -> int:
    """Save into each vault; one that fails does not keep the others from theirs. The first failure is the answer."""
    code = 0
    for location in to:
        try:
            done = _one(here.at(location), request)
            code = code or done
        except HoldfastError as error:
            told = failure(error)
            here.console.fail(told)
            code = code or told.exit_code
    return code


def _show(here: Session, request: BackupRequest, result: BackupResult) -> int:
    console, summary = here.console, result.summary
    if result.made is not None:
        from holdfast.cli.commands.init import tell_new_vault

        tell_new_vault(here, result.made)
    for warning in summary.warnings:
        console.warn(f"{text.name(warning.path)}: {warning.message}")
    console.problems((problem.path, problem.message, problem.during) for problem in summary.problems)
    if not console.quiet:
        console.line(sentence(summary, dry_run=request.dry_run))
    console.event(
        "summary",
        outcome=str(summary.outcome),
        location=result.location,
        dry_run=request.dry_run,
        snapshot=summary.snapshot.hex() if summary.snapshot else None,
        parent=summary.parent.hex() if summary.parent else None,
        **{name: getattr(summary, name) for name in COUNTS},
        seconds=round(summary.seconds, 3),
        problems=len(summary.problems),
        warnings=len(summary.warnings),
        vault_created=result.made is not None,
        key_file=os.fspath(result.made.key_file) if result.made and result.made.key_file else None,
    )
    return OUTCOMES[summary.outcome]


COUNTS = (
    *("files_new", "files_changed", "files_unmodified", "dirs_new", "dirs_changed", "dirs_unmodified"),
    *(
        "data_blobs",
        "tree_blobs",
        "data_added",
        "data_added_packed",
        "total_files",
        "total_bytes",
        "excluded",
        "databases",
    ),
)


def sentence(summary: BackupSummary, *, dry_run: bool) -> str:
    """The result in one sentence."""
    if dry_run:
        begin = "Would save"
    elif summary.snapshot is not None:
        begin = f"Snapshot {short(summary.snapshot)} saved:"
    else:
        begin = "No snapshot saved:"
    share = (
        f"{summary.files_new:,} new, {summary.files_changed:,} changed, {summary.files_unmodified:,} unchanged"
        if summary.parent is not None or summary.files_changed or summary.files_unmodified
        else "all new"
    )
    parts = [
        f"{begin} {text.plural(summary.total_files, 'file')} ({text.size(summary.total_bytes)})",
        share,
        f"{text.size(summary.data_added)} to add, before compression"
        if dry_run
        else f"{text.size(summary.data_added)} added ({text.size(summary.data_added_packed)} stored)"
        + f" in {text.duration(summary.seconds)}",
    ]
    if summary.databases:
        parts.insert(1, text.plural(summary.databases, "database") + " copied")
    if summary.problems:
        parts.append(f"{text.plural(len(summary.problems), 'item')} could not be saved")
    return "; ".join(parts)
