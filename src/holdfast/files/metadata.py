"""Giving a restored entry its owner, attributes, permissions and times, in the order that works."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence

from holdfast.files.safepath import chmod_without_following, open_directory
from holdfast.files.xattrs import write_xattrs

_ERRORS = (OSError, OverflowError, ValueError)  # numbers from a snapshot may not fit into the system's types
_SET_ID = stat.S_ISUID | stat.S_ISGID


def apply_metadata(
    dir_fd: int,
    name: bytes | None,
    *,
    kind: str,
    st_mode: int,
    uid: int,
    gid: int,
    mtime_ns: int,
    atime_ns: int,
    xattrs: Sequence[tuple[bytes, bytes]] | None = (),
    owner: bool | None = None,
) -> list[str]:
    """Give the entry ``name`` in the directory ``dir_fd`` its metadata, or what ``dir_fd`` itself is if name is None.

    Order and reasons: owner first, for changing it clears set-user-id bits and capabilities; attributes while the
    entry is still writable by us, for a read-only one refuses ``user.*`` ones to all but root; permissions; times
    last, for all else may touch them. Apply a directory's after its content is complete.

    ``st_mode``: its permission bits count. ``owner``: True sets user and group and a failure is a problem; False
    leaves them; None does what this user can: both as root, else the group, in silence. Set-id bits are withheld, and
    that told, where the entry does not get the owner they were meant for. ``xattrs``: exactly these remain
    (POSIX access control lists are attributes); None leaves them alone.

    Returns a sentence for every part that did not work, an empty list in the good case; raises nothing and never
    follows a symbolic link.
    """
    if name is None:
        return _apply(dir_fd, kind, st_mode, uid, gid, mtime_ns, atime_ns, xattrs, owner)
    if kind in ("dir", "file", "stream"):
        try:
            fd = _opened(dir_fd, name, kind)
        except PermissionError:
            pass
        except OSError as error:
            return [f"metadata not restored: {error.strerror}"]
        else:
            try:
                return _apply(fd, kind, st_mode, uid, gid, mtime_ns, atime_ns, xattrs, owner)
            finally:
                os.close(fd)
    return _apply_by_name(dir_fd, name, kind, st_mode, uid, gid, mtime_ns, atime_ns, xattrs, owner)


def _opened(dir_fd: int, name: bytes, kind: str) -> int:
    if kind == "dir":
        return open_directory(dir_fd, name)
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "something else took the file's place")
    return fd


def _apply(
    fd: int,
    kind: str,
    st_mode: int,
    uid: int,
    gid: int,
    mtime_ns: int,
    atime_ns: int,
    xattrs: Sequence[tuple[bytes, bytes]] | None,
    owner: bool | None,
) -> list[str]:
    # Once a file: written out instead of a loop over steps, 0.1 microseconds a call each.
    problems: list[str] = []
    if owner is not False:
        try:
            if owner or _is_root():
                os.fchown(fd, uid, gid)
            else:
                os.fchown(fd, -1, gid)
        except _ERRORS as error:
            if owner or _is_root():
                problems.append(_failed("owner", error))
    if xattrs is not None:
        problems += write_xattrs(fd, tuple(xattrs))
    mode = st_mode & 0o7777
    if mode & _SET_ID and kind != "dir":
        mode = _deserved(mode, uid, gid, os.fstat(fd), problems)
    try:
        os.fchmod(fd, mode)
    except _ERRORS as error:
        problems.append(_failed("permissions", error))
    try:
        os.utime(fd, ns=(atime_ns, mtime_ns))
    except _ERRORS as error:
        problems.append(_failed("times", error))
    return problems


def _apply_by_name(
    dir_fd: int,
    name: bytes,
    kind: str,
    st_mode: int,
    uid: int,
    gid: int,
    mtime_ns: int,
    atime_ns: int,
    xattrs: Sequence[tuple[bytes, bytes]] | None,
    owner: bool | None,
) -> list[str]:
    """For links, devices and pipes, which opening would follow, wake or wait on, and for what we may not read."""
    problems: list[str] = []
    if owner is not False:
        try:
            os.chown(name, uid if owner or _is_root() else -1, gid, dir_fd=dir_fd, follow_symlinks=False)
        except _ERRORS as error:
            if owner or _is_root():
                problems.append(_failed("owner", error))
    if xattrs is not None and sys.platform == "linux":  # no call takes a directory descriptor: go through /proc
        problems += write_xattrs(b"/proc/self/fd/%d/%s" % (dir_fd, name), tuple(xattrs))
    if kind != "symlink":
        try:
            mode = st_mode & 0o7777
            if mode & _SET_ID:
                mode = _deserved(mode, uid, gid, os.stat(name, dir_fd=dir_fd, follow_symlinks=False), problems)
            chmod_without_following(dir_fd, name, mode)
        except _ERRORS as error:
            problems.append(_failed("permissions", error))
    try:
        os.utime(name, ns=(atime_ns, mtime_ns), dir_fd=dir_fd, follow_symlinks=False)
    except _ERRORS as error:
        problems.append(_failed("times", error))
    return problems


def _deserved(mode: int, uid: int, gid: int, st: os.stat_result, problems: list[str]) -> int:
    """``mode`` without a set-id bit that would lend the rights of somebody else than the saved owner."""
    withheld = (stat.S_ISUID if st.st_uid != uid else 0) | (stat.S_ISGID if st.st_gid != gid else 0)
    if mode & withheld:
        problems.append("set-id permission withheld: the file does not belong to its saved owner")
    return mode & ~withheld


def _is_root() -> bool:
    return os.geteuid() == 0


def _failed(what: str, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{what} not restored: {reason}"
