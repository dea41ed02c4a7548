"""Files of a directory: decides what has to be done about each, and does it unless the run is a dry one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from holdfast.files.safepath import translated
from holdfast.files.target import NO_LINKS
from holdfast.files.xattrs import read_xattrs
from holdfast.sources.directory import Item, open_file
from holdfast.vaults.mirror.copying import hash_of
from holdfast.vaults.mirror.frames import Frame, Telling
from holdfast.vaults.mirror.here import Here
from holdfast.vaults.mirror.others import Others
from holdfast.vaults.mirror.records import NEVER, NO_HASH, Record, is_unsure, stamp, stamp_here, unsure
from holdfast.vaults.mirror.writing import SourceError, Writer

if TYPE_CHECKING:
    from holdfast.format.node import Stat

_KIND, _FILE = 0o170000, 0o100000


Defer = Callable[[Frame, Item, bytes, "Stat | None", "Record | None"], bool]


def _nobody(*_: object) -> bool:
    return False


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

    def __init__(self, here: Here, telling: Telling, *, force: bool, dry_run: bool) -> None:
        self._here = here
        self._telling = telling
        self._force = force
        self._dry_run = dry_run
        self._writer = Writer(here, telling)
        self._others = Others(here, telling, dry_run=dry_run)
        self.other = self._others.other
        # Asked before a file is copied: whether somebody else copies it.
        self.defer: Defer = _nobody
        self._links: dict[tuple[int, int], _Linked] = {}

    # -- files -----------------------------------------------------------------------------------------------------

    def file(self, frame: Frame, fd: int, item: Item, before: Stat | None, record: Record | None) -> None:
        """A regular file, whatever was in its place ``before``."""
        if self.unchanged(frame, item, before, record):
            return
        if item.stat.st_nlink > 1 and self._link(frame, item, before):
            return
        self.read(frame, fd, item, before, record, self.defer)

    def unchanged(self, frame: Frame, item: Item, before: Stat | None, record: Record | None) -> bool:
        """Whether both sides are as they were when the copy was made; counts and notes it."""
        if self._force or record is None or before is None or record.here != stamp_here(before):
            return False
        now = stamp(item.stat)
        if record.source != now:
            return False
        self._note(frame, item, now, record.hash, before.st_ino)
        self._telling.file("unchanged", frame.source(item.name), item.stat.st_size)
        return True

    def read(
        self, frame: Frame, fd: int, item: Item, before: Stat | None, record: Record | None, defer: Defer = _nobody
    ) -> None:
        """Compare a file's content where it is likely to be the same, else copy it, unless ``defer`` takes it."""
        intact = record is not None and before is not None and record.here == stamp_here(before)
        try:
            if self._same(frame, fd, item, before, record if intact else None):
                return
            if not defer(frame, item, stamp(item.stat), before, record):
                self._copy(frame, fd, item, before)
        except SourceError as problem:
            self._telling.unreadable(frame, item.name, problem.error)

    def give(self, frame: Frame, item: Item, xattrs: Sequence[tuple[bytes, bytes]]) -> None:
        """Give a copy that is there the metadata of ``item``."""
        self._others.metadata(frame, item, "file", xattrs)

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
        if is_unsure(now):
            frame.complete = False
        changed = (before.st_mode, before.st_mtime_ns) != (st.st_mode & ~self._here.mask, st.st_mtime_ns)
        self._telling.file("changed" if changed else "unchanged", path, st.st_size)
        if not self._dry_run and (intact is None or intact.source != now):
            self._others.metadata(frame, item, "file", xattrs)
        self._note(frame, item, now, digest, before.st_ino)
        return True

    def _read(self, fd: int, item: Item) -> tuple[bytes, Sequence[tuple[bytes, bytes]], bytes]:
        """The hash of a source, its attributes and its stamp (an unsure one if it changed meanwhile)."""
        try:
            file = open_file(item.name, fd)
            try:
                digest, _ = hash_of(file)
                after = stamp(os.fstat(file))
                return digest, read_xattrs(file), after if after == stamp(item.stat) else unsure(after)
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
        gone = self._here.gone(frame.copy(name), before)
        if self._dry_run:
            try:
                os.close(open_file(name, fd))
            except OSError as error:
                raise SourceError(error) from error
            self._note(frame, item, NEVER, NO_HASH, 0)
            size = st.st_size
        else:
            written = self._writer.write(frame, fd, item, before)
            self._note(frame, item, written.source, written.hash, written.inode)
            size = written.size
        self._telling.gone(frame, name, gone)
        self._telling.copied("new" if before is None else "changed", path, size)

    # -- hard links ------------------------------------------------------------------------------------------------

    def _note(self, frame: Frame, item: Item, source: bytes, digest: bytes, inode: int) -> None:
        frame.records[item.name] = source, digest
        if item.stat.st_nlink > 1:
            self.remember(frame, item, digest, inode)

    def remember(self, frame: Frame, item: Item, digest: bytes, inode: int) -> None:
        """A file of several names: the mirror has this one, with the ``inode``."""
        st = item.stat
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
            gone = self._here.gone(frame.copy(name), before)
            if not self._dry_run and not self._linked(frame, name, first, before):
                return False
            self._telling.gone(frame, name, gone)
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
                self._here.settle(directory, temporary, frame.copy(name), before)
            finally:  # rename does nothing where both were names of one file
                self._here.discard(directory, temporary)
        except OSError as error:
            if error.errno in NO_LINKS:
                return False
            raise translated(error, "link", os.path.join(self._here.root, frame.copy(name))) from error
        finally:
            os.close(source)
        return True

    def remove(self, frame: Frame, name: bytes, before: Stat) -> None:
        """Take an entry that its source no longer has, or that a rule leaves out, away from the mirror."""
        place = frame.copy(name)
        gone = self._here.gone(frame.copy(name), before)
        if not self._dry_run:
            frame.wrote = True
            self._here.writable(frame.here)
            self._here.remove(place)
        self._telling.gone(frame, name, [*gone, (b"", before.st_mode)])
