"""Copying what is new into the vault's staging folder, with its hash and metadata, from where one rename places it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from holdfast.files.entry import kind_of
from holdfast.files.metadata import apply_metadata
from holdfast.files.small import File, to_copy, write_small
from holdfast.files.sparse import write_at
from holdfast.files.xattrs import read_xattrs
from holdfast.sources.directory import open_file, read_small
from holdfast.vaults.versioned.layout import Layout
from holdfast.vaults.versioned.model import Version, Xattrs

if TYPE_CHECKING:
    from holdfast.format.node import Stat  # not at run time: it brings the cryptography along, 12 ms

SMALL = 1 << 20
PIECE = 1 << 20
_FICLONE = 0x40049409
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
OWNER_MAY = 0o600
"""Permissions that every stored file has for its owner, whatever its source had: the vault must read it again."""


class Content(NamedTuple):
    """A source file as it was read. ``data`` is None for long ones; ``changed``: while it was being read."""

    sha256: bytes
    size: int
    xattrs: Xattrs
    changed: bool
    data: bytes | None


class Staging:
    """The new files of one step, ``staging/<step>/<number>``. A crash leaves them to the next run, which knows by the
    manifest whether they are wanted. Raises ``OSError`` with the failing side told by :attr:`writing`."""

    def __init__(self, layout: Layout, step: int) -> None:
        self._path = layout.stage(step)
        os.makedirs(self._path, mode=0o700, exist_ok=True)
        self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._is_root = os.geteuid() == 0
        self._mine = os.geteuid(), os.getegid()
        self.count = 0
        self.writing = False

    def close(self) -> None:
        os.close(self._fd)

    def copy(self, folder: int, name: bytes, st: Stat, unless: Callable[[Content], bool]) -> tuple[Content, int]:
        """Read the file ``name`` of an open folder and keep a copy; returns what was read and the copy's number.

        ``unless`` is asked first where that costs no second reading, or afterwards: if it says so, nothing is kept and
        the number is 0.
        """
        self.writing = False
        if st.st_size <= SMALL:
            content = read_whole(folder, name, st)
            if unless(content):
                return content, 0
            assert content.data is not None
            self.writing = True
            self.count += 1
            if self._at_once(st, content):
                return content, self.count
            fd = os.open(b"%d" % self.count, _NEW, 0o600, dir_fd=self._fd)
            try:
                if content.data:
                    write_at(fd, 0, content.data)
                self._dress(fd, st, content.xattrs)
            finally:
                os.close(fd)
            return content, self.count
        return self._copy_long(folder, name, st, unless)

    def _at_once(self, st: Stat, content: Content) -> bool:
        """Whether an ordinary file could be made in one call."""
        if content.xattrs or content.data is None:
            return False
        inode = write_small(
            self._fd, b"%d" % self.count, b"", content.data, st_mode=st.st_mode | OWNER_MAY,
            uid=st.st_uid, gid=st.st_gid, mtime_ns=st.st_mtime_ns, atime_ns=st.st_mtime_ns,
            owner=None if self._is_root and (st.st_uid, st.st_gid) != self._mine else False,
        )  # fmt: skip
        return inode != 0

    def reserve(self, name: bytes, st: Stat) -> File | None:
        """A number for a small file that is copied at once, as it was listed; None where that cannot be."""
        self.count += 1
        return to_copy(
            name, b"%d" % self.count, b"", size=st.st_size, st_mode=st.st_mode | OWNER_MAY, uid=st.st_uid,
            gid=st.st_gid, mtime_ns=st.st_mtime_ns, atime_ns=st.st_mtime_ns, ctime_ns=st.st_ctime_ns, inode=st.st_ino,
        )  # fmt: skip

    def folder(self) -> int:
        """The folder, open once more."""
        return os.dup(self._fd)

    def make(self, folder: int, name: bytes, version: Version) -> int:
        """A link, device or pipe like ``version``; returns its number."""
        self.writing = True
        self.count += 1
        own = b"%d" % self.count
        if version.target is not None:
            os.symlink(version.target, own, dir_fd=self._fd)
        elif stat.S_ISFIFO(version.mode):
            os.mkfifo(own, 0o600, dir_fd=self._fd)
        else:
            os.mknod(own, stat.S_IFMT(version.mode) | 0o600, version.rdev, dir_fd=self._fd)
        dress(self._fd, own, version)
        return self.count

    def read(self, number: int) -> bytes:
        """A staged file, whole."""
        with open(self._path + b"/%d" % number, "rb") as file:
            return file.read()

    def drop(self, number: int) -> None:
        """Forget a staged file."""
        os.unlink(b"%d" % number, dir_fd=self._fd)

    def _copy_long(self, folder: int, name: bytes, st: Stat, unless: Callable[[Content], bool]) -> tuple[Content, int]:
        source = open_file(name, folder)
        try:
            before = os.fstat(source)
            xattrs = read_xattrs(source, problems=[])
            self.writing = True
            self.count += 1
            fd = os.open(b"%d" % self.count, _NEW, 0o600, dir_fd=self._fd)
            try:
                digest, size = self._transfer(source, fd)
                self.writing = False
                after = os.fstat(source)
                changed = (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size)
                content = Content(digest, size, xattrs, changed, None)
                self.writing = True
                if unless(content):
                    self.drop(self.count)
                    return content, 0
                self._dress(fd, st, xattrs)
            finally:
                os.close(fd)
        finally:
            os.close(source)
        return content, self.count

    def _transfer(self, source: int, fd: int) -> tuple[bytes, int]:
        """Copy by sharing blocks where the file system can (then the copy is hashed: it cannot change any more)."""
        digest, size = sha256(), 0
        try:
            fcntl.ioctl(fd, _FICLONE, source)
        except OSError:
            self.writing = False
            while piece := os.read(source, PIECE):
                digest.update(piece)
                self.writing = True
                write_at(fd, size, piece)
                self.writing = False
                size += len(piece)
        else:
            while piece := os.pread(fd, PIECE, size):
                digest.update(piece)
                size += len(piece)
        return digest.digest(), size

    def _dress(self, fd: int, st: Stat, xattrs: Xattrs) -> None:
        """What :func:`dress` does, without its calls for an ordinary file of our own: 20 microseconds less each."""
        mode = st.st_mode & 0o7777
        if xattrs or mode & 0o6000 or (self._is_root and (st.st_uid, st.st_gid) != self._mine):
            apply_metadata(
                fd, None, kind="file", st_mode=mode | OWNER_MAY, uid=st.st_uid, gid=st.st_gid, mtime_ns=st.st_mtime_ns,
                atime_ns=st.st_mtime_ns, xattrs=_plain(xattrs),
            )  # fmt: skip
            return
        with contextlib.suppress(OSError):  # some file systems have neither; the manifest has both
            if mode != 0o600:
                os.fchmod(fd, mode | OWNER_MAY)
            os.utime(fd, ns=(st.st_mtime_ns, st.st_mtime_ns))


def dress(folder: int, name: bytes | None, version: Version) -> None:
    """Give something in the vault the metadata of its source as far as this user and file system can; the manifest has
    them exactly, so what does not work here is no problem. Owners may always read and write what is theirs."""
    extra = 0o700 if version.is_dir else OWNER_MAY
    apply_metadata(
        folder, name, kind=kind_of(version.mode), st_mode=version.mode | extra,
        uid=version.uid, gid=version.gid, mtime_ns=version.mtime, atime_ns=version.mtime,
        xattrs=_plain(version.xattrs),
    )  # fmt: skip


def read_whole(folder: int, name: bytes, st: Stat) -> Content:
    """A source file in memory. Raises ``OSError``."""
    found = read_small(folder, name, st.st_size)
    if found is not None and not found[2]:
        data, after, _ = found
        changed = (after.st_mtime_ns, after.st_size) != (st.st_mtime_ns, st.st_size)
        return Content(sha256(data).digest(), len(data), (), changed, data)
    fd = open_file(name, folder)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.ESTALE, "something else took the file's place")
        pieces = []
        while piece := os.read(fd, PIECE):
            pieces.append(piece)
        data, now = b"".join(pieces), os.fstat(fd)
        changed = (now.st_mtime_ns, now.st_size) != (st.st_mtime_ns, st.st_size)
        return Content(sha256(data).digest(), len(data), read_xattrs(fd, problems=[]), changed, data)
    finally:
        os.close(fd)


def hash_file(fd: int) -> tuple[bytes, int]:
    """SHA-256 and length of what an open file has from here on. Raises ``OSError``."""
    digest, size = sha256(), 0
    while piece := os.read(fd, PIECE):
        digest.update(piece)
        size += len(piece)
    return digest.digest(), size


def _plain(xattrs: Xattrs) -> Xattrs:
    """Attributes for the copy: none of the system's own, which root alone may set and which may give rights."""
    return tuple(one for one in xattrs if one[0].startswith((b"user.", b"system.posix_acl")))
