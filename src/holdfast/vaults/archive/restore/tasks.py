"""What the processes of a restore say to each other, and the rows that stand for what is to be written.

Rows are plain tuples: hundreds of thousands of them travel between processes, marshalled, and are never touched by the
parent. Their first fields say where the content lies; the last six are the metadata (:data:`Meta`). All paths are
relative to the target's root.
"""

from __future__ import annotations

import errno
from dataclasses import field
from typing import NamedTuple

from holdfast.files.xattrs import Xattrs
from holdfast.format.node import Node
from holdfast.kernel.errors import HoldfastError, NoSpace
from holdfast.kernel.ids import BlobId, PackId
from holdfast.kernel.values import dataclass
from holdfast.vaults.proven import Proven
from holdfast.vaults.selection import Selection

Meta = tuple[int, int, int, int, int, Xattrs]
"""Permission bits, uid, gid, mtime and atime in nanoseconds since 1970, extended attributes."""

Small = tuple[int, int, int, bytes, bytes, bytes, int, int, int, int, int, Xattrs]
"""A file of one blob: offset, stored length and plaintext length (0: stored raw) of the blob, its id; folder and name
of the file; metadata."""

Part = tuple[int, int, int, bytes, bytes, int]
"""One blob of a bigger file: offset, stored length and plaintext length (0: raw), id; path of the file; where in it."""

Plain = tuple[str, bytes, bytes, bytes, int, int, int, int, int, int, Xattrs]
"""What has no content: kind (a node type; ``file``: an empty one; ``repair``: a file that only gets its metadata),
folder, name, link target, device number; metadata."""

Note = tuple[str, bytes, str]
"""``failed``, ``damage`` or ``warning``; the path; why."""

Spot = tuple[PackId, int]
"""A pack, and which MiB of it: small files whose blobs begin there are written together."""


def meta_of(node: Node) -> Meta:
    """The metadata of a node."""
    return node.permissions, node.uid, node.gid, node.mtime, node.atime, node.xattrs


class Folder(NamedTuple):
    """A directory to make, and its metadata (None: leave them). ``wanted``: also if nothing of it is restored;
    ``there``: the target has it already."""

    path: bytes
    meta: Meta | None
    wanted: bool
    there: bool


class Visit(NamedTuple):
    """A directory whose tree is to be looked at.

    ``there``: it is in the target already. ``saved``: at or below a path that the backup was asked to save; above
    those a tree holds only what leads there, so nothing is ever deleted. ``selection`` None: all is wanted.
    """

    path: bytes
    tree: bytes
    selection: Selection | None
    there: bool
    saved: bool


class Survey(NamedTuple):
    """Look at these directories and what is below them."""

    visits: list[Visit]


class Big(NamedTuple):
    """A file of several blobs. ``content`` (ids with their lengths) is there only if it must be read again."""

    folder: bytes
    name: bytes
    size: int
    meta: Meta
    content: list[tuple[bytes, int]]

    @property
    def path(self) -> bytes:
        """Where it will be."""
        return join(self.folder, self.name)


class Linked(NamedTuple):
    """A file that has several names. ``state``: ``write``, ``same`` (the target has it) or ``keep`` (leave alone)."""

    inode: tuple[int, int]
    folder: bytes
    name: bytes
    content: tuple[BlobId, ...]
    state: str
    meta: Meta

    @property
    def path(self) -> bytes:
        """Where it will be."""
        return join(self.folder, self.name)


@dataclass(slots=True)
class Surveyed:
    """The answer to ``Survey``.

    ``small`` are marshalled lists of rows with their number and the bytes of their blobs, ``plain`` such a list with
    its number. ``used``: folders of which only a selection is wanted, and something of it was found.
    """

    visits: list[Visit]
    folders: list[Folder] = field(default_factory=list)
    small: dict[Spot, tuple[bytes, int, int]] = field(default_factory=dict)
    parts: dict[PackId, list[Part]] = field(default_factory=dict)
    bigs: list[Big] = field(default_factory=list)
    plain: tuple[bytes, int] = (b"", 0)
    linked: list[Linked] = field(default_factory=list)
    removals: list[bytes] = field(default_factory=list)
    used: list[bytes] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    actions: list[tuple[str, bytes]] = field(default_factory=list)
    files: int = 0
    size: int = 0
    links: int = 0
    others: int = 0
    skipped: int = 0


class WriteSmall(NamedTuple):
    """Write small files whose blobs lie near each other in one pack; ``rows`` are marshalled lists of :data:`Small`."""

    pack: PackId
    rows: list[bytes]


class WriteParts(NamedTuple):
    """Write blobs of bigger files. ``shared``: those of them whose temporary file exists (device, inode), because
    several tasks write into it; all others are wholly in this task. ``failed``: shared ones that are given up."""

    pack: PackId
    parts: list[Part]
    bigs: list[Big]
    shared: dict[bytes, tuple[int, int]]
    failed: frozenset[bytes]


class Finish(NamedTuple):
    """All parts of a shared file are written: give it its metadata and name."""

    big: Big
    identity: tuple[int, int]


class WritePlain(NamedTuple):
    """Make what has no content; ``rows`` is a marshalled list of :data:`Plain`."""

    rows: bytes


@dataclass(slots=True)
class Written:
    """The answer to the writing tasks. ``parts``: shared files, with the reason why they failed or an empty text."""

    files: int = 0
    size: int = 0
    read: int = 0
    links: int = 0
    others: int = 0
    notes: list[Note] = field(default_factory=list)
    parts: list[tuple[bytes, str]] = field(default_factory=list)
    current: bytes = b""
    proven: Proven | None = None

    def fail(self, path: bytes, error: HoldfastError) -> None:
        """Note that ``path`` could not be written. A full disk concerns all that is left to do: it is raised."""
        if isinstance(error, NoSpace) or error.context.get("errno") == errno.EROFS:
            raise error
        self.notes.append(("failed", path, error.message))

    def damaged(self, path: bytes, error: HoldfastError) -> str:
        """Note that the content of ``path`` cannot be had; returns the reason as noted."""
        why = f"its content is damaged in the vault: {error.message}"
        self.notes.append(("damage", path, why))
        return why


Task = Survey | WriteSmall | WriteParts | Finish | WritePlain
Answer = Surveyed | Written


def join(folder: bytes, name: bytes) -> bytes:
    """The path of ``name`` in ``folder``; the root is empty."""
    return folder + b"/" + name if folder else name
