"""Writes one file of the mirror: content, metadata, then its name; all or nothing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, Protocol

from holdfast.files.metadata import apply_metadata
from holdfast.files.safepath import translated
from holdfast.files.small import write_small
from holdfast.files.sparse import write_at
from holdfast.files.xattrs import read_xattrs
from holdfast.sources.directory import Item, open_file, read_small
from holdfast.vaults.mirror.copying import Copier
from holdfast.vaults.mirror.frames import Frame
from holdfast.vaults.mirror.here import Here
from holdfast.vaults.mirror.records import is_unsure, stamp, unsure

if TYPE_CHECKING:
    from holdfast.format.node import Stat

SMALL = 1 << 16
"""Files of up to so many bytes are read whole, in one call."""

ATTEMPTS = 3
"""How often a file is read that changes meanwhile. The last copy is kept, and looked at again by the next run."""


class Warn(Protocol):
    """Somebody who can be told of a path that something is odd about it."""

    def warning(self, path: bytes, why: str, *, once: bool = False) -> None: ...


class SourceError(Exception):
    """The source of an entry could not be read."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Written(NamedTuple):
    """One file: the source's stamp (unsure if it changed while it was read), hash, length, and the copy's inode."""

    source: bytes
    hash: bytes
    size: int
    inode: int


class Writer:
    """Copies files into the directories of a mirror; what is odd but no failure goes to ``tell``."""

    def __init__(self, here: Here, tell: Warn) -> None:
        self._here = here
        self._tell = tell
        self._copier = Copier()

    def write(self, frame: Frame, fd: int, item: Item, before: Stat | None) -> Written:
        """Copy a file under a temporary name until it stays still, then put it in its place.

        Raises ``SourceError``, and what ``Here`` raises.
        """
        name = item.name
        place = frame.copy(name)
        frame.wrote = True
        directory = self._here.writable(frame.here)
        try:
            for attempt in range(ATTEMPTS):
                if (written := self._at_once(frame, fd, item, directory, before)) is not None:
                    return written
                file, temporary = self._here.create(directory)
                try:
                    st, digest, size = self._fill(frame, fd, item, file)
                    inode = os.fstat(file).st_ino
                    if not is_unsure(st) or attempt + 1 == ATTEMPTS:
                        self._here.settle(directory, temporary, place, before)
                        break
                    self._here.discard(directory, temporary)
                except BaseException:
                    self._here.discard(directory, temporary)
                    raise
                finally:
                    os.close(file)
        except OSError as error:
            raise translated(error, "write", os.path.join(self._here.root, place)) from error
        if is_unsure(st):
            frame.complete = False
            self._tell.warning(frame.source(name), "changed while it was read; the next run copies it again")
        return Written(st, digest, size, inode)

    def _at_once(self, frame: Frame, fd: int, item: Item, directory: int, before: Stat | None) -> Written | None:
        """The same for a small, ordinary file that did not change since it was listed, in two calls; None for others,
        and then nothing was done. Raises ``SourceError``."""
        name, listed = item
        if listed.st_size > SMALL or (before is not None and stat.S_ISDIR(before.st_mode)):
            return None
        try:
            small = read_small(fd, name, listed.st_size)
        except OSError as error:
            raise SourceError(error) from error
        if small is None or small[2]:
            return None
        data, after, _ = small
        source = stamp(after)
        if source != stamp(listed):
            return None
        inode = write_small(
            directory, self._here.temporary(), name, data, st_mode=after.st_mode & ~self._here.mask,
            uid=after.st_uid, gid=after.st_gid, mtime_ns=after.st_mtime_ns, atime_ns=after.st_mtime_ns,
        )  # fmt: skip
        return Written(source, sha256(data).digest(), len(data), inode) if inode else None

    def _fill(self, frame: Frame, fd: int, item: Item, target: int) -> tuple[bytes, bytes, int]:
        """Content and metadata of one file into the new file ``target``.

        Returns the source's stamp (an unsure one if it changed meanwhile), hash and length.
        """
        name, listed = item
        if listed.st_size <= SMALL:
            try:
                small = read_small(fd, name, listed.st_size)
            except OSError as error:
                raise SourceError(error) from error
            if small is not None and not small[2] and stamp(small[1]) == stamp(listed):
                data, after, _ = small
                write_at(target, 0, data)
                self._apply(frame, name, target, after, after.st_mtime_ns, ())
                return stamp(after), sha256(data).digest(), len(data)
        try:
            source = open_file(name, fd)
        except OSError as error:
            raise SourceError(error) from error
        try:
            st = os.fstat(source)
            if not stat.S_ISREG(st.st_mode):
                raise SourceError(OSError(errno.EINVAL, "is no file any more"))
            digest, size = self._copied(source, target, st)
            now = stamp(st)
            if now != stamp(listed):
                frame.complete = False  # the hash of the listing does not speak of what was read
            self._apply(frame, name, target, st, st.st_atime_ns, read_xattrs(source))
            return now if stamp(os.fstat(source)) == now else unsure(now), digest, size
        finally:
            os.close(source)

    def _copied(self, source: int, target: int, st: os.stat_result) -> tuple[bytes, int]:
        try:
            return self._copier.copy(source, target, st, self._here.device)
        except OSError as error:
            if error.filename == "source":
                raise SourceError(error) from error
            raise

    def _apply(
        self, frame: Frame, name: bytes, target: int, st: Stat, atime_ns: int, xattrs: Sequence[tuple[bytes, bytes]]
    ) -> None:
        for why in apply_metadata(
            target, None, kind="file", st_mode=st.st_mode & ~self._here.mask, uid=st.st_uid, gid=st.st_gid,
            mtime_ns=st.st_mtime_ns, atime_ns=atime_ns, xattrs=xattrs,
        ):  # fmt: skip
            self._tell.warning(frame.source(name), why, once=True)
