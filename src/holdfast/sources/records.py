"""What ``stat`` says of a directory's entries as bytes, one record an entry: to be hashed, kept and compared."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from holdfast.format.node import Stat

from holdfast.kernel.native import native as _native

# name length, mode, mtime, ctime, size, inode, device, uid, gid, links, rdev
_RECORD = struct.Struct("<HIqqqQQIIIQ")
_DEVICE = (1 << 64) - 1
_LINKS = (1 << 32) - 1


class Seen(NamedTuple):
    """What ``stat`` said of an entry, as far as a record has it. The names are those of ``os.stat_result``."""

    st_mode: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_size: int
    st_ino: int
    st_dev: int
    st_uid: int
    st_gid: int
    st_nlink: int
    st_rdev: int


def pack(entries: Sequence[tuple[bytes, Stat]]) -> bytes | None:
    """One record an entry, the name behind it. Of directories neither size nor links, which change with what they hold.
    None for what no record can hold: a time beyond the year 2262."""
    packed = None if _native is None else _native.pack(entries)
    return _pack(entries) if packed is None else packed


def unpack(packed: bytes) -> list[tuple[bytes, Stat]]:
    """What :func:`pack` was given. Raises ``ValueError`` for anything else."""
    if _native is not None:
        return _native.unpack(packed)  # type: ignore[return-value]  # a list of tuples that nobody else changes
    entries: list[tuple[bytes, Stat]] = []
    at = 0
    while at < len(packed):
        try:
            length, *fields = _RECORD.unpack_from(packed, at)
        except struct.error as error:
            raise ValueError("a record is cut off") from error
        at += _RECORD.size
        entries.append((packed[at : at + length], Seen(*fields)))
        at += length
    return entries


def _pack(entries: Sequence[tuple[bytes, Stat]]) -> bytes | None:
    pieces: list[bytes] = []
    try:
        for name, st in entries:
            size, links = (0, 0) if st.st_mode & 0o170000 == 0o040000 else (st.st_size, st.st_nlink)
            record = _RECORD.pack(
                len(name), st.st_mode, st.st_mtime_ns, st.st_ctime_ns, size, st.st_ino, st.st_dev & _DEVICE,
                st.st_uid, st.st_gid, links & _LINKS, st.st_rdev & _DEVICE,
            )  # fmt: skip
            pieces += (record, name)
    except struct.error:
        return None
    return b"".join(pieces)
