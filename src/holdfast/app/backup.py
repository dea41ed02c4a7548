"""Use case: save files and folders as a new snapshot, in one vault or in several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from holdfast.app.context import Context, Meanwhile, hostname, username
from holdfast.app.endings import of_backup
from holdfast.app.init import NewVault, init
from holdfast.app.recording import note, recording
from holdfast.kernel.errors import Denied, Invalid, NotFound, Unsupported
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.files.rules import Rules
    from holdfast.sources.base import Source
    from holdfast.sources.onescan import OneScan
    from holdfast.storage import Storage
    from holdfast.vaults.archive import ArchiveVault
    from holdfast.vaults.archive.backup import Ahead
    from holdfast.vaults.base import BackupSummary

NO_PATH_HINT = "Name what to save, for example: holdfast backup ~/Documents"


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """What to save and what to leave out; see ``vaults.base.BackupOptions`` for what is not explained here.

    ``excludes`` are gitignore lines, ``exclude_files`` files of such lines (``-`` is standard input), ``larger_than``
    is in bytes. ``sources`` are databases and programs (see ``app.databases``), ``sqlite`` copies the live SQLite files
    among the paths consistently. ``scan``: see :func:`one_scan`.
    """

    paths: tuple[bytes, ...]
    optional: tuple[bytes, ...] = ()
    excludes: tuple[str, ...] = ()
    exclude_files: tuple[str, ...] = ()
    default_excludes: bool = True
    larger_than: int | None = None
    one_file_system: bool = False
    tags: tuple[str, ...] = ()
    hostname: str = ""
    note: str = ""
    parent: str | None = None
    force: bool = False
    allow_empty: bool = False
    dry_run: bool = False
    verbose: bool = False
    estimate: bool = False
    workers: int | None = None
    sources: tuple[Source, ...] = ()
    sqlite: bool = True
    scan: OneScan | None = None


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What came of it: the engine's summary, where it went, the vault that was made for it, if one was, and what kind
    of vault it is."""

    location: str
    summary: BackupSummary
    made: NewVault | None
    kind: str = "archive"


def check_request(request: BackupRequest) -> None:
    """Refuse what cannot come to anything, before a vault is opened or made.

    Raises ``Invalid`` without any path or with an empty one, ``NotFound`` where every path is missing. Some missing
    paths are the engine's to tell: the others are saved, and the outcome is ``partial``.
    """
    if not request.paths and not request.optional and not request.sources:
        raise Invalid("nothing to back up: no path is given", hint=NO_PATH_HINT)
    everything = (*request.paths, *request.optional)
    if not everything:
        return
    if not all(everything):
        raise Invalid("one of the paths is empty", hint="Is there a variable in it that is not set?")
    if not any(map(os.path.lexists, everything)):
        names = ", ".join(os.fsdecode(path) for path in everything[:3]) + (" ..." if len(everything) > 3 else "")
        raise NotFound(
            f"no such file or folder: {names}",
            hint="Nothing was backed up. Check the spelling, and that the disk is mounted.",
            paths=[os.fsdecode(path) for path in everything],
        )


def _about(request: BackupRequest) -> dict[str, Any]:
    return {
        "paths": list((*request.paths, *request.optional)[:20]),
        "sources": len(request.sources),
        "tags": request.tags,
    }


@recording("backup", of_backup, about=_about)
def back_up(context: Context, request: BackupRequest) -> BackupResult:
    """Save into the context's vault. The default vault is made, with a generated key file, where it is missing.

    A dry run makes nothing: where the default vault is missing it counts against an empty one in memory.
    """
    from holdfast.app.plain import plain_vault
    from holdfast.vaults.base import BackupOptions

    check_request(request)
    rules, lines = read_rules(request)
    options = BackupOptions(
        paths=(*request.paths, *request.optional),
        rules=rules,
        optional=frozenset(request.optional),
        hostname=request.hostname or hostname(),
        username=username(),
        tags=request.tags,
        note=request.note,
        parent=request.parent,
        force=request.force,
        allow_empty=request.allow_empty,
        one_file_system=request.one_file_system,
        dry_run=request.dry_run,
        verbose=request.verbose,
        estimate=request.estimate,
        workers=request.workers,
        exclude_texts=lines,
        program=f"holdfast {_version()}",
        sources=request.sources,
        sqlite=request.sqlite,
        scan=request.scan,
    )
    _tell_of_links(context, options.paths)
    plain = plain_vault(context)
    if plain is not None:
        if request.sources:
            raise Unsupported(
                f"a {plain.kind} vault takes files, not databases and the output of programs",
                hint="Save those into an archive vault.",
            )
        _refuse_inside(_device_and_inode(plain.root), options.paths)
        summary = plain.backup(options, emit=context.emit, cancel=context.cancel)
        _note_space(context, plain.location)
        return BackupResult(plain.location, summary, None, plain.kind)
    if request.allow_empty:
        raise Invalid(
            "--allow-empty is for vaults of plain files", hint="An archive keeps what was saved before; leave it out."
        )
    ahead: list[Ahead] = []

    def list_ahead(storage: Storage, until: Callable[[], bool]) -> None:
        from holdfast.vaults.archive.backup import Ahead

        ahead.append(Ahead(options, storage, context.clock))
        ahead[0].scan(until)

    with _vault(context, list_ahead, dry_run=request.dry_run) as (vault, made):
        _refuse_own_folder(vault.repository.storage, options.paths)
        summary = vault.backup(options, emit=context.emit, cancel=context.cancel, ahead=ahead[0] if ahead else None)
        _note_space(context, vault.location)
        return BackupResult(vault.location, summary, made)


def one_scan(context: Context, backups: int) -> OneScan:
    """What backups of one request into several vaults share, so that directories are read once: see ``OneScan``. Give
    it to all of them as ``scan``, and the request through :func:`with_lines` first."""
    from holdfast.sources.onescan import OneScan

    folder: str | None = str(context.paths.cache)
    if backups > 1:
        try:
            os.makedirs(str(folder), mode=0o700, exist_ok=True)
        except OSError:
            folder = None
    return OneScan(backups, folder, context.clock)


def with_lines(request: BackupRequest) -> BackupRequest:
    """The request with what its files of excludes say by now, so that every vault leaves out the same. Raises as
    :func:`read_lines`."""
    lines = [line for path in request.exclude_files for line in read_lines(path)]
    return replace(request, excludes=(*request.excludes, *lines), exclude_files=())


def _note_space(context: Context, location: str) -> None:
    """Keep in the record how full the disk of a local vault is: from this follows when there is no more room."""
    if not os.path.isabs(location):
        return
    with suppress(OSError, AttributeError):
        found = os.statvfs(location)
        total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
        data = {"free": free, "total": total, "used": total - found.f_bfree * found.f_frsize}
        words = f"{free / (1 << 30):,.1f} of {total / (1 << 30):,.1f} GiB are free on the vault's disk"
        note(context, Fact("vault.space", words, "info", data))


def _device_and_inode(folder: bytes) -> frozenset[tuple[int, int]]:
    st = os.stat(folder)
    return frozenset(((st.st_dev, st.st_ino),))


def _tell_of_links(context: Context, paths: Iterable[bytes]) -> None:
    """A link to a folder is saved as what it is, a link: as with every tool of this kind, but hardly what is meant."""
    for path in paths:
        place = path.rstrip(b"/")
        if os.path.islink(place) and os.path.isdir(place):
            meant = os.fsdecode(os.path.realpath(place))
            words = f"{os.fsdecode(place)} is a symbolic link, and only the link is saved"
            words += f": name {meant} to save what is in it"
            context.emit(Fact("path.link", words, "warning", {"path": place}))


def _refuse_own_folder(storage: Storage, paths: Iterable[bytes]) -> None:
    from holdfast.vaults.archive.backup.ahead import own_folder

    _refuse_inside(own_folder(storage), paths)


def _refuse_inside(own: frozenset[tuple[int, int]], paths: Iterable[bytes]) -> None:
    """Raise ``Invalid`` where a path is the vault, or lies in it: it would grow by what it just stored, every time."""
    for path in paths:
        above, name = os.path.split(os.path.abspath(path))
        place = os.path.join(os.path.realpath(above), name)
        while own:
            with suppress(OSError):
                st = os.lstat(place)
                if (st.st_dev, st.st_ino) in own:
                    raise Invalid(
                        f"{os.fsdecode(path)} belongs to the vault that is saved into",
                        hint="A vault is never saved into itself. To have it twice, copy it or save it into another.",
                    )
            if place in (b"/", b""):
                break
            place = os.path.dirname(place)


def read_rules(request: BackupRequest) -> tuple[Rules, tuple[str, ...]]:
    """The compiled rules, and their lines as they are recorded in the snapshot."""
    from holdfast.files.rules import Rules

    lines = with_lines(request).excludes
    rules = Rules.compile(
        lines,
        defaults=request.default_excludes,
        cachedir_tag=request.default_excludes,
        larger_than=request.larger_than,
        home=os.fsencode(os.path.expanduser("~")) if request.default_excludes else b"",
    )
    written = tuple(line for line in lines if line.strip() and not line.startswith("#"))
    return rules, written


def read_lines(path: str) -> list[str]:
    """The lines of a file (``-``: standard input) without their ends. Raises ``NotFound``, ``Denied``, ``Invalid``."""
    try:
        with open(0 if path == "-" else os.path.expanduser(path), "rb", closefd=path != "-") as file:
            return [os.fsdecode(line.rstrip(b"\r\n")) for line in file]
    except FileNotFoundError:
        raise NotFound(f"no such file: {path}") from None
    except IsADirectoryError:
        raise Invalid(f"{path} is a folder; a file with one entry a line is wanted") from None
    except OSError as error:
        raise Denied(f"cannot read {path}: {error.strerror}") from error


def read_paths(files: Iterable[str]) -> tuple[bytes, ...]:
    """The paths that list files name, one a line; or, where a NUL is in the file, separated by NULs (find -print0)."""
    found: list[bytes] = []
    for path in files:
        raw = b"\n".join(os.fsencode(line) for line in read_lines(path))
        found += [item for item in raw.split(b"\0" if b"\0" in raw else b"\n") if item]
    return tuple(found)


@contextmanager
def _vault(context: Context, meanwhile: Meanwhile, *, dry_run: bool) -> Iterator[tuple[ArchiveVault, NewVault | None]]:
    storage = context.storage()
    try:
        missing = context.chosen is None and not context.has_vault(storage)
    finally:
        storage.close()
    if missing and dry_run:
        with context.imagined() as vault:
            yield vault, None
        return
    made = init(context) if missing else None
    with context.opened(meanwhile) as vault:
        yield vault, made


def _version() -> str:
    from holdfast import __version__

    return __version__
