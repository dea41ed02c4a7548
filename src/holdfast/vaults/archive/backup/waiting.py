"""Small files that have been read and wait until there are enough of them to be hashed and stored in one go."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.files.xattrs import Xattrs
from holdfast.format.node import Stat
from holdfast.sources.directory import Item
from holdfast.vaults.archive.backup.frames import Frame
from holdfast.vaults.archive.backup.old import OldNode

_BYTES = 512 << 10  # stays in the cache of one core until it is hashed, compressed and sealed
_FILES = 512


class Read(NamedTuple):
    """A file whose content is known: where its node belongs, what it was like before reading and after."""

    frame: Frame
    position: int
    folder: bytes
    item: Item
    known: OldNode | None
    after: Stat
    xattrs: Xattrs

    @property
    def is_as_listed(self) -> bool:
        """Whether it is what the listing said, and has no attributes beside."""
        st, after = self.item.stat, self.after
        return (
            not self.xattrs
            and after.st_mtime_ns == st.st_mtime_ns
            and after.st_size == st.st_size
            and after.st_ino == st.st_ino
        )

    @property
    def path(self) -> bytes:
        """The file's path."""
        return self.folder + b"/" + self.item.name


class Waiting:
    """Files and their content, in the order of reading."""

    def __init__(self) -> None:
        self._reads: list[Read] = []
        self._contents: list[bytes] = []
        self._bytes = 0

    def add(self, read: Read, content: bytes) -> None:
        """One more, which opens a hole in its frame."""
        read.frame.missing += 1
        self._reads.append(read)
        self._contents.append(content)
        self._bytes += len(content)

    @property
    def enough(self) -> bool:
        """Whether they should be stored now."""
        return self._bytes >= _BYTES or len(self._reads) >= _FILES

    def take(self) -> tuple[list[Read], list[bytes]]:
        """All of them and their content; nothing waits any more."""
        taken = self._reads, self._contents
        self._reads, self._contents, self._bytes = [], [], 0
        return taken
