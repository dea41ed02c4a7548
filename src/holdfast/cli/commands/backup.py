"""``holdfast backup``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from holdfast.cli.commands.plans import choose, explain_missing, run_plans
from holdfast.cli.commands.saved import show
from holdfast.cli.errors import failure
from holdfast.cli.options import Common, shared
from holdfast.cli.session import Session, session
from holdfast.cli.values import DURATION, RAW_PATH, SIZE
from holdfast.kernel.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.app.backup import BackupRequest


@click.command("backup")
@click.argument("paths", metavar="[PLAN | PATH...]", nargs=-1, type=RAW_PATH)
@click.option("--plan", "plans", multiple=True, metavar="NAME", help="Run this plan of the configuration. Repeatable.")
@click.option("--all", "every", is_flag=True, help="Run every plan of the configuration.")
@click.option("--to", multiple=True, metavar="VAULT", help="The vault to save into, location or name. Repeatable.")
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
@click.option("--redis", multiple=True, metavar="[NAME=]URL", help="Save all databases of a Redis server.")
@click.option("--command", "commands", multiple=True, metavar="NAME=COMMAND", help="Save the output of a program.")
@click.option("--dump-timeout", type=DURATION, metavar="TIME", help="The most time that a dump or program may take.")
@click.option("--tag", "tags", multiple=True, metavar="TAG[,TAG]", help="Mark the snapshot. Repeatable.")
@click.option("--host", default="", metavar="NAME", help="Record this host name instead of the machine's.")
@click.option("--note", default="", metavar="TEXT", help="Record a note with the snapshot.")
@click.option(
    "--parent", metavar="SNAPSHOT", help="Compare with this snapshot. [default: the latest of host and paths]"
)
@click.option("--force", "--checksum", "force", is_flag=True, help="Read every file again, changed or not.")
@click.option("--allow-empty", is_flag=True, help="Let a vault of plain files follow a folder that is suddenly empty.")
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what would be saved.")
@click.option("--workers", type=click.IntRange(0, 256), metavar="N", help="Worker processes. [default: by the machine]")
@shared()
@click.pass_obj
def command(
    common: Common,
    paths: tuple[bytes, ...],
    plans: tuple[str, ...],
    every: bool,
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
    redis: tuple[str, ...],
    commands: tuple[str, ...],
    dump_timeout: float | None,
    tags: tuple[str, ...],
    host: str,
    note: str,
    parent: str | None,
    force: bool,
    allow_empty: bool,
    dry_run: bool,
    workers: int | None,
) -> int:
    """Save files and folders as a new snapshot.

    Or run a plan of the configuration: a word is a plan if there is one of that name; ./word is a file or folder.

    Databases are saved below /.holdfast/databases, straight from the program that writes them out; one that fails is
    not in the snapshot. Without --to and --vault it goes into the configured default vault; without a configuration
    into the built-in one, which the first backup makes together with a key file.
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
        allow_empty=allow_empty,
        dry_run=dry_run,
        verbose=common.verbose,
        workers=workers,
        sources=make_sources(postgres=postgres, mariadb=mariadb, redis=redis, commands=commands, limit=dump_timeout),
        sqlite=sqlite == "auto",
    )
    with session(common) as here:
        here.console.lists_items = common.verbose or dry_run
        request = replace(request, estimate=here.console.is_watched)
        if chosen := choose(here, paths, plans, every=every):
            return run_plans(here, chosen, request, to or ((common.vault,) if common.vault else ()), words=len(paths))
        explain_missing(here, request.paths)
        if len(to) <= 1:
            return _one(here.at(to[0] if to else None), request)
        return _several(here, to, request)


def _one(here: Session, request: BackupRequest) -> int:
    from holdfast.app.backup import back_up

    return show(here, back_up(here.context, request), dry_run=request.dry_run)


def _several(here: Session, to: tuple[str, ...], request: BackupRequest) -> int:
    """Save into each vault; one that fails does not keep the others from theirs. The first failure is the answer."""
    from holdfast.app.backup import one_scan, with_lines

    code = 0
    request = with_lines(request)
    with one_scan(here.context, len(to)) as scan:
        for location in to:
            scan.turn()
            try:
                done = _one(here.at(location), replace(request, scan=scan))
                code = code or done
            except HoldfastError as error:
                told = failure(error)
                here.console.fail(told)
                code = code or told.exit_code
    return code
