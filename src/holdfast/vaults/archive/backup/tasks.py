"""What the backup's processes say to each other: tasks from the parent, answers from the workers."""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple

from holdfast.files.rules import Scope
from holdfast.kernel.ids import BlobId
from holdfast.kernel.values import dataclass
from holdfast.repository.packer import OpenPack, Pack
from holdfast.sources.base import StreamEntry
from holdfast.sources.sqlite import Plain
from holdfast.vaults.archive.backup.frames import Frame

OldTree = BlobId | tuple[object, bytes] | None
"""A directory's tree in the parent snapshot: its id, or (the directory above, name) to be looked up when needed."""


class Visit(NamedTuple):
    """Save one directory. ``scope`` is that of the directory around it; ``name`` is empty for a path the user gave."""

    parent: int
    order: int
    path: bytes
    name: bytes
    scope: Scope
    old: OldTree


class Walk(NamedTuple):
    """Save some directories and what is below them, the last one first."""

    visits: list[Visit]


class Ranges(NamedTuple):
    """Read part of a big file again and store it: blobs of these lengths from ``offset`` on."""

    file: int
    number: int
    path: bytes
    offset: int
    lengths: tuple[int, ...]


class Cut(NamedTuple):
    """Find the chunk boundaries of a big file, and answer with ``Ranges``."""

    file: int
    path: bytes


class Whole(NamedTuple):
    """Read a file of some size on its own, so that one directory's files are spread over the processes."""

    file: int
    path: bytes
    size: int


class Stream(NamedTuple):
    """Save what a source (by its number in the options) streams for one entry."""

    file: int
    source: int
    entry: StreamEntry


class BigFile(NamedTuple):
    """A file that is read apart from its directory; its node is made by the parent, in that hole of that frame.

    ``stat`` is what the node says where there is no file on a disk to ask.
    """

    file: int
    parent: int
    position: int
    path: bytes
    name: bytes
    size: int
    old_content: bool
    stat: Plain | None = None


class Stored(NamedTuple):
    """The blobs of one ``Ranges``: ids in order, and the bytes that were really there."""

    file: int
    number: int
    ids: list[BlobId]
    size: int


class CutDone(NamedTuple):
    """All boundaries of a big file are known: how many ``Ranges`` there are.
    ``error`` tells why it could not be read.
    """

    file: int
    ranges: int
    size: int
    error: str
    changed: bool


class Finish(NamedTuple):
    """Close or hand over the packs that are being filled."""


class Finished(NamedTuple):
    """The answer to ``Finish``."""

    packs: list[Pack]
    left: list[OpenPack]


Task = Walk | Ranges | Cut | Whole | Stream | Finish


@dataclass(slots=True)
class Counts:
    """Sums over a part of a backup."""

    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    data_added: int = 0
    total_bytes: int = 0
    excluded: int = 0
    databases: int = 0

    def add(self, other: Counts) -> None:
        """Add ``other`` to this."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Report:
    """What a worker did with one task: what is finished, and what it hands back for others to go on with.

    ``events`` are (kind, path, why) with kind ``failed``, ``warning``, ``checked`` (a database), ``new``, ``changed``,
    ``unchanged`` or ``excluded``.
    """

    counts: Counts = field(default_factory=Counts)
    fills: list[tuple[int, int, BlobId | None]] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    big_files: list[BigFile] = field(default_factory=list)
    packs: list[Pack] = field(default_factory=list)
    memo: bytearray = field(default_factory=bytearray)
    events: list[tuple[str, bytes, str]] = field(default_factory=list)
    current: bytes = b""


Answer = Report | Ranges | CutDone | Stored | Finished
