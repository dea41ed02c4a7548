"""One file, directory, link, device or stream with its metadata, as sources yield them."""

from __future__ import annotations

import os
import stat
from typing import Literal

from holdfast.kernel.values import dataclass

Kind = Literal["file", "dir", "symlink", "dev", "chardev", "fifo", "socket", "irregular", "stream"]
"""restic's node types, and ``stream``: bytes of unknown length that a source produces, saved as a file."""

UNKNOWN_SIZE = -1
"""``st_size`` of a stream: known only when it has been read to its end."""

LAST_NS = (1 << 63) - 1
"""Nanoseconds since 1970 that 64 bits can count to: 2262-04-11. File systems know later times (ext4: 2446)."""

_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFBLK: "dev",
    stat.S_IFCHR: "chardev",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_FORMATS: dict[str, int] = {
    "stream": stat.S_IFREG,
    "irregular": 0,
    **{str(kind): bits for bits, kind in _KINDS.items()},
}


def countable(ns: int) -> int:
    """``ns``, or the nearest time that 64 bits can count to."""
    return max(-LAST_NS, min(LAST_NS, ns))


def kind_of(st_mode: int) -> Kind:
    """The kind that the type bits of a ``st_mode`` mean; ``irregular`` for what this list does not know (doors)."""
    return _KINDS.get(stat.S_IFMT(st_mode), "irregular")


def format_bits(kind: str) -> int:
    """The type bits of ``st_mode`` for ``kind`` (``stream`` is a regular file); 0 for unknown kinds."""
    return _FORMATS.get(kind, 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to protect. The ``st_`` fields mean what ``os.stat_result`` means, so an entry can stand for one.

    ``path`` is relative to its source, of raw bytes, parts joined by ``/``, never empty, absolute or with ``..``.
    ``st_mode`` holds type and permission bits, times are nanoseconds since 1970 UTC, ``linktarget`` is set for
    symbolic links only. ``user`` and ``group`` are empty when the numbers have no name here.
    """

    path: bytes
    kind: Kind
    st_mode: int
    st_size: int = 0
    st_mtime_ns: int = 0
    st_atime_ns: int = 0
    st_ctime_ns: int = 0
    st_uid: int = 0
    st_gid: int = 0
    st_ino: int = 0
    st_dev: int = 0
    st_nlink: int = 1
    st_rdev: int = 0
    linktarget: bytes | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    user: str = ""
    group: str = ""

    @property
    def name(self) -> bytes:
        """The last part of the path."""
        return self.path.rpartition(b"/")[2]

    @classmethod
    def from_stat(
        cls,
        path: bytes,
        st: os.stat_result,
        *,
        linktarget: bytes | None = None,
        xattrs: tuple[tuple[bytes, bytes], ...] = (),
        user: str = "",
        group: str = "",
    ) -> Entry:
        """The entry at ``path`` whose ``lstat`` gave ``st``."""
        return cls(
            path=path,
            kind=kind_of(st.st_mode),
            st_mode=st.st_mode,
            st_size=st.st_size,
            st_mtime_ns=st.st_mtime_ns,
            st_atime_ns=st.st_atime_ns,
            st_ctime_ns=st.st_ctime_ns,
            st_uid=st.st_uid,
            st_gid=st.st_gid,
            st_ino=st.st_ino,
            st_dev=st.st_dev,
            st_nlink=st.st_nlink,
            st_rdev=getattr(st, "st_rdev", 0),  # absent on Windows
            linktarget=linktarget,
            xattrs=xattrs,
            user=user,
            group=group,
        )

    @classmethod
    def stream(cls, path: bytes, *, now_ns: int, uid: int = 0, gid: int = 0, user: str = "", group: str = "") -> Entry:
        """A stream that will be saved as a private file (0600) at ``path`` with ``now_ns`` as all its times."""
        return cls(
            path=path,
            kind="stream",
            st_mode=stat.S_IFREG | 0o600,
            st_size=UNKNOWN_SIZE,
            st_mtime_ns=now_ns,
            st_atime_ns=now_ns,
            st_ctime_ns=now_ns,
            st_uid=uid,
            st_gid=gid,
            user=user,
            group=group,
        )
