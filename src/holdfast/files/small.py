"""Small files written or copied whole in one call: content, owner, permissions, times and name."""

from __future__ import annotations

import os
import struct

from holdfast.kernel.native import native as _native

File = tuple[bytes, bytes, bytes, bytes, int, int, int, int, int, int, bytes]
"""A file for :func:`copy_small`; made by :func:`to_copy`."""

LARGEST = 1 << 20
"""Bytes: above, the calls that are saved do not matter."""

_LISTED = struct.Struct("=qqqQ")
_PAGE = 4096
_SET_ID = 0o6000
_MOST = (1 << 63) - 1


def has_extension() -> bool:
    """Whether anything here can be done in one call."""
    return _native is not None


def write_small(
    directory: int,
    temporary: bytes,
    name: bytes,
    data: bytes,
    *,
    st_mode: int,
    uid: int,
    gid: int,
    mtime_ns: int,
    atime_ns: int,
    owner: bool | None = None,
) -> int:
    """Make the file ``name`` in an open directory, atomically under a ``temporary`` name first (an empty ``name``: only
    that); returns its inode.

    0: it could not be made so, and nothing is there; whoever asks does it in steps, and is told then what is wrong.
    That is so without the extension, where a file of that name cannot be replaced, and for what is no ordinary file:
    with set-id bits, pages of zeros, numbers that the system does not take, or attributes that its directory gives it.
    ``owner``: see ``apply_metadata``.
    """
    if _native is None or len(data) > LARGEST or 0 in data[_PAGE - 1 :: _PAGE]:
        return 0
    if not _is_ordinary(st_mode, uid, gid, mtime_ns, atime_ns):
        return 0
    uid, gid, must_own = _ownership(uid, gid, owner)
    return _native.write_small(
        directory, temporary, name, data, st_mode & 0o1777, uid, gid, must_own, atime_ns, mtime_ns
    )


def to_copy(
    source: bytes,
    temporary: bytes,
    name: bytes,
    *,
    size: int,
    st_mode: int,
    uid: int,
    gid: int,
    mtime_ns: int,
    atime_ns: int,
    owner: bool | None = None,
    ctime_ns: int = 0,
    inode: int = 0,
    digest: bytes = b"",
) -> File | None:
    """A file for :func:`copy_small`: ``source`` is its name there, ``name`` and the metadata are what it gets (an empty
    name: it keeps the ``temporary`` one). With an ``inode`` it is copied if its size, times and inode are these when it
    was read; with a ``digest`` if that is its SHA-256. None for a file that takes more than one call.
    """
    if size > LARGEST or not _is_ordinary(st_mode, uid, gid, mtime_ns, atime_ns):
        return None
    uid, gid, _ = _ownership(uid, gid, owner)
    listed = b"" if not inode else _LISTED.pack(size, mtime_ns, ctime_ns, inode)
    return source, temporary, name, listed, size, st_mode & 0o1777, uid, gid, atime_ns, mtime_ns, digest


def copy_small(
    source: int, target: int, files: list[File], owner: bool | None = None
) -> list[tuple[bytes, int] | None]:
    """Copy files from one open directory to another: of each its SHA-256 and the new inode, or None as for
    :func:`write_small`; also for what is not what it was said to be, or has extended attributes.

    Releases the interpreter lock for all of it. ``owner`` as for each file. Only with the extension, and where the
    processor has instructions for SHA-256.
    """
    return _native.copy_small(source, target, _ownership(0, 0, owner)[2], files)


def copy_listed(
    source: int, target: int, packed: bytes, *, temporary: bytes, mask: int
) -> tuple[dict[bytes, tuple[bytes, bytes]], int]:
    """Copy new files from one open directory to another, as their records in ``packed`` say (``sources.records``): of
    those that are done, by name, a stamp as the index of a mirror has it and the SHA-256; and their bytes together.

    As :func:`copy_small` but for what comes in and goes out; no copy gets the mode bits of ``mask``. ``temporary``:
    a name that nothing begins with.
    """
    return _native.copy_listed(source, target, os.geteuid() == 0, mask, temporary, packed)


def _is_ordinary(st_mode: int, uid: int, gid: int, mtime_ns: int, atime_ns: int) -> bool:
    if st_mode & _SET_ID or max(abs(mtime_ns), abs(atime_ns)) > _MOST:
        return False
    return 0 <= uid < 0xFFFFFFFF and 0 <= gid < 0xFFFFFFFF


def _ownership(uid: int, gid: int, owner: bool | None) -> tuple[int, int, bool]:
    """Whom the file is given to (-1: it stays ours), and whether that has to work; as ``apply_metadata`` does it."""
    if owner is False:
        return -1, -1, False
    must_own = owner is True or os.geteuid() == 0
    return (uid if must_own else -1), gid, must_own
