"""An archive vault's snapshots, one folder at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import takewhile

from holdfast.files.entry import Entry
from holdfast.files.safepath import check_name
from holdfast.format.node import Node
from holdfast.kernel.errors import Corrupt, Invalid, NotFound
from holdfast.kernel.ids import BlobId, short
from holdfast.repository import Repository
from holdfast.vaults.archive.read import entry_of, find_node, parts_of, read_tree
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.items import Item, Mark, OnDamage

_CHECK = "Run 'holdfast check' to see what else is damaged."


class SavedItem:
    """A node and where it stands in its snapshot."""

    __slots__ = ("node", "path")

    passed_over = False

    def __init__(self, path: bytes, node: Node) -> None:
        self.path = path
        self.node = node

    @property
    def name(self) -> bytes:
        return self.node.name

    @property
    def kind(self) -> str:
        return self.node.type

    @property
    def size(self) -> int:
        return self.node.size

    @property
    def mtime_ns(self) -> int:
        return self.node.mtime

    @property
    def mark(self) -> Mark | None:
        return self.node.subtree if self.node.type == "dir" else self.node.content

    @property
    def entry(self) -> Entry:
        return entry_of(self.path, self.node)


class ArchiveBrowser:
    """``Browsable`` over a repository whose index is loaded (``ArchiveVault.reading``).

    ``on_damage`` is told of damaged folders and impossible names, which are passed over; None lets them raise.
    """

    def __init__(self, repository: Repository, on_damage: OnDamage | None = None) -> None:
        self._repository = repository
        self._on_damage = on_damage

    def find(self, snapshot: SnapshotInfo, path: bytes) -> SavedItem:
        """The item at ``path``. Raises ``NotFound`` with the nearest folder as a hint; ``Corrupt``."""
        node = find_node(self._repository, snapshot, path)
        return SavedItem(b"/" + b"/".join(parts_of(path)), node)

    def children(self, folder: Item) -> Sequence[SavedItem]:
        """What is in ``folder``, in byte order of names, without names that no file can have and further ones of a
        name..

        """
        tree = _node(folder).subtree
        if tree is None:
            return ()
        try:
            nodes = read_tree(self._repository, tree, folder.path)
        except Corrupt as error:
            if self._on_damage is None:
                raise
            self._on_damage(folder.path, error)
            return ()
        above = folder.path if folder.path != b"/" else b""
        items: list[SavedItem] = []
        for node in sorted(nodes, key=lambda node: node.name):  # nothing to do for a sound tree
            twice = bool(items) and items[-1].node.name == node.name
            if self._possible(above + b"/" + node.name, node.name, twice=twice):
                items.append(SavedItem(above + b"/" + node.name, node))
        return items

    def content(self, file: Item) -> Iterator[bytes]:
        """The bytes of ``file``, blob by blob; see ``Browsable.content``. ``Invalid`` for what is no file."""
        node = _node(file)
        if node.type != "file":
            raise Invalid(f"{os.fsdecode(file.path)} is a {node.type}, not a file.", hint="Name one file in it.")
        if sum(self._lengths(file)) != node.size:
            raise _damaged(file, f"its blobs do not add up to its {node.size} bytes.")
        yield from self._pieces(file, node.content or ())

    def holds(self, file: Item, read: Callable[[int], bytes]) -> bool:
        """Whether ``read`` yields exactly what ``file`` held, by the hashes of its blobs: no data is read here."""
        for identifier, length in zip(_node(file).content or (), self._lengths(file), strict=True):
            data = read(length)
            while len(data) < length and (more := read(length - len(data))):
                data += more
            if sha256(data).digest() != identifier:
                return False
        return not read(1)

    def same(self, first: Item, second: Item) -> bool:
        """Whether two files hold the same bytes.

        Blobs that differ but begin at the same place and are equally long mean a difference; only where files were
        cut by different rules are blobs read, up to the first difference.
        """
        old, new = _node(first).content or (), _node(second).content or ()
        at = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
        left, right = self._lengths(first)[at:], self._lengths(second)[at:]
        if sum(left) != sum(right) or (left and left[0] == right[0]):
            return False
        return _alike(self._pieces(first, old[at:]), self._pieces(second, new[at:]))

    def _pieces(self, file: Item, blobs: Sequence[BlobId]) -> Iterator[bytes]:
        for identifier in blobs:
            try:
                yield self._repository.read_blob(identifier)
            except (Corrupt, NotFound) as error:
                raise _damaged(file, error.message, identifier) from error

    def _lengths(self, file: Item) -> list[int]:
        lengths = []
        for identifier in _node(file).content or ():
            place = self._repository.index.place(identifier)
            if place is None:
                raise _damaged(file, f"the blob {short(identifier)} is in no index.", identifier)
            lengths.append(place.size)
        return lengths

    def _possible(self, path: bytes, name: bytes, *, twice: bool) -> bool:
        """Whether a file system could hold this; whoever follows such a listing must not be led astray."""
        try:
            check_name(name)
            if twice:
                raise Corrupt(f"{os.fsdecode(path)} is twice in its folder.", hint=_CHECK, path=os.fsdecode(path))
        except Corrupt as error:
            if self._on_damage is None:
                raise
            self._on_damage(path, error)
            return False
        return True


def _alike(left: Iterator[bytes], right: Iterator[bytes]) -> bool:
    """Whether two streams of the same length hold the same bytes."""
    a, b = b"", b""
    while True:
        a, b = a or next(left, b""), b or next(right, b"")
        length = min(len(a), len(b))
        if a[:length] != b[:length]:
            return False
        if length == 0:
            return not a and not b
        a, b = a[length:], b[length:]


def _node(item: Item) -> Node:
    assert isinstance(item, SavedItem), "an item of another vault"
    return item.node


def _damaged(file: Item, why: str, blob: BlobId | None = None) -> Corrupt:
    shown = os.fsdecode(file.path)
    context = {"path": shown} if blob is None else {"path": shown, "blob": blob.hex()}
    return Corrupt(f"The file {shown} is damaged in the vault: {why}", hint=_CHECK, **context)
