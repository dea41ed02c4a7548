"""Links, devices and pipes of a mirror, and the metadata of what is in its place already."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from holdfast.files.metadata import apply_metadata
from holdfast.files.safepath import translated
from holdfast.sources.directory import Item
from holdfast.vaults.mirror.frames import Frame, Telling
from holdfast.vaults.mirror.here import Here
from holdfast.vaults.mirror.records import NO_HASH, Record, stamp, stamp_here

if TYPE_CHECKING:
    from holdfast.format.node import Stat

_KIND, _LINK = 0o170000, 0o120000


class Others:
    """What a run does to entries without content."""

    def __init__(self, here: Here, telling: Telling, *, dry_run: bool) -> None:
        self._here = here
        self._telling = telling
        self._dry_run = dry_run

    def other(self, frame: Frame, fd: int, item: Item, before: Stat | None, record: Record | None) -> None:
        """A symbolic link, a device or a pipe."""
        name, st = item
        now = stamp(st)
        if record is not None and before is not None and (record.source, record.here) == (now, stamp_here(before)):
            frame.records[name] = now, record.hash
            return
        target = b""
        try:
            if st.st_mode & _KIND == _LINK:
                target = os.readlink(name, dir_fd=fd)
        except OSError as error:
            self._telling.unreadable(frame, name, error)
            return
        if not self._alike(frame, item, before, target):
            gone = self._here.gone(frame.copy(name), before)
            if not self._dry_run:
                self._make(frame, item, before, target)
            self._telling.gone(frame, name, gone)
            self._telling.other("new" if before is None else "changed", frame.source(name))
        elif not self._dry_run:
            self.metadata(frame, item, "symlink" if target else "fifo", None)
        frame.records[name] = now, sha256(target).digest() if target else NO_HASH

    def _alike(self, frame: Frame, item: Item, before: Stat | None, target: bytes) -> bool:
        st = item.stat
        if before is None or before.st_mode & _KIND != st.st_mode & _KIND:
            return False
        if target:
            try:
                return os.readlink(item.name, dir_fd=self._here.directory(frame.here)) == target
            except OSError:
                return False
        return before.st_rdev == st.st_rdev

    def _make(self, frame: Frame, item: Item, before: Stat | None, target: bytes) -> None:
        name, st = item
        frame.wrote = True
        directory = self._here.writable(frame.here)
        kind = st.st_mode & _KIND

        def make(free: bytes) -> None:
            if target:
                os.symlink(target, free, dir_fd=directory)
            elif kind == stat.S_IFIFO:
                os.mkfifo(free, 0o600, dir_fd=directory)
            else:
                os.mknod(free, kind | 0o600, st.st_rdev, dir_fd=directory)

        try:
            temporary = self._here.make(directory, make)
            try:
                self.give(frame, directory, temporary, item, "symlink" if target else "fifo", None)
                self._here.settle(directory, temporary, frame.copy(name), before)
            except BaseException:
                self._here.discard(directory, temporary)
                raise
        except OSError as error:
            raise translated(error, "make", os.path.join(self._here.root, frame.copy(name))) from error

    def metadata(self, frame: Frame, item: Item, kind: str, xattrs: Sequence[tuple[bytes, bytes]] | None) -> None:
        """The metadata of the source for a copy whose content is right."""
        self._here.unsynced = True
        self.give(frame, self._here.directory(frame.here), item.name, item, kind, xattrs)

    def give(
        self,
        frame: Frame,
        directory: int,
        name: bytes,
        item: Item,
        kind: str,
        xattrs: Sequence[tuple[bytes, bytes]] | None,
    ) -> None:
        st = item.stat
        for why in apply_metadata(
            directory, name, kind=kind, st_mode=st.st_mode & ~self._here.mask, uid=st.st_uid, gid=st.st_gid,
            mtime_ns=st.st_mtime_ns, atime_ns=st.st_mtime_ns, xattrs=xattrs,
        ):  # fmt: skip
            self._telling.warning(frame.source(item.name), why, once=True)
