"""What browsing needs of a vault of any kind: the things in a snapshot, one folder at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from holdfast.files.entry import Entry
from holdfast.kernel.errors import HoldfastError
from holdfast.vaults.base import SnapshotInfo

Mark = bytes | tuple[bytes, ...]
"""What identifies content; see :attr:`Item.mark`."""

OnDamage = Callable[[bytes, HoldfastError], None]
"""Told the path of what cannot be read, and why; the rest goes on."""


class Item(Protocol):
    """One file, folder, link or device in a snapshot, or on a disk that is compared with one.

    Only what nearly every question needs is at hand; ``entry`` is made when it is asked for.
    """

    @property
    def path(self) -> bytes:
        """From the snapshot's root, with a leading slash; ``b"/"`` is the root."""
        ...

    @property
    def name(self) -> bytes:
        """The last part of the path; empty for the root."""
        ...

    @property
    def kind(self) -> str:
        """As ``Entry.kind``."""
        ...

    @property
    def size(self) -> int:
        """Bytes of content of a file, as recorded; 0 for what has none."""
        ...

    @property
    def mtime_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""
        ...

    @property
    def mark(self) -> Mark | None:
        """Equal marks mean equal content: a file's bytes; a folder's names, metadata and everything beneath.

        Unequal ones mean nothing. None: not known without reading.
        """
        ...

    @property
    def passed_over(self) -> bool:
        """Whether a backup would leave this out (on a disk; always False in a snapshot)."""
        ...

    @property
    def entry(self) -> Entry:
        """All metadata."""
        ...


class Folders(Protocol):
    """Something with folders that can be listed: a snapshot, or a disk beside it."""

    def children(self, folder: Item) -> Sequence[Item]:
        """What is directly in ``folder``, in byte order of names; empty for what is no folder."""
        ...


class Browsable(Folders, Protocol):
    """A vault whose snapshots can be looked into.

    Folders that are damaged are told to whoever made this object and then count as empty; without such a listener they
    raise ``Corrupt``.
    """

    def find(self, snapshot: SnapshotInfo, path: bytes) -> Item:
        """The item at ``path`` (leading slash optional). Raises ``NotFound`` with a hint, ``Corrupt``."""
        ...

    def content(self, file: Item) -> Iterator[bytes]:
        """The bytes of a file, piece by piece (at most a few MiB each), each verified.

        Raises ``Corrupt`` before the first piece if something is known to be missing or the recorded size is wrong, and
        later where a piece is damaged: what was yielded until then is good.
        """
        ...

    def holds(self, file: Item, read: Callable[[int], bytes]) -> bool:
        """Whether a file's content is what ``read`` yields (``read(n)``: up to n bytes, none at the end).

        Stops at the first difference. Nothing has to be intact in the vault beside the file's own record.
        """
        ...

    def same(self, first: Item, second: Item) -> bool:
        """Whether two saved files hold the same bytes, reading only what their records do not tell.

        Raises ``Corrupt``.
        """
        ...


def walk(folders: Folders, top: Item) -> Iterator[Item]:
    """Everything beneath ``top``, not itself, depth first, in byte order of names. Paths may be of any depth."""
    pending = [iter(folders.children(top))]
    while pending:
        item = next(pending[-1], None)
        if item is None:
            pending.pop()
            continue
        yield item
        if item.kind == "dir":
            pending.append(iter(folders.children(item)))
