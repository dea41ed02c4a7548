"""Compare the source with the vault's current versions, folder by folder, and draft what has to change."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from holdfast.files.names import Names
from holdfast.files.rules import Scope
from holdfast.files.xattrs import read_xattrs
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.events import Emit, Tick
from holdfast.sources.directory import NOTHING, Item, Lister, Listing, list_directory, open_directory
from holdfast.vaults.base import BackupSummary
from holdfast.vaults.versioned.draft import Draft, version_of
from holdfast.vaults.versioned.index import Index
from holdfast.vaults.versioned.journal import Tell
from holdfast.vaults.versioned.model import SAME, Change, Version, join
from holdfast.vaults.versioned.staging import Content, hash_file, read_whole

if TYPE_CHECKING:
    from holdfast.format.node import Stat  # not at run time: it brings the cryptography along, 12 ms

_FRESH_NS = 20_000_000
"""A change so soon after another may leave the same ctime: file systems count in ticks of up to 10 ms."""

_MASK = (1 << 63) - 1
Known = dict[bytes, Version]


@dataclass(slots=True)
class Seen:
    """What a scan saw, for the summary beside its own counts."""

    copied: int = 0


class Scan:
    """One backup's look at its source. ``force`` compares every file by its content."""

    def __init__(
        self,
        index: Index,
        draft: Draft,
        lister: Lister,
        summary: BackupSummary,
        *,
        force: bool,
        allow_empty: bool,
        verbose: bool,
        clock: Clock,
        emit: Emit,
        cancel: Cancel,
        tell: Tell,
    ) -> None:
        self._index = index
        self._draft = draft
        self._lister = lister
        self._summary = summary
        self._force = force
        self._allow_empty = allow_empty
        self._verbose = verbose
        self._clock = clock
        self._emit = emit
        self._cancel = cancel
        self._tell = tell
        self._names = Names()
        self._listings = {} if force else index.listings()
        self._above: set[bytes] = set()
        self.seen = Seen()

    def target(self, path: bytes) -> None:
        """One path that was named (absolute; it exists). Errors of the source are told; raises the vault's."""
        if path != b"/":
            folder, _, name = path.rpartition(b"/")
            self._folders_above(folder)
            fd = open_directory(folder or b"/")
            try:
                listing = list_directory([name], fd, _anything(), None, b"")
                known = self._index.one(folder, name)
                if not listing.items:
                    self._tell("failed", path, "vanished, or is a socket")
                    return
                entered = self._item(fd, folder, listing.items[0], known, self._clock.now_ns())
            finally:
                os.close(fd)
            if not entered:
                return
        self._tree(path)

    # -- folders ---------------------------------------------------------------------------------------------------

    def _tree(self, top: bytes) -> None:
        stack: list[tuple[bytes, bytes, Scope]] = [(top, b"", self._lister.rules.root(top))]
        while stack:
            self._cancel.check()
            path, name, scope = stack.pop()
            try:
                fd = open_directory(path)
            except OSError as error:
                gone = isinstance(error, FileNotFoundError)
                why = "vanished while the backup was running" if gone else error.strerror or str(error)
                self._tell("warning" if gone else "failed", path, why)
                continue
            try:
                began = self._clock.now_ns()
                inner, listing = self._lister.look(fd, scope, name)
                folders = self._folder(fd, b"" if path == b"/" else path, listing, began)
            except OSError as error:
                self._tell("failed", path, error.strerror or str(error))
                continue
            finally:
                os.close(fd)
            prefix = b"" if path == b"/" else path
            stack += [(join(prefix, one), one, inner) for one in reversed(folders)]
            self._tick(path)

    def _folder(self, fd: int, path: bytes, listing: Listing, began: int) -> list[bytes]:
        """Draft the changes directly in one folder; returns the names of folders to go on with."""
        self._summary.excluded += listing.excluded
        for name, why in listing.reasons:
            self._tell("excluded", join(path, name), why)
        key = listing.key
        if self._listings.get(path) == key:
            return self._unchanged(path, listing.items)
        known = {version.name: version for version in self._index.at(path)}
        found = {item.name for item in listing.items}
        failed = len(self._summary.problems) + len(self._summary.warnings)
        for version in known.values():
            if version.name not in found:
                self._remove(path, version)
        folders = []
        fresh = False
        for item in listing.items:
            if self._item(fd, path, item, known.get(item.name), began):
                folders.append(item.name)
            fresh = fresh or item.stat.st_ctime_ns > began - _FRESH_NS
            if self._draft.full:
                self._draft.commit()
        sound = not fresh and failed == len(self._summary.problems) + len(self._summary.warnings)
        self._draft.listings[path] = key if sound and key != NOTHING else None
        return folders

    def _unchanged(self, path: bytes, items: Iterable[Item]) -> list[bytes]:
        folders = []
        files = size = 0
        for name, st in items:
            kind = st.st_mode & 0o170000
            if kind == 0o040000:
                folders.append(name)
            elif kind == 0o100000:
                files += 1
                size += st.st_size
                if self._verbose:
                    self._tell("unchanged", join(path, name), "")
        summary = self._summary
        summary.dirs_unmodified += len(folders)
        summary.files_unmodified += files
        summary.total_bytes += size
        return folders

    def _folders_above(self, path: bytes) -> None:
        """The folders that lead to what was named: kept with their permissions, not followed in their times."""
        above = path
        chain = []
        while above and above not in self._above:
            chain.append(above)
            self._above.add(above)
            above = above.rpartition(b"/")[0]
        for one in reversed(chain):
            folder, _, name = one.rpartition(b"/")
            known = self._index.one(folder, name)
            st = os.stat(one)
            if known is None or not known.is_dir or _rights(known) != (st.st_mode, st.st_uid, st.st_gid):
                before, _ = (None, 0) if known is None else self._draft.end(folder, known, None, 0)
                after = version_of(name, st, self._draft.number, self._names)
                self._draft.add(Change(folder, name, before, after))

    def _remove(self, folder: bytes, version: Version) -> None:
        """Draft the removal of an item and of everything beneath it, the deepest first."""
        found = [(folder, version)]
        at = 0
        while at < len(found):
            above, one = found[at]
            at += 1
            if one.is_dir:
                inside = join(above, one.name)
                self._draft.listings[inside] = None
                found += [(inside, child) for child in self._index.at(inside)]
        for above, one in reversed(found):
            before, _ = self._draft.end(above, one, None, 0)
            self._draft.add(Change(above, one.name, before, None))
            self._summary.files_removed += one.is_file
            self._tell_change("removed", join(above, one.name), "")

    # -- items -----------------------------------------------------------------------------------------------------

    def _item(self, fd: int, folder: bytes, item: Item, known: Version | None, began: int) -> bool:
        """Draft what one item needs; True if it is a folder to go into."""
        name, st = item
        if known is not None and known.is_dir and self._seems_unmounted(fd, folder, item, known):
            return False
        if known is not None and _is_same(known, st) and not (self._force and known.is_file):
            self._count(st.st_mode, st.st_size if known.is_file else 0, "unmodified")
            if self._verbose and known.is_file:
                self._tell("unchanged", join(folder, name), "")
            return known.is_dir
        trusted = st.st_ctime_ns <= began - _FRESH_NS
        try:
            if stat.S_ISREG(st.st_mode):
                self._file(fd, folder, item, known, trusted)
            else:
                self._other(fd, folder, item, known, trusted)
        except FileNotFoundError:
            self._tell("warning", join(folder, name), "vanished while the backup was running")
            return False
        except OSError as error:
            self._tell("failed", join(folder, name), error.strerror or str(error))
            return False
        return stat.S_ISDIR(st.st_mode)

    def _file(self, fd: int, folder: bytes, item: Item, known: Version | None, trusted: bool) -> None:
        name, st = item
        path = join(folder, name)
        draft = self._draft
        content, staged = self._read(fd, item, known)
        after = version_of(name, st, draft.number, self._names, content=content, trusted=trusted)
        if content.changed:
            self._tell("warning", path, "changed while it was being read; saved as it was read")
            after = after._replace(ctime=0)
        size = content.size
        if known is not None and known.is_file and known.sha256 == content.sha256:
            after = after._replace(depth=known.depth)
            if _same_metadata(known, after):
                self._refresh(folder, known, after)
                self._count(st.st_mode, size, "unmodified")
                if self._verbose:
                    self._tell("unchanged", path, "")
                return
            draft.add(Change(folder, name, known._replace(history=SAME), after))
            self._count(st.st_mode, size, "changed")
            self._tell_change("changed", path, "metadata")
            return
        before = None
        if known is not None:
            self._clear_beneath(folder, known)
            before, depth = draft.end(folder, known, content, staged)
            after = after._replace(depth=depth)
        draft.add(Change(folder, name, before, after, staged))
        self.seen.copied += size
        self._count(st.st_mode, size, "new" if known is None else "changed")
        self._tell_change("new" if known is None else "changed", path, "")

    def _read(self, fd: int, item: Item, known: Version | None) -> tuple[Content, int]:
        name, st = item
        wanted = known.sha256 if known is not None and known.is_file else None
        if not self._draft.dry_run:
            return self._draft.copy(fd, name, st, lambda content: content.sha256 == wanted)
        if wanted is None:
            return Content(b"", st.st_size, (), False, None), 0
        if st.st_size > 1 << 20:
            with open(name, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, dir_fd=fd)) as file:
                digest, size = hash_file(file.fileno())
                return Content(digest, size, read_xattrs(file.fileno(), problems=[]), False, None), 0
        return read_whole(fd, name, st), 0

    def _other(self, fd: int, folder: bytes, item: Item, known: Version | None, trusted: bool) -> None:
        """A folder, link, device or pipe."""
        name, st = item
        draft = self._draft
        target = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(st.st_mode) else None
        is_dir = stat.S_ISDIR(st.st_mode)
        xattrs = read_xattrs(b"/proc/self/fd/%d/%b" % (fd, name), problems=[]) if is_dir else ()
        after = version_of(name, st, draft.number, self._names, target=target, xattrs=xattrs, trusted=trusted)
        if known is not None and _same_metadata(known, after):
            self._refresh(folder, known, after)
            self._count(st.st_mode, 0, "unmodified")
            return
        before, staged = None, 0
        if known is not None:
            if not is_dir:
                self._clear_beneath(folder, known)
            before, _ = draft.end(folder, known, None, 0)
        if not is_dir and not draft.dry_run:
            staged = draft.make(fd, name, after)
        draft.add(Change(folder, name, before, after, staged))
        self._count(st.st_mode, 0, "new" if known is None else "changed")
        if not is_dir:
            self._tell_change("new" if known is None else "changed", join(folder, name), "")

    def _clear_beneath(self, folder: bytes, known: Version) -> None:
        """A folder that is one no more: what was in it goes first."""
        if known.is_dir:
            inside = join(folder, known.name)
            self._draft.listings[inside] = None
            for child in self._index.at(inside):
                self._remove(inside, child)

    def _refresh(self, folder: bytes, known: Version, after: Version) -> None:
        fresh = known._replace(ctime=after.ctime, inode=after.inode, device=after.device)
        if fresh != known:
            self._draft.refreshed.append((folder, fresh))

    def _seems_unmounted(self, fd: int, folder: bytes, item: Item, known: Version) -> bool:
        """Whether a folder is on another device than it was and empty: then a disk is missing, and its absence is no
        reason to take its files out of the current tree."""
        if self._allow_empty or not stat.S_ISDIR(item.stat.st_mode) or known.device == item.stat.st_dev & _MASK:
            return False
        path = join(folder, item.name)
        with contextlib.suppress(OSError):
            inside = os.open(item.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                if os.listdir(inside):
                    return False
            finally:
                os.close(inside)
        count = self._index.count_current(path)
        if count:
            self._tell(
                "failed", path, f"is empty and on another device than before, so {count:,} items were kept as they "
                "are: is the disk mounted? If it is meant to be empty, back up once with --allow-empty"
            )  # fmt: skip
        return count > 0

    # -- telling ---------------------------------------------------------------------------------------------------

    def _count(self, mode: int, size: int, how: str) -> None:
        summary = self._summary
        if stat.S_ISREG(mode):
            setattr(summary, f"files_{how}", getattr(summary, f"files_{how}") + 1)
            summary.total_bytes += size
        elif stat.S_ISDIR(mode):
            setattr(summary, f"dirs_{how}", getattr(summary, f"dirs_{how}") + 1)

    def _tell_change(self, kind: str, path: bytes, why: str) -> None:
        if self._verbose or self._draft.dry_run:
            self._tell(kind, path, why)

    def _tick(self, path: bytes) -> None:
        summary = self._summary
        files = summary.files_new + summary.files_changed + summary.files_unmodified
        self._emit(Tick("backup", files, summary.total_bytes, current=os.fsdecode(path), errors=len(summary.problems)))


def salt() -> bytes:
    """Listings of another way of comparing are not trusted."""
    return blake2b(b"versioned 1", digest_size=16).digest()


def _anything() -> Scope:
    from holdfast.files.rules import Rules

    return Rules.compile((), defaults=False, ignore_file=b"", cachedir_tag=False).root(b"/")


def _rights(version: Version) -> tuple[int, int, int]:
    return version.mode, version.uid, version.gid


def _is_same(known: Version, st: Stat) -> bool:
    """Whether what ``stat`` says leaves no doubt that nothing changed."""
    return (
        known.ctime == st.st_ctime_ns
        and known.mtime == st.st_mtime_ns
        and known.mode == st.st_mode
        and known.inode == st.st_ino & _MASK
        and known.device == st.st_dev & _MASK
        and known.uid == st.st_uid
        and known.gid == st.st_gid
        and (not known.is_file or (known.size == st.st_size and known.links == st.st_nlink))
    )


def _same_metadata(known: Version, after: Version) -> bool:
    return (
        (known.mode, known.uid, known.gid, known.mtime, known.target, known.xattrs, known.sha256, known.links)
        == (after.mode, after.uid, after.gid, after.mtime, after.target, after.xattrs, after.sha256, after.links)
        and (known.rdev == after.rdev)
        and (known.links == 1 or known.identity == after.identity)
    )
