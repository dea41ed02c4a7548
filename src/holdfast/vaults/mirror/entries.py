"""Single entries of a directory: decides what has to be done about each, and does it unless the run is a dry one."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from holdfast.files.metadata import apply_metadata
from holdfast.files.safepath import translated
from holdfast.files.sparse import write_at
from holdfast.files.xattrs import read_xattrs
from holdfast.sources.directory import Item, open_file, read_small
from holdfast.vaults.mirror.copying import Copier, hash_of
from holdfast.vaults.mirror.frames import Frame, Telling
from holdfast.vaults.mirror.here import Here
from holdfast.vaults.mirror.records import NEVER, NO_HASH, Record, stamp, stamp_here

if TYPE_CHECKING:
    from holdfast.format.node import Stat

SMALL = 1 << 16
"""Files of up to so many bytes are read whole, in one call."""

ATTEMPTS = 3
"""How often a file is read that changes meanwhile. The last copy is kept, and looked at again by the next run."""

_KIND, _FILE, _LINK = 0o170000, 0o100000, 0o120000
_VANISHED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


class SourceError(Exception):
    """The source of an entry could not be read."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Linked(NamedTuple):
    """The first name of a file with several: its copy, that copy's inode, and its hash."""

    here: bytes
    inode: int
    hash: bytes


class Entries:
    """What a run does to the entries of its directories. Methods note in the frame what they know of an entry.

    They raise the errors of ``Here`` for what the mirror refuses; what the source refuses is told, and the mirror keeps
    what it had.
    """

    def __init__(
        self, here: Here, telling: Telling, forget: Callable[[bytes], None], *, force: bool, dry_run: bool
    ) -> None:
        """``forget`` is told the directories of the mirror that are removed."""
        self._here = here
        self._forget = forget
        self._telling = telling
        self._force = force
        self._dry_run = dry_run
        self._copier = Copier()
        self.defer: Callable[[Frame, Item, Stat | None, Record | None], bool] = lambda *_: False
        """Asked before a file is copied: whether somebody else copies it."""
        self._links: dict[tuple[int, int], _Linked] = {}

    # -- files -----------------------------------------------------------------------------------------------------

    def file(self, frame: Frame, fd: int, item: Item, before: Stat | None, record: Record | None) -> None:
        """A regular file, whatever was in its place ``before``."""
        name, st = item
        now = stamp(st)
        intact = record is not None and before is not None and record.here == stamp_here(before)
        if intact and not self._force and record is not None and before is not None and record.source == now:
            self._note(frame, item, now, record.hash, before.st_ino)
            self._telling.file("unchanged", frame.source(name), st.st_size)
            return
        if st.st_nlink > 1 and self._link(frame, item, before):
            return
        try:
            if self._same(frame, fd, item, before, record if intact else None):
                return
            if not self.defer(frame, item, before, record):
                self._copy(frame, fd, item, before)
        except SourceError as problem:
            self.unreadable(frame, name, problem.error)

    def _same(self, frame: Frame, fd: int, item: Item, before: Stat | None, intact: Record | None) -> bool:
        """Whether the mirror has this content already, as far as that is likely enough to read both sides."""
        name, st = item
        if before is None or before.st_mode & _KIND != _FILE or before.st_size != st.st_size:
            return False
        if before.st_mtime_ns != st.st_mtime_ns and not self._force:
            return False
        digest, xattrs, now = self._read(fd, item)
        known = intact.hash if intact is not None and not self._force else self._hash_here(frame, name)
        if digest != known:
            return False
        path = frame.source(name)
        if now == NEVER:
            frame.complete = False
        changed = (before.st_mode, before.st_mtime_ns) != (st.st_mode & ~self._here.mask, st.st_mtime_ns)
        self._telling.file("changed" if changed else "unchanged", path, st.st_size)
        if not self._dry_run and (intact is None or intact.source != now):
            self._metadata(frame, item, "file", xattrs)
        self._note(frame, item, now, digest, before.st_ino)
        return True

    def _read(self, fd: int, item: Item) -> tuple[bytes, Sequence[tuple[bytes, bytes]], bytes]:
        """The hash of a source, its attributes and its stamp (none that fits, if it changed meanwhile)."""
        try:
            file = open_file(item.name, fd)
            try:
                digest, _ = hash_of(file)
                after = stamp(os.fstat(file))
                return digest, read_xattrs(file), after if after == stamp(item.stat) else NEVER
            finally:
                os.close(file)
        except OSError as error:
            raise SourceError(error) from error

    def _hash_here(self, frame: Frame, name: bytes) -> bytes:
        """The hash of the copy; one that no content has where it cannot be read."""
        try:
            file = open_file(name, self._here.directory(frame.here))
            try:
                return hash_of(file)[0]
            finally:
                os.close(file)
        except OSError:
            return NO_HASH

    def _copy(self, frame: Frame, fd: int, item: Item, before: Stat | None) -> None:
        name, st = item
        path = frame.source(name)
        gone = self._gone(frame, name, before)
        if self._dry_run:
            try:
                os.close(open_file(name, fd))
            except OSError as error:
                raise SourceError(error) from error
            self._note(frame, item, NEVER, NO_HASH, 0)
            size = st.st_size
        else:
            size = self.write(frame, fd, item, before)
        self._tell_gone(gone)
        self._telling.copied("new" if before is None else "changed", path, size)

    def write(self, frame: Frame, fd: int, item: Item, before: Stat | None) -> int:
        """Copy a file under a temporary name until it stays still, then put it in its place; how long it is.

        Raises ``SourceError``.
        """
        name = item.name
        place = frame.copy(name)
        frame.wrote = True
        directory = self._here.writable(frame.here)
        try:
            for attempt in range(ATTEMPTS):
                file, temporary = self._here.create(directory)
                try:
                    st, digest, size = self._fill(frame, fd, item, file)
                    inode = os.fstat(file).st_ino
                    if st is not None or attempt + 1 == ATTEMPTS:
                        self._settle(directory, temporary, place, before)
                        break
                    self._here.discard(directory, temporary)
                except BaseException:
                    self._here.discard(directory, temporary)
                    raise
                finally:
                    os.close(file)
        except OSError as error:
            raise translated(error, "write", os.path.join(self._here.root, place)) from error
        if st is None:
            frame.complete = False
            self._telling.warning(frame.source(name), "changed while it was read; the next run copies it again")
        self._note(frame, item, st if st is not None else NEVER, digest, inode)
        return size

    def _fill(self, frame: Frame, fd: int, item: Item, target: int) -> tuple[bytes | None, bytes, int]:
        """Content and metadata of one file into the new file ``target``.

        Returns the source's stamp (None if it changed meanwhile), hash and length.
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
            if stamp(os.fstat(source)) != now:
                return None, digest, size
            if now != stamp(listed):
                frame.complete = False  # the hash of the listing does not speak of what was read
            self._apply(frame, name, target, st, st.st_atime_ns, read_xattrs(source))
            return now, digest, size
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
            self._telling.warning(frame.source(name), why, once=True)

    # -- hard links ------------------------------------------------------------------------------------------------

    def _note(self, frame: Frame, item: Item, source: bytes, digest: bytes, inode: int) -> None:
        st = item.stat
        frame.records[item.name] = source, digest
        if st.st_nlink > 1:
            self._links.setdefault((st.st_dev, st.st_ino), _Linked(frame.copy(item.name), inode, digest))

    def _link(self, frame: Frame, item: Item, before: Stat | None) -> bool:
        """Make this a further name of a file that the mirror has; False where its first name is this one."""
        name, st = item
        first = self._links.get((st.st_dev, st.st_ino))
        if first is None:
            return False
        path = frame.source(name)
        if before is not None and before.st_ino == first.inode:
            self._telling.file("unchanged", path, st.st_size)
        else:
            gone = self._gone(frame, name, before)
            if not self._dry_run and not self._linked(frame, name, first, before):
                return False
            self._tell_gone(gone)
            self._telling.file("new" if before is None else "changed", path, st.st_size)
        frame.records[name] = stamp(st), first.hash
        return True

    def _linked(self, frame: Frame, name: bytes, first: _Linked, before: Stat | None) -> bool:
        above, _, base = first.here.rpartition(b"/")
        source = os.dup(self._here.directory(above))
        try:
            frame.wrote = True
            directory = self._here.writable(frame.here)
            temporary = self._here.make(
                directory,
                lambda free: os.link(base, free, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False),
            )
            try:
                self._settle(directory, temporary, frame.copy(name), before)
            finally:  # rename does nothing where both were names of one file
                self._here.discard(directory, temporary)
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise translated(error, "link", os.path.join(self._here.root, frame.copy(name))) from error
        finally:
            os.close(source)
        return True

    # -- everything else -------------------------------------------------------------------------------------------

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
            self.unreadable(frame, name, error)
            return
        if not self._alike(frame, item, before, target):
            gone = self._gone(frame, name, before)
            if not self._dry_run:
                self._make(frame, item, before, target)
            self._tell_gone(gone)
            self._telling.other("new" if before is None else "changed", frame.source(name))
        elif not self._dry_run:
            self._metadata(frame, item, "symlink" if target else "fifo", None)
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
                self._give(frame, directory, temporary, item, "symlink" if target else "fifo", None)
                self._settle(directory, temporary, frame.copy(name), before)
            except BaseException:
                self._here.discard(directory, temporary)
                raise
        except OSError as error:
            raise translated(error, "make", os.path.join(self._here.root, frame.copy(name))) from error

    def _metadata(self, frame: Frame, item: Item, kind: str, xattrs: Sequence[tuple[bytes, bytes]] | None) -> None:
        """The metadata of the source for a copy whose content is right."""
        self._here.unsynced = True
        self._give(frame, self._here.directory(frame.here), item.name, item, kind, xattrs)

    def _give(
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

    def remove(self, frame: Frame, name: bytes, before: Stat) -> None:
        """Take an entry that its source no longer has, or that a rule leaves out, away from the mirror."""
        place = frame.copy(name)
        gone = self._gone(frame, name, before)
        if not self._dry_run:
            frame.wrote = True
            self._here.writable(frame.here)
            self._here.remove(place)
            self._forget(place)
        self._tell_gone([*gone, (frame.source(name), before.st_mode)])

    def _settle(self, directory: int, temporary: bytes, place: bytes, before: Stat | None) -> None:
        self._here.settle(directory, temporary, place, before)
        if before is not None and stat.S_ISDIR(before.st_mode):
            self._forget(place)

    def _gone(self, frame: Frame, name: bytes, before: Stat | None) -> list[tuple[bytes, int]]:
        """What goes away with the directory that was at ``name``: paths on this machine, and modes."""
        if before is None or not stat.S_ISDIR(before.st_mode):
            return []
        place = frame.copy(name)
        return [(frame.source(name) + path[len(place) :], st.st_mode) for path, st in self._here.below(place)]

    def _tell_gone(self, gone: list[tuple[bytes, int]]) -> None:
        for path, mode in gone:
            self._telling.removed(path, mode)

    def unreadable(self, frame: Frame, name: bytes, error: OSError) -> None:
        """The mirror keeps its copy; the next run tries again."""
        frame.complete = False
        if error.errno in _VANISHED:
            self._telling.warning(frame.source(name), "vanished while the backup was running")
        else:
            self._telling.failed(frame.source(name), error.strerror or str(error))
