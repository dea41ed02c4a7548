"""A directory on its way to becoming a tree: its parts, the holes that are still open, and what closes it."""

from __future__ import annotations

import re
from hashlib import blake2b, sha256
from typing import Any, NamedTuple, Protocol

from holdfast.format.tree import encode_tree, raw_nodes
from holdfast.kernel.ids import BlobId
from holdfast.vaults.archive.backup.memo import record

NO_CHILDREN = bytes(16)


class Filled(NamedTuple):
    """A hole's filling: for a directory its tree id in hex plus the closing ``"}``, for a file its whole node."""

    ticket: int
    slot: int
    data: bytes | None  # None: the item could not be saved and is left out


class Frame:
    """One directory that waits for its children.

    ``parts`` are node texts in order; a subdirectory's ends with ``"subtree":"`` until its hole is filled. A
    directory whose listing is known from the memo has no parts: its old tree is used, with new subtrees put in if
    they differ.
    """

    __slots__ = ("known", "listing", "memoize", "missing", "old_tree", "parent", "parts", "slot", "subtrees", "ticket")

    def __init__(self, ticket: int, parent: int, slot: int, listing: bytes) -> None:
        self.ticket = ticket
        self.parent = parent  # ticket of the frame around this one
        self.slot = slot  # which of the parent's holes this directory fills
        self.listing = listing
        self.parts: list[bytes | None] = []
        self.subtrees: list[tuple[int, BlobId | None]] = []  # (position in parts, tree id) in order
        self.missing = 0
        self.known: tuple[bytes, BlobId] | None = None
        self.memoize = True
        self.old_tree: BlobId | None = None  # this directory in the parent snapshot

    def __getstate__(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __setstate__(self, state: tuple[object, ...]) -> None:
        for name, value in zip(self.__slots__, state, strict=True):
            setattr(self, name, value)

    def expect(self, folders: int) -> None:
        """Nothing is open but so many subdirectories' trees: for a directory whose listing is known."""
        self.subtrees = [(0, None)] * folders
        self.missing = folders

    def fill_subtree(self, order: int, tree: BlobId | None) -> None:
        """Close the hole of the ``order``-th subdirectory; None leaves it out."""
        position = self.subtrees[order][0]
        self.subtrees[order] = (position, tree)
        self.missing -= 1
        if tree is None:
            self.memoize = False
        if self.known is None:
            head = self.parts[position]
            self.parts[position] = None if tree is None or head is None else head + tree.hex().encode() + b'"}'

    def fill_file(self, position: int, node: bytes | None) -> None:
        """Close the hole of a file that other processes read."""
        self.parts[position] = node
        self.missing -= 1
        if node is None:
            self.memoize = False


class TreeSink(Protocol):
    """Where finished trees go."""

    def add_tree(self, tree: BlobId, data: bytes) -> bool:
        """Store a tree blob if it is new; whether it was."""
        ...

    def read_tree(self, tree: BlobId) -> bytes:
        """An older tree's bytes."""
        ...


class Closed(NamedTuple):
    """What became of a frame: the tree, its memo line (None: do not remember), and whether the tree is new."""

    tree: BlobId
    memo: bytes | None
    is_new: bool


_SUBTREE = re.compile(rb'"subtree":"[0-9a-f]{64}"')  # a quote inside a JSON string is always escaped: no false match


def close(frame: Frame, sink: TreeSink) -> Closed:
    """Make the tree of a frame whose holes are all filled."""
    children = children_key([tree for _, tree in frame.subtrees])
    if frame.known is not None:
        known_children, tree = frame.known
        if known_children == children:
            return Closed(tree, record(frame.listing, children, tree), False)
        data = _with_subtrees(sink.read_tree(tree), [subtree for _, subtree in frame.subtrees])
    else:
        data = encode_tree([part for part in frame.parts if part is not None])
    tree = BlobId(sha256(data).digest())
    is_new = sink.add_tree(tree, data)
    return Closed(tree, record(frame.listing, children, tree) if frame.memoize else None, is_new)


def _with_subtrees(data: bytes, subtrees: list[BlobId | None]) -> bytes:
    """An older tree with its directories' subtrees replaced, in order; those that are None are left out."""
    fresh = iter(subtrees)
    if None not in subtrees:
        return _SUBTREE.sub(lambda _: b'"subtree":"' + (next(fresh) or b"").hex().encode() + b'"', data)
    nodes = []
    for _, raw, fields in raw_nodes(data):
        if fields["type"] == "dir":
            subtree = next(fresh)
            if subtree is None:
                continue
            raw = _SUBTREE.sub(b'"subtree":"' + subtree.hex().encode() + b'"', raw or b"")
        nodes.append(raw or b"")
    return encode_tree(nodes)


def children_key(trees: list[BlobId | None]) -> bytes:
    """A 16-byte hash over the tree ids of a directory's subdirectories, in order."""
    if not trees:
        return NO_CHILDREN
    return blake2b(b"".join(tree or b"" for tree in trees), digest_size=16).digest()


def count_directory(counts: Any, old: BlobId | None, new: BlobId) -> None:
    """Count one directory as new, changed or as it was."""
    if old is None:
        counts.dirs_new += 1
    elif old == new:
        counts.dirs_unmodified += 1
    else:
        counts.dirs_changed += 1
