"""Live SQLite files: recognise them and their companions, and tell whether they have changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from holdfast.sources.directory import Item, open_file

if TYPE_CHECKING:
    from holdfast.format.node import Stat

MAGIC = b"SQLite format 3\0"
WAL, SHM, JOURNAL = b"-wal", b"-shm", b"-journal"
COMPANIONS = (WAL, SHM, JOURNAL)

LOG_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83", b"\xd9\xd5\x05\xf9")
"""How a write-ahead log and a rollback journal begin (https://www.sqlite.org/fileformat2.html, 3 and 4.1)."""


class Unfit(Exception):
    """No consistent copy can be made: why. ``failed``: the item counts as failed, not only as worth a warning."""

    def __init__(self, why: str, *, failed: bool) -> None:
        super().__init__(why)
        self.failed = failed


class Plain(NamedTuple):
    """What a node says of a file that is not as ``stat`` says. The fields are those of ``format.node.Stat``."""

    st_mode: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_uid: int = 0
    st_gid: int = 0
    st_ino: int = 0
    st_dev: int = 0
    st_nlink: int = 0
    st_size: int = 0
    st_rdev: int = 0


def is_database(name: bytes, dir_fd: int | None = None) -> bool:
    """Whether a file begins as SQLite's do. Raises ``OSError``."""
    return file_head(name, dir_fd, len(MAGIC)) == MAGIC


def companions(items: Sequence[Item], dir_fd: int | None) -> dict[bytes, list[Item]]:
    """Databases of a directory that have files beside them that belong to them: name of the database -> those."""
    beside = [item for item in items if item.name.endswith(COMPANIONS)]
    if not beside:
        return {}
    sizes = {item.name: item.stat.st_size for item in items if item.stat.st_mode & 0o170000 == 0o100000}
    found: dict[bytes, list[Item]] = {}
    for item in beside:
        base = item.name.rpartition(b"-")[0]
        if item.name not in sizes or not sizes.get(base):
            continue
        with contextlib.suppress(OSError):
            if base in found or is_database(base, dir_fd):
                found.setdefault(base, []).append(item)
    return found


def looks_encrypted(items: Sequence[Item], dir_fd: int | None) -> list[bytes]:
    """Files that have SQLite's write-ahead log beside them, but are no SQLite files: encrypted ones, as a rule."""
    names = {item.name for item in items if item.stat.st_size}
    found = []
    for name in names:
        base = name.removesuffix(WAL)
        if base != name and base in names:
            with contextlib.suppress(OSError):
                if file_head(name, dir_fd, 4) in LOG_MAGIC and not is_database(base, dir_fd):
                    found.append(base)
    return sorted(found)


def seen(st: Stat, beside: Sequence[Item]) -> Plain:
    """What tells whether a database has changed: the later times of file and log. Without size: the log adds to it."""
    logs = [item.stat for item in beside if item.name.endswith((WAL, JOURNAL)) and item.stat.st_size]
    return Plain(
        st.st_mode,
        max([st.st_mtime_ns, *(log.st_mtime_ns for log in logs)]),
        max(
            [st.st_ctime_ns, *(log.st_mtime_ns for log in logs)]
        ),  # SQLite run by root sets a log's owner, and so its ctime
        st.st_uid,
        st.st_gid,
        st.st_ino,
        st.st_dev,
    )


def file_head(name: bytes, dir_fd: int | None, count: int) -> bytes:
    """The first bytes of a file. Raises ``OSError``."""
    fd = open_file(name, dir_fd)
    try:
        return os.pread(fd, count, 0)
    finally:
        os.close(fd)
