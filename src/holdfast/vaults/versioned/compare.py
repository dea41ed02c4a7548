"""Compare single items of the source with their current versions, and draft what has to change."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from holdfast.files.names import Names
from holdfast.files.xattrs import read_xattrs
from holdfast.sources.directory import Item
from holdfast.vaults.versioned.draft import Draft, version_of
from holdfast.vaults.versioned.index import Index
from holdfast.vaults.versioned.model import SAME, Change, Version, join
from holdfast.vaults.versioned.staging import Content, hash_file, read_whole
from holdfast.vaults.versioned.tally import Tally

if TYPE_CHECKING:
    from holdfast.format.node import Stat

_FRESH_NS = 20_000_000
"""A change so soon after another may leave the same ctime: file systems count in ticks of up to 10 ms."""

_MASK = (1 << 63) - 1


class Comparison:
    """Takes one item after the other. ``force`` compares every file by its content, ``allow_empty`` believes that a
    folder on another device is meant to be empty."""

    def __init__(
        self, index: Index, draft: Draft, tally: Tally, names: Names, *, force: bool, allow_empty: bool
    ) -> None:
        self._index = index
        self._draft = draft
        self._tally = tally
        self._names = names
        self._force = force
        self._allow_empty = allow_empty

    def item(
        self, fd: int, folder: bytes, item: Item, known: Version | None, began: int, *, again: bool = False
    ) -> bool:
        """Draft what one item needs; True if it is a folder to go into. ``began``: when it was listed; ``again``: that
        was a while ago, so look once more before reading."""
        name, st = item
        if known is not None and known.is_dir and self._seems_unmounted(fd, folder, item, known):
            return False
        if known is not None and _is_same(known, st) and not (self._force and known.is_file):
            self._tally.count(st.st_mode, st.st_size if known.is_file else 0, "unmodified")
            if known.device != st.st_dev & _MASK:  # numbers of devices may change whenever the machine starts
                self._refresh(folder, known, known._replace(device=st.st_dev & _MASK))
            if known.is_file:
                self._tally.unchanged(join(folder, name))
            return known.is_dir
        try:
            if again:
                item = Item(name, st := os.lstat(name, dir_fd=fd))
                if stat.S_ISSOCK(st.st_mode):
                    raise FileNotFoundError
            trusted = not is_fresh(st, began)
            if stat.S_ISREG(st.st_mode):
                self._file(fd, folder, item, known, trusted)
            else:
                self._other(fd, folder, item, known, trusted)
        except FileNotFoundError:
            self._tally.tell("warning", join(folder, name), "vanished while the backup was running")
            return False
        except OSError as error:
            self._tally.tell("failed", join(folder, name), error.strerror or str(error))
            return False
        return stat.S_ISDIR(st.st_mode)

    def _file(self, fd: int, folder: bytes, item: Item, known: Version | None, trusted: bool) -> None:
        name, st = item
        path = join(folder, name)
        draft = self._draft
        content, staged = self._read(fd, item, known)
        after = version_of(name, st, draft.number, self._names, content=content, trusted=trusted)
        if content.changed:
            self._tally.tell("warning", path, "changed while it was being read; saved as it was read")
            after = after._replace(ctime=0)
        size = content.size
        if known is not None and known.is_file and known.sha256 == content.sha256:
            after = after._replace(depth=known.depth)
            if _same_metadata(known, after):
                self._refresh(folder, known, after)
                self._tally.count(st.st_mode, size, "unmodified")
                self._tally.unchanged(path)
                return
            draft.add(Change(folder, name, known._replace(history=SAME), after))
            self._tally.count(st.st_mode, size, "changed")
            self._tally.change("changed", path, "metadata")
            return
        before = None
        if known is not None:
            self._clear_beneath(folder, known)
            before, depth = draft.end(folder, known, content, staged)
            after = after._replace(depth=depth)
        draft.add(Change(folder, name, before, after, staged))
        self._tally.copied += size
        self._tally.count(st.st_mode, size, "new" if known is None else "changed")
        self._tally.change("new" if known is None else "changed", path, "")

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
            self._tally.count(st.st_mode, 0, "unmodified")
            return
        staged = 0 if is_dir or draft.dry_run else draft.make(fd, name, after)
        before = None
        if known is not None:
            if not is_dir:
                self._clear_beneath(folder, known)
            before, _ = draft.end(folder, known, None, 0)
        draft.add(Change(folder, name, before, after, staged))
        self._tally.count(st.st_mode, 0, "new" if known is None else "changed")
        if not is_dir:
            self._tally.change("new" if known is None else "changed", join(folder, name), "")

    def _clear_beneath(self, folder: bytes, known: Version) -> None:
        """A folder that is one no more: what was in it goes first."""
        if known.is_dir:
            inside = join(folder, known.name)
            self._draft.listings[inside] = None
            for child in self._index.at(inside):
                self.remove(inside, child)

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
            self._tally.tell(
                "failed", path, f"is empty and on another device than before, so {count:,} items were kept as they "
                "are: is the disk mounted? If it is meant to be empty, back up once with --allow-empty"
            )  # fmt: skip
        return count > 0

    def remove(self, folder: bytes, version: Version) -> None:
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
            self._tally.summary.files_removed += one.is_file
            self._tally.change("removed", join(above, one.name), "")


def is_fresh(st: Stat, began: int) -> bool:
    """Whether something may change once more without getting another ctime; ``began``: when we looked (ns)."""
    return st.st_ctime_ns > began - _FRESH_NS


def _is_same(known: Version, st: Stat) -> bool:
    """Whether what ``stat`` says leaves no doubt that nothing changed."""
    return (
        known.ctime == st.st_ctime_ns
        and known.mtime == st.st_mtime_ns
        and known.mode == st.st_mode
        and known.inode == st.st_ino & _MASK
        and known.uid == st.st_uid
        and known.gid == st.st_gid
        and (not known.is_file or (known.size == st.st_size and known.links == st.st_nlink))
    )


def _same_metadata(known: Version, after: Version) -> bool:
    return (
        (known.mode, known.uid, known.gid, known.mtime, known.target, known.xattrs, known.sha256, known.links)
        == (after.mode, after.uid, after.gid, after.mtime, after.target, after.xattrs, after.sha256, after.links)
        and (known.rdev == after.rdev)
        and (known.links == 1 or known.inode == after.inode)
    )
