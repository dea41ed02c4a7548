"""The words of a versioned vault: a version of one item, the change from one to the next, and a step of changes."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from holdfast.files.entry import Entry, kind_of
from holdfast.vaults.base import SnapshotInfo

CURRENT = 1 << 62
"""``last`` of a version that nothing has replaced yet."""

SAME = "same"
"""``history`` of a version that differs from the next one in metadata only."""

LOST = "lost"
"""``history`` of a version whose content was gone from the vault when it was to be kept: told as damage then."""

Xattrs = tuple[tuple[bytes, bytes], ...]


class Version(NamedTuple):
    """One item from step ``first`` until before step ``last``, as it was in its source.

    ``mode`` holds type and permission bits, times are nanoseconds since 1970 UTC, ``sha256`` is empty for all but
    files. ``history`` says where the content is once it is not current: empty (it is, or it has none), :data:`SAME`,
    :data:`LOST`, or a file below ``history/``: ``.diff`` to be undone from the next version, ``.zst`` complete.
    ``depth``: how many former versions in a row are diffs that have to be undone from this content on.
    """

    name: bytes
    first: int
    last: int
    mode: int
    uid: int
    gid: int
    user: str
    group: str
    size: int
    mtime: int
    ctime: int
    inode: int
    device: int
    links: int
    rdev: int
    sha256: bytes
    target: bytes | None
    xattrs: Xattrs
    history: str
    depth: int

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def identity(self) -> tuple[int, int]:
        """What names of one file have in common."""
        return self.device, self.inode


class Change(NamedTuple):
    """What a step does to one name in ``folder`` (absolute path, empty for the root).

    ``before``: the version that ends with it, its ``history`` filled in; None if there was none. ``after``: the one
    that begins; None if the name is gone. ``staged``: the number of the file that waits for it (0: none is needed).
    """

    folder: bytes
    name: bytes
    before: Version | None
    after: Version | None
    staged: int = 0


class Snapshot(NamedTuple):
    """The state at a step that was worth a name. ``roots`` are the saved paths as bytes, ``record`` is for people."""

    step: int
    identifier: bytes
    roots: tuple[bytes, ...]
    record: dict[str, Any]

    def covers(self, path: bytes) -> bool:
        """Whether ``path`` is part of it: saved, beneath what was saved, or a folder that leads there."""
        return any(
            path == root or root == b"/" or path.startswith(root + b"/") or root.startswith(path + b"/") or not path
            for root in self.roots
        )

    def saved(self, path: bytes) -> bool:
        """Whether ``path`` is saved or beneath what was saved."""
        return any(path == root or root == b"/" or path.startswith(root + b"/") for root in self.roots)

    def describe(self) -> SnapshotInfo:
        """As people see it."""
        record = self.record
        return SnapshotInfo(
            id=self.identifier,  # type: ignore[arg-type]
            time=record["time"],
            time_ns=record["time_ns"],
            hostname=record["hostname"],
            username=record["username"],
            paths=tuple(record["paths"]),
            tags=tuple(record["tags"]),
            program=record["program"],
            summary=record.get("summary"),
            excludes=tuple(record["excludes"]),
            note=record["note"],
        )


class Step(NamedTuple):
    """Changes that happen to a vault as one, numbered without gaps from 1."""

    number: int
    changes: Sequence[Change]
    snapshot: Snapshot | None = None


def join(folder: bytes, name: bytes) -> bytes:
    """The path of a name in a folder."""
    return folder + b"/" + name


def entry_of(path: bytes, version: Version) -> Entry:
    """A version as an entry; its ``path`` has a leading slash: it counts from the snapshot's root."""
    return Entry(
        path=path,
        kind=kind_of(version.mode),
        st_mode=version.mode,
        st_size=version.size,
        st_mtime_ns=version.mtime,
        st_atime_ns=version.mtime,
        st_ctime_ns=version.ctime,
        st_uid=version.uid,
        st_gid=version.gid,
        st_ino=version.inode,
        st_dev=version.device,
        st_nlink=version.links,
        st_rdev=version.rdev,
        linktarget=version.target,
        xattrs=version.xattrs,
        user=version.user,
        group=version.group,
    )


def pack_xattrs(xattrs: Xattrs) -> bytes:
    """Attributes as a column: empty for none, else JSON of hexadecimal pairs."""
    return orjson.dumps([[name.hex(), value.hex()] for name, value in xattrs]) if xattrs else b""


def unpack_xattrs(packed: bytes) -> Xattrs:
    """The other way round."""
    if not packed:
        return ()
    return tuple((bytes.fromhex(name), bytes.fromhex(value)) for name, value in orjson.loads(packed))
