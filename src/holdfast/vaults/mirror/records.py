"""What the state index remembers of the entries of one directory, and its form in bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from holdfast.files.entry import Kind, countable, kind_of
from holdfast.kernel.native import native as _native
from holdfast.sources.records import unpack

if TYPE_CHECKING:
    from holdfast.format.node import Stat

# mode, mtime, ctime, size, inode, user, group, links, device number. Not the device that it is on: its number may
# change with every start of the machine.
_STAMP = struct.Struct("<IqqqQIIIQ")
_HEAD = struct.Struct("<H")
_HASH = 32

NEVER = bytes(_STAMP.size)
"""A stamp that no entry has, where nothing better is known of its source."""

_UNSURE = 0x80  # in the highest byte of the mode, of which the system uses the lower two

NO_HASH = bytes(_HASH)
"""In place of a hash, for folders, devices and pipes."""


class Record(NamedTuple):
    """One entry: ``stat`` of the source when it was read, ``stat`` of its copy when it was finished, and the SHA-256 of
    a file's content or of a link's target."""

    source: bytes
    here: bytes
    hash: bytes


class Stamp(NamedTuple):
    """What a stamp says; the names are those of ``stat``."""

    st_mode: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_size: int
    st_ino: int
    st_uid: int
    st_gid: int
    st_nlink: int
    st_rdev: int
    st_dev: int = 0

    @property
    def kind(self) -> Kind:
        """As ``Entry.kind``."""
        return kind_of(self.st_mode)


def stamp(st: Stat) -> bytes:
    """Everything in ``st`` that changes when the entry does. Two equal stamps of one name mean that nothing did."""
    mode = st.st_mode
    if mode & 0o170000 == 0o040000:
        size = links = 0  # sizes and links of folders mean nothing, and differ between file systems
    else:
        size, links = st.st_size, st.st_nlink
    try:
        return _STAMP.pack(
            mode, st.st_mtime_ns, st.st_ctime_ns, size, st.st_ino,
            st.st_uid, st.st_gid, links & 0xFFFFFFFF, st.st_rdev & (1 << 64) - 1,
        )  # fmt: skip
    except struct.error:  # a time after 2262
        return stamp(_in_range(st))


def _in_range(st: Stat) -> Stamp:
    times = countable(st.st_mtime_ns), countable(st.st_ctime_ns)
    return Stamp(st.st_mode, *times, st.st_size, st.st_ino, st.st_uid, st.st_gid, st.st_nlink, st.st_rdev)


def stamp_here(st: Stat) -> bytes:
    """The same of a copy. A file with several names changes its ctime with each name that is made or removed."""
    if st.st_nlink > 1 and st.st_mode & 0o170000 != 0o040000:
        return _STAMP.pack(
            st.st_mode,
            countable(st.st_mtime_ns),
            0,
            st.st_size,
            st.st_ino,
            st.st_uid,
            st.st_gid,
            2,
            st.st_rdev & (1 << 64) - 1,
        )
    return stamp(st)


def unsure(data: bytes) -> bytes:
    """The same stamp as one that no entry has: what it says was read, but has to be looked at again."""
    return data if data == NEVER else data[:3] + bytes((data[3] | _UNSURE,)) + data[4:]


def is_unsure(data: bytes) -> bool:
    """Whether a stamp is none that an entry may have now."""
    return data == NEVER or data[3] & _UNSURE != 0


def unstamp(data: bytes) -> Stamp:
    """What a stamp says."""
    mode, *rest = _STAMP.unpack(data)
    return Stamp(mode & 0xFFFF, *rest)


def encode(records: dict[bytes, Record]) -> bytes:
    """The records of one directory, in byte order of names."""
    pieces: list[bytes] = []
    for name in sorted(records):
        record = records[name]
        pieces += (_HEAD.pack(len(name)), name, *record)
    return b"".join(pieces)


def rows(
    there: bytes | Iterable[tuple[bytes, Stat]], sides: dict[bytes, tuple[bytes, bytes]]
) -> tuple[bytes, int, int]:
    """The records of a directory in the mirror as :func:`encode` gives them, from what is ``there`` (records of
    ``sources.records``, in byte order, or name and stat) and what is known of the other side, the stamp and hash of
    each name; how many of them are regular files, and their bytes. What only one side has is left out."""
    if isinstance(there, bytes):
        if _native is not None:
            return _native.rows(there, sides)
        there = unpack(there)
    both = [(name, st) for name, st in there if name in sides]
    files = [st.st_size for _, st in both if st.st_mode & 0o170000 == 0o100000]
    known = {name: Record(sides[name][0], stamp_here(st), sides[name][1]) for name, st in both}
    return encode(known), len(files), sum(files)


def decode(data: bytes) -> dict[bytes, Record]:
    """What :func:`encode` made. Raises ``ValueError`` for anything else."""
    records: dict[bytes, Record] = {}
    at, size = 0, _STAMP.size
    fixed = 2 * size + _HASH
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("records end in the middle")
        start = at + 2 + (data[at] | data[at + 1] << 8)
        name = data[at + 2 : start]
        at = start + fixed
        if at > len(data):
            raise ValueError("records end in the middle")
        middle = start + size
        records[name] = Record(data[start:middle], data[middle : middle + size], data[middle + size : at])
    return records
