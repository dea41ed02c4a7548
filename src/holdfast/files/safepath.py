"""Paths inside a directory that cannot lead out of it: one component at a time, by descriptor, never through a link."""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict

from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Invalid, NoSpace, NotFound, Unavailable, Unsupported

LONGEST_NAME = 255
"""NAME_MAX of every file system in use, in bytes."""

_RESERVED = frozenset({b"", b".", b".."})
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_O_PATH = getattr(os, "O_PATH", 0)


def check_name(name: bytes) -> None:
    """Raise ``Corrupt`` unless ``name`` can be the name of one entry in a directory."""
    if name in _RESERVED or b"/" in name or b"\0" in name or len(name) > LONGEST_NAME:
        raise Corrupt(
            f"{_shown(name[:300])} is not a possible file name",
            hint="The snapshot is damaged or was made to write outside of the target. Nothing was written for it.",
            name=_shown(name[:300]),
        )


def split(path: bytes) -> list[bytes]:
    """The components of a relative path, each checked; none for the empty path. Raises ``Corrupt``."""
    if not path:
        return []
    parts = path.split(b"/")
    for part in parts:
        check_name(part)
    return parts


def translated(error: OSError, doing: str, path: bytes) -> HoldfastError:
    """The error of the shared tree for what the operating system said while ``doing`` something to ``path``."""
    kind, hint = _MEANINGS.get(
        error.errno or 0, (Unavailable, "Look at the disk and the system's log, then try again.")
    )
    shown = os.fsdecode(path) or "the target"
    return kind(f"cannot {doing} {shown}: {error.strerror}", hint=hint, path=shown, errno=error.errno)


_NO_PERMISSION = (Denied, "Run as a user who may write there, or choose another target.")
_IN_THE_WAY = (Invalid, "Something else has that name in the target. Move it away, or restore to another target.")
_FULL = (NoSpace, "Free some space or choose another target.")
_NOT_HERE = (Unsupported, "The target's file system cannot hold this. Restore to another one.")
_MEANINGS: dict[int, tuple[type[HoldfastError], str]] = {
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: (Denied, "The file system is read-only. Mount it writable or choose another target."),
    errno.EEXIST: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.ELOOP: _IN_THE_WAY,
    errno.ENOTEMPTY: _IN_THE_WAY,
    errno.EBUSY: (Invalid, "Unmount what is mounted there, or choose another target."),
    errno.ENOENT: (NotFound, "It may have been removed while the run went on."),
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _NOT_HERE,
    errno.EMLINK: _NOT_HERE,
    errno.ENAMETOOLONG: _NOT_HERE,
    errno.EILSEQ: _NOT_HERE,
    errno.EINVAL: _NOT_HERE,
    errno.ENOTSUP: _NOT_HERE,
    errno.EMFILE: (Unavailable, "Raise the limit of open files (ulimit -n)."),
}


def open_directory(parent: int, name: bytes) -> int:
    """Open the directory ``name`` in ``parent``; the caller closes it. A link in its place raises ``OSError``."""
    return os.open(name, _OPEN, dir_fd=parent)


def chmod_without_following(parent: int, name: bytes, mode: int) -> None:
    """Set the permissions of an entry that cannot or must not be opened. Raises ``OSError``; never follows a link.

    Linux has no call for this: the entry is pinned by an ``O_PATH`` descriptor and reached through ``/proc`` (what
    glibc's ``fchmodat`` does). A symbolic link is refused.
    """
    if not _O_PATH:
        os.chmod(name, mode, dir_fd=parent, follow_symlinks=False)
        return
    fd = os.open(name, _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        os.chmod(b"/proc/self/fd/%d" % fd, mode)
    finally:
        os.close(fd)


class Directories:
    """Open descriptors of the directories under one root, the most recently used ones.

    A descriptor belongs to this object and may be closed by its next call: use it at once, or duplicate it. Whoever
    moves a directory out of the root while it is open takes what is written into it along; the name it had can lead
    nowhere else. Not for use by several threads.
    """

    def __init__(self, root: int, *, replace: bool, capacity: int = 128) -> None:
        """``root``: an open descriptor that this object closes at the end. ``replace``: whether a file or link that
        stands where a directory must be is removed. ``capacity``: macOS allows a process 256 open files."""
        self._root = root
        self._replace = replace
        self._capacity = capacity
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._said: bytes | None = None  # all of these paths, each between a NUL and a slash

    def get(self, path: bytes, *, make: bool) -> int:
        """The directory at the relative ``path``; empty is the root.

        With ``make`` missing ones are made (0700), and existing ones of our own user opened up for writing (``u+rwx``;
        their metadata come last). Without, ``OSError`` tells that it is not there. ``Corrupt`` for impossible names.
        """
        if not path:
            return self._root
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        parts = split(path)
        known = len(parts) - 1
        end = len(path) - len(parts[-1]) - 1
        while known and path[:end] not in self._open:
            known -= 1
            end -= len(parts[known]) + 1
        fd = self._open[path[:end]] if known else self._root
        for part in parts[known:]:
            end += len(part) + 1
            fd = self._keep(path[:end], self._enter(fd, part, make))
        return fd

    def forget(self, path: bytes) -> None:
        """Close what is open at and below ``path``: it is about to be removed or replaced."""
        if self._said is None:
            self._said = b"\0" + b"/\0".join(self._open) + b"/"
        below = path + b"/"
        if b"\0" + below not in self._said:  # asked for every file: comparing with each path takes 20 microseconds
            return
        self._said = None
        for known in [known for known in self._open if known == path or known.startswith(below)]:
            os.close(self._open.pop(known))

    def close(self) -> None:
        """Close everything, the root too. A second call does nothing."""
        while self._open:
            os.close(self._open.popitem()[1])
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _keep(self, path: bytes, fd: int) -> int:
        while len(self._open) >= self._capacity:
            os.close(self._open.popitem(last=False)[1])
        self._open[path] = fd
        self._said = None
        return fd

    def _enter(self, parent: int, name: bytes, make: bool) -> int:
        if not make:
            return open_directory(parent, name)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            return self._enter_existing(parent, name)
        return open_directory(parent, name)

    def _enter_existing(self, parent: int, name: bytes) -> int:
        try:
            return open_own_directory(parent, name)
        except OSError as error:
            if not self._replace or error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
        os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)
        return open_directory(parent, name)


def open_own_directory(parent: int, name: bytes) -> int:
    """As :func:`open_directory`, but one of our own user that forbids listing or changing it is given ``u+rwx``.

    (Root needs no permission.) Raises ``OSError``.
    """
    try:
        fd = open_directory(parent, name)
    except PermissionError:
        chmod_without_following(parent, name, 0o700)
        fd = open_directory(parent, name)
    st = os.fstat(fd)
    if st.st_mode & 0o700 != 0o700 and st.st_uid == os.geteuid() != 0:
        os.fchmod(fd, stat.S_IMODE(st.st_mode) | 0o700)
    return fd


def _shown(name: bytes) -> str:
    return repr(os.fsdecode(name))
