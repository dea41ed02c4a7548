"""The mirror's own tree: looked at, written to and cleaned up, by descriptors that never leave it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.files.metadata import apply_metadata
from holdfast.files.placing import remove_entry, temporary_names
from holdfast.files.safepath import Directories, translated
from holdfast.files.syncing import sync_file_system
from holdfast.kernel.errors import HoldfastError
from holdfast.sources.directory import entries, listing_key, open_directory, survey_packed
from holdfast.vaults.marker import FOLDER

if TYPE_CHECKING:
    from holdfast.format.node import Stat

SALT = b"holdfast mirror"
PROTECTED = 0o222
"""The permission bits that a protected mirror takes away from everything that is finished."""

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

Xattrs = Sequence[tuple[bytes, bytes]]


class Here:
    """The tree of the mirror at ``root``. Paths are relative to it; empty is the root.

    What the system refuses is raised as the errors of ``kernel.errors``, of which ``NoSpace`` and ``Unavailable`` mean
    that there is no point in going on. ``mask``: permission bits that nothing finished has.
    """

    def __init__(self, root: bytes, *, protect: bool, forget: Callable[[bytes], None] | None = None) -> None:
        """``forget`` is told every directory that is removed."""
        self.root = root
        self._forget = forget
        self.mask = PROTECTED if protect else 0
        self._directories = Directories(open_directory(root), replace=False)
        self._names = temporary_names()
        self.device = os.stat(root).st_dev
        self.unsynced = False

    def look(self, path: bytes) -> tuple[dict[bytes, Stat], bytes]:
        """What is in the directory ``path``, and a hash of all of that; nothing where there is no such directory."""
        try:
            fd = self._directories.get(path, make=False)
            items, packed = entries(fd)
            if not path:
                items, packed = [item for item in items if item.name != FOLDER], None
        except OSError as error:
            if error.errno in _ABSENT:
                return {}, b""
            raise translated(error, "look into", self._shown(path)) from error
        return dict(items), listing_key(items, SALT, packed)

    def key(self, path: bytes) -> bytes:
        """The hash alone, of a directory below the root; nothing where :meth:`look` has to be asked. ``OSError``."""
        return self.survey(path)[1]

    def survey(self, path: bytes) -> tuple[bytes, bytes]:
        """The same hash, with the records that it is made of before it (``sources.records``). ``OSError``."""
        return survey_packed(self._directories.get(path, make=False), SALT) or (b"", b"")

    def stat(self, path: bytes) -> os.stat_result | None:
        """``lstat`` of one entry; None where nothing is."""
        above, _, name = path.rpartition(b"/")
        try:
            return os.lstat(name or b".", dir_fd=self._directories.get(above, make=False))
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise translated(error, "look at", self._shown(path)) from error

    def directory(self, path: bytes) -> int:
        """A descriptor of ``path``, good until the next call of any method."""
        try:
            return self._directories.get(path, make=False)
        except OSError as error:
            raise translated(error, "open", self._shown(path)) from error

    def writable(self, path: bytes) -> int:
        """The same, of a directory that we may write into: its owner is given ``u+rwx`` if that is missing. The right
        metadata come back with :meth:`finish`."""
        fd = self.directory(path)
        self.unsynced = True
        if os.geteuid() != 0:
            mode = stat.S_IMODE(os.fstat(fd).st_mode)
            if mode & 0o700 != 0o700:
                with suppress(OSError):  # not ours: then writing tells what is wrong
                    os.fchmod(fd, mode | 0o700)
        return fd

    def make_directory(self, path: bytes) -> None:
        """Make the directory ``path`` (0700 until it is finished) in one that :meth:`writable` opened."""
        above, _, name = path.rpartition(b"/")
        try:
            os.mkdir(name, 0o700, dir_fd=self.directory(above))
        except OSError as error:
            raise translated(error, "make", self._shown(path)) from error

    def temporary(self) -> bytes:
        """A name that nothing has."""
        return next(self._names)

    def create(self, directory: int) -> tuple[int, bytes]:
        """A new file (0600) under a temporary name in ``directory``: its descriptor and that name. ``OSError``."""
        temporary = self.temporary()
        return os.open(temporary, _CREATE, 0o600, dir_fd=directory), temporary

    def make(self, directory: int, make: Callable[[bytes], None]) -> bytes:
        """Call ``make`` with a free temporary name; returns that name. Raises ``OSError``."""
        temporary = next(self._names)
        make(temporary)
        return temporary

    def settle(self, directory: int, temporary: bytes, path: bytes, before: Stat | None) -> None:
        """Give a finished entry its name: atomically, unless a directory must be removed ``before``. ``OSError``."""
        name = path.rpartition(b"/")[2]
        if before is not None and stat.S_ISDIR(before.st_mode):
            self._directories.forget(path)
            remove_entry(directory, name)
            if self._forget is not None:
                self._forget(path)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)

    def discard(self, directory: int, temporary: bytes) -> None:
        """Remove an unfinished entry. Never raises."""
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)

    def remove(self, path: bytes) -> None:
        """Remove ``path`` with all that is below, from a directory that :meth:`writable` opened."""
        above, _, name = path.rpartition(b"/")
        self._directories.forget(path)
        try:
            remove_entry(self.directory(above), name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise translated(error, "remove", self._shown(path)) from error
        if self._forget is not None:
            self._forget(path)

    def gone(self, path: bytes, before: Stat | None) -> list[tuple[bytes, int]]:
        """What goes away with the directory that is at ``path``: paths from there (with a slash), and modes."""
        if before is None or not stat.S_ISDIR(before.st_mode):
            return []
        return [(inner[len(path) :], st.st_mode) for inner, st in self.below(path)]

    def below(self, path: bytes) -> Iterator[tuple[bytes, Stat]]:
        """Everything below the directory ``path``, with its path in the mirror."""
        pending = [path]
        while pending:
            above = pending.pop()
            try:
                found = self.look(above)[0]
            except HoldfastError:
                continue  # it is about to be removed; whether that works is told then
            for name, st in found.items():
                child = above + b"/" + name
                yield child, st
                if stat.S_ISDIR(st.st_mode):
                    pending.append(child)

    def finish(self, path: bytes, st: os.stat_result, xattrs: Xattrs | None) -> list[str]:
        """Give the directory ``path`` the metadata of its source; returns sentences about what did not work."""
        self.unsynced = True
        return apply_metadata(
            self.directory(path), None, kind="dir", st_mode=st.st_mode & ~self.mask, uid=st.st_uid, gid=st.st_gid,
            mtime_ns=st.st_mtime_ns, atime_ns=st.st_atime_ns, xattrs=xattrs,
        )  # fmt: skip

    def sync(self) -> None:
        """Return when everything that was written is on the medium."""
        if not self.unsynced:
            return
        try:
            sync_file_system(self._directories.get(b"", make=False))
        except OSError as error:
            raise translated(error, "flush", self.root) from error
        self.unsynced = False

    def close(self) -> None:
        """Close all directories."""
        self._directories.close()

    def _shown(self, path: bytes) -> bytes:
        return os.path.join(self.root, path) if path else self.root
