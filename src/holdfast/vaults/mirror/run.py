"""A backup into a mirror: its sources in turn, the folders above them, and what the vault says of itself."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from holdfast.files.xattrs import read_xattrs
from holdfast.format.time import format_time
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Cancelled, HoldfastError, Invalid, NotFound, Unavailable
from holdfast.kernel.events import Emit
from holdfast.kernel.ids import SnapshotId
from holdfast.kernel.pool import default_size
from holdfast.sources.directory import Lister
from holdfast.vaults.base import BackupOptions, BackupSummary, Outcome
from holdfast.vaults.marker import FOLDER, Marker
from holdfast.vaults.mirror.frames import Frame, Telling
from holdfast.vaults.mirror.here import SALT, Here
from holdfast.vaults.mirror.records import NO_HASH, Record, stamp, stamp_here
from holdfast.vaults.mirror.saved import MEMBER, saved
from holdfast.vaults.mirror.state import Directory, State
from holdfast.vaults.mirror.walk import Walk
from holdfast.vaults.standin import SALT as DATABASES

SNAPSHOT = "snapshot"
"""The name of the fact that describes the mirror as the one snapshot that it is."""

_COUNTS = ("files_new", "files_changed", "files_unmodified", "files_removed",
           "dirs_new", "dirs_changed", "dirs_unmodified", "data_added")  # fmt: skip


def backup(
    root: bytes, marker: Marker, options: BackupOptions, *, clock: Clock, emit: Emit, cancel: Cancel
) -> BackupSummary:
    """Make the mirror at ``root`` equal to its sources; the caller holds its lock.

    Each source has its own place, its absolute path; what earlier runs mirrored of other sources stays. Raises
    ``NotFound`` if no source exists, ``Cancelled`` (what was done by then is kept), ``NoSpace``, ``Unavailable``. What
    cannot be read or written is a problem, and the mirror keeps its copy of it; so does a source that is missing, or
    empty by surprise. A crash at any point leaves every file as it was or as it is to be; the next run does the rest.
    """
    return _Run(root, marker, options, clock, emit, cancel).run()


class _Run:
    """One backup: the order of its steps and what they share."""

    def __init__(
        self, root: bytes, marker: Marker, options: BackupOptions, clock: Clock, emit: Emit, cancel: Cancel
    ) -> None:
        self._root = root
        self._options = options
        self._clock = clock
        self._cancel = cancel
        self._summary = BackupSummary()
        dry_run = options.dry_run
        self._telling = Telling(self._summary, emit, clock, changes=dry_run, everything=options.verbose)
        self._marker = marker
        self._made: set[bytes] = set()  # folders above sources that were made or replaced by this run
        self._seen: dict[bytes, os.stat_result] = {}  # folders that are sources, as the walk saw them: they may change

    def run(self) -> BackupSummary:
        began, started_ns = self._clock.monotonic(), self._clock.now_ns()
        options, summary = self._options, self._summary
        sources = self._sources()
        state = State(self._root, write=not options.dry_run)
        here = Here(self._root, protect=bool(self._marker.settings.get("protect")), forget=state.forget)
        try:
            last = state.fact(SNAPSHOT)
            summary.parent = None if last is None else SnapshotId(bytes.fromhex(last["id"]))
            salt = SALT + DATABASES * options.sqlite
            walk = Walk(
                Lister(
                    options.rules, salt, own_folder(self._root), self._devices(sources), options.verbose, options.scan
                ),
                here, state, self._telling, self._cancel, self._clock,
                force=options.force, dry_run=options.dry_run, allow_empty=options.allow_empty, sqlite=options.sqlite,
                workers=default_size(0) if options.workers is None else options.workers,
            )  # fmt: skip
            try:
                self._mirror(sources, walk, here, state)
            except (HoldfastError, Cancelled):
                walk.commit()
                raise
            finally:
                walk.close()
            self._count()
            if not options.dry_run:
                summary.snapshot = self._describe(state, last, sources, started_ns)
                walk.commit()
        finally:
            here.close()
            state.close()
        summary.seconds = self._clock.monotonic() - began
        return summary

    def _sources(self) -> list[bytes]:
        """The sources that exist, without those inside of others."""
        options = self._options
        if not options.paths:
            raise Invalid("Nothing to back up was named.", hint="Name at least one file or folder.")
        named = dict.fromkeys(absolute(path) for path in options.paths)
        optional = {absolute(path) for path in options.optional}
        found = []
        for path in named:
            try:
                os.lstat(path)
            except OSError as error:
                if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                    why = "does not exist; what the mirror holds of it stays"
                else:
                    why = error.strerror or str(error)
                (self._telling.warning if path in optional else self._telling.failed)(path, why)
            else:
                found.append(path)
        if not found:
            shown = os.fsdecode(next(iter(named)))
            raise NotFound(
                f"There is nothing to back up: {shown} does not exist."
                if len(named) == 1
                else "There is nothing to back up: none of the given paths exists.",
                hint="Check the spelling, and whether the disk is mounted. Nothing was removed from the mirror.",
                paths=[os.fsdecode(path) for path in named],
            )
        every = set(found)
        return [path for path in found if not any(above in every for above in _above(path))]

    def _devices(self, sources: list[bytes]) -> frozenset[int]:
        return frozenset(os.lstat(path).st_dev for path in sources if self._options.one_file_system)

    def _mirror(self, sources: list[bytes], walk: Walk, here: Here, state: State) -> None:
        for path in sources:
            place = path[1:]
            if place == FOLDER or place.startswith(FOLDER + b"/"):
                self._telling.failed(path, "a mirror cannot hold this: it is the name of its own folder")
                continue
            self._prepare(path, here, state)
            st = os.lstat(path)
            if st.st_mode & 0o170000 == 0o040000:
                there = here.stat(place)
                known = state.items(place.rpartition(b"/")[0]).get(place.rpartition(b"/")[2]) if place else None
                right = known is not None and there is not None
                right = right and (known.source, known.here) == (stamp(st), stamp_here(there))  # type: ignore[union-attr, arg-type]
                top = Frame(path, place, self._options.rules.root(path), fix=bool(place) and not right)
                walk.mirror(top)
                if top.st is not None and not top.failed:
                    self._seen[place] = top.st
            else:
                above, name = os.path.split(path)
                only = frozenset((name,))
                walk.mirror(Frame(above, above[1:], self._options.rules.root(above), only=only))
        if not self._options.dry_run:
            self._finish_above(sources, here, state)

    def _prepare(self, path: bytes, here: Here, state: State) -> None:
        """The folders in the mirror from its root down to a source; what else stands there gives way."""
        is_dir = os.path.isdir(path) and not os.path.islink(path)
        places = [place[1:] for place in (*reversed(list(_above(path))), *([path] if is_dir else []))]
        above = b""
        for place in places:
            there = here.stat(place) if place else None
            if place and (there is None or there.st_mode & 0o170000 != 0o040000):
                if not self._options.dry_run:
                    here.writable(above)
                    if there is not None:
                        here.remove(place)
                    here.make_directory(place)
                    self._made.update((above, place))
                if there is not None:
                    self._telling.removed(b"/" + place, there.st_mode)
                if place == path[1:]:
                    self._telling.directory("new")
                    self._telling.other("new", path)
            above = place

    def _finish_above(self, sources: list[bytes], here: Here, state: State) -> None:
        """Metadata of the folders above the sources, and what is known of them: from the innermost to the root."""
        whole = {path[1:] for path in sources}
        places = {place for path in sources for place in (path[1:], *(above[1:] for above in _above(path))) if place}
        for place in sorted(places, key=lambda place: place.count(b"/"), reverse=True):
            above, _, name = place.rpartition(b"/")
            there = here.stat(place)
            if there is None:
                continue  # it could not be read, and was never mirrored
            known = state.items(above)
            record = known.get(name)
            is_dir = there.st_mode & 0o170000 == 0o040000
            try:
                st = self._seen.get(place) if place in whole else os.stat(b"/" + place)
                xattrs = read_xattrs(b"/" + place, follow=True) if is_dir else ()
            except OSError:
                continue
            if st is None:
                continue
            source = stamp(st)
            right = record is not None and (record.source, record.here) == (source, stamp_here(there))
            if is_dir and place not in whole and (not right or place in self._made):
                for why in here.finish(place, st, xattrs):
                    self._telling.warning(b"/" + place, why, once=True)
                there = here.stat(place) or there
            if not is_dir:
                continue
            record = Record(source, stamp_here(there), NO_HASH)
            if known.get(name) != record:
                row = state.directory(above) or Directory(b"", b"", 0, 0, 0)
                state.put(above, row._replace(source=b"", here=b""), {**known, name: record})

    # -- after -----------------------------------------------------------------------------------------------------

    def _count(self) -> None:
        summary = self._summary
        summary.total_files = summary.files_new + summary.files_changed + summary.files_unmodified
        if summary.problems:
            summary.outcome = Outcome.PARTIAL

    def _describe(self, state: State, last: dict[str, Any] | None, sources: list[bytes], ns: int) -> SnapshotId:
        """The mirror as a snapshot; its id is the SHA-256 of what is said of it."""
        options, summary, clock = self._options, asdict(self._summary), self._clock
        before = last.get("paths", []) if last is not None else []
        inside = [path + b"/" for path in sources if path != b"/"]
        kept = [
            path
            for path in map(os.fsencode, before if isinstance(before, list) else [])
            if path not in sources and b"/" not in sources and not any(path.startswith(place) for place in inside)
            and os.path.lexists(self._root + path)
        ]  # fmt: skip
        paths = [os.fsdecode(path) for path in sorted((*sources, *kept))]
        files, size = state.totals() if kept else (summary["total_files"], summary["total_bytes"])
        ended = clock.now_ns()
        fields: dict[str, Any] = {
            "time": format_time(ns, clock.utc_offset(ns)),
            "time_ns": ns,
            "hostname": options.hostname,
            "username": options.username,
            "paths": paths,
            "tags": list(options.tags),
            "note": options.note,
            "parent": None if last is None else last["id"],
            "program": options.program,
            "excludes": list(options.exclude_texts),
            "summary": {
                "backup_start": format_time(ns, clock.utc_offset(ns)),
                "backup_end": format_time(ended, clock.utc_offset(ended)),
                **{name: summary[name] for name in _COUNTS},
                "total_files_processed": files,
                "total_bytes_processed": size,
            },
        }
        fields[MEMBER] = saved(fields, sources, last, kept)
        identifier = sha256(self._marker.id + json.dumps(fields).encode()).digest()
        state.set_fact(SNAPSHOT, {**fields, "id": identifier.hex()})
        return SnapshotId(identifier)


def absolute(path: bytes) -> bytes:
    """The absolute, cleaned form of a path; links are not resolved."""
    return os.path.normpath(os.path.join(os.getcwdb(), path)).replace(b"//", b"/")


def own_folder(root: bytes) -> frozenset[tuple[int, int]]:
    """(device, inode) of the mirror itself, which is never mirrored into itself."""
    try:
        st = os.stat(root)
    except FileNotFoundError as error:
        raise Unavailable(
            f"the folder {os.fsdecode(root)} has disappeared",
            hint="Check that the disk is still connected and mounted, then run this again.",
        ) from error
    return frozenset(((st.st_dev, st.st_ino),))


def _above(path: bytes) -> list[bytes]:
    """The folders above an absolute path, the nearest first."""
    found = []
    while path != b"/":
        path = os.path.dirname(path)
        found.append(path)
    return found
