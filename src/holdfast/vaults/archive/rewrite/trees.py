"""Makes a snapshot's trees anew with something taken out or mended; whatever does not change keeps its bytes and id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from holdfast.format.gostring import json_value
from holdfast.format.tree import encode_tree, raw_nodes
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.ids import BlobId
from holdfast.kernel.values import dataclass

State = TypeVar("State")

# Where a field that was left out (0, or unknown) has its place in a node (facts: restic's design document, "Trees").
_BEFORE_SIZE = frozenset(
    ("name", "type", "mode", "mtime", "atime", "ctime", "uid", "gid", "user", "group", "inode", "device_id")
)


@dataclass(slots=True)
class RawNode:
    """One node: its name, its parsed JSON, and its exact bytes (None: they have to be made from ``fields``)."""

    name: bytes
    fields: dict[str, Any]
    raw: bytes | None = None

    @property
    def type(self) -> object:
        """What kind of entry it says it is."""
        return self.fields.get("type")

    @property
    def size(self) -> int:
        """Bytes of a file, as the node claims."""
        size = self.fields.get("size") or 0
        return size if type(size) is int else 0

    @property
    def subtree(self) -> BlobId | None:
        """The id of a directory's tree; None where there is none, or nothing that could be one."""
        try:
            identifier = bytes.fromhex(self.fields["subtree"])
        except (KeyError, TypeError, ValueError):
            return None
        return BlobId(identifier) if len(identifier) == 32 else None

    def encoded(self) -> bytes:
        """The JSON of the node."""
        return json_value(self.fields) if self.raw is None else self.raw

    def with_content(self, content: list[str], size: int) -> RawNode:
        """The same file with other blobs (ids in hex) of ``size`` bytes together."""
        fields: dict[str, Any] = {}
        waiting = size > 0
        for key, value in self.fields.items():
            if waiting and key not in _BEFORE_SIZE:
                fields["size"], waiting = size, False
            if key != "size":
                fields[key] = content if key == "content" else value
        if waiting:
            fields["size"] = size
        fields.setdefault("content", content)
        return RawNode(self.name, fields)

    def with_subtree(self, tree: BlobId) -> RawNode:
        """The same directory with another tree."""
        return RawNode(self.name, {**self.fields, "subtree": tree.hex()})


def nodes_of(data: bytes) -> list[RawNode]:
    """The nodes of a tree in stored order. Raises ``Corrupt`` for what cannot be a tree."""
    return [RawNode(name, fields, raw) for name, raw, fields in raw_nodes(data)]


class Edit(Protocol[State]):
    """What is done to every folder. ``State`` is what it knows of a folder beside the tree's id (such as its rules)."""

    def key(self, tree: BlobId, path: bytes, state: State) -> object:
        """Folders with equal keys come out equal: only the first of them is worked on."""
        ...

    def read(self, tree: BlobId, path: bytes) -> list[RawNode] | None:
        """The tree's nodes in stored order; None where an empty folder is to stand in its place. Raises to stop."""
        ...

    def nodes(self, nodes: list[RawNode], path: bytes, state: State) -> list[RawNode]:
        """The nodes that stay, changed ones as new objects, in ascending order of names."""
        ...

    def enter(self, node: RawNode, path: bytes, state: State) -> State:
        """The state of the directory ``node``, whose path is ``path``."""
        ...


class Rewritten(NamedTuple):
    """What came of a tree: its id now, and how many files of how many bytes are beneath it."""

    tree: BlobId
    files: int
    size: int


@dataclass(slots=True)
class _Folder(Generic[State]):
    """A folder that is being worked on: directories of it that are still to come, and what has become of the others."""

    key: object
    tree: BlobId
    path: bytes
    state: State
    kept: list[RawNode]
    changed: bool
    waiting: Iterator[int]
    at: int = -1
    files: int = 0
    size: int = 0


class Rewriter(Generic[State]):
    """Rewrites trees depth first, without recursion; trees that were changed go to ``put``, children before parents.

    What came of each is remembered, over all snapshots that one rewriter is asked for.
    """

    def __init__(self, edit: Edit[State], put: Callable[[bytes], BlobId], cancel: Cancel) -> None:
        self._edit = edit
        self._put = put
        self._cancel = cancel
        self._known: dict[object, Rewritten] = {}
        self.folders = 0

    def rewrite(self, root: BlobId, state: State) -> Rewritten:
        """The root's tree as it is after the edit. Raises what ``Edit.read`` raises; what was put by then stays put."""
        key = self._edit.key(root, b"", state)
        if key in self._known:
            return self._known[key]
        stack = [self._open(key, root, b"", state)]
        while True:
            folder = stack[-1]
            position = next(folder.waiting, None)
            if position is None:
                stack.pop()
                result = self._close(folder)
                if not stack:
                    return result
                self._take(stack[-1], result)
                continue
            folder.at = position
            node = folder.kept[position]
            subtree = node.subtree
            assert subtree is not None
            path = folder.path + b"/" + node.name
            inner = self._edit.enter(node, path, folder.state)
            key = self._edit.key(subtree, path, inner)
            known = self._known.get(key)
            if known is not None:
                self._take(folder, known)
            else:
                stack.append(self._open(key, subtree, path, inner))

    def _open(self, key: object, tree: BlobId, path: bytes, state: State) -> _Folder[State]:
        self._cancel.check()
        self.folders += 1
        nodes = self._edit.read(tree, path)
        if nodes is None:
            return _Folder(key, tree, path, state, [], True, iter(()))
        kept = self._edit.nodes(nodes, path, state)
        changed = len(kept) != len(nodes) or any(new is not old for new, old in zip(kept, nodes, strict=True))
        folders = [at for at, node in enumerate(kept) if node.type == "dir" and node.subtree is not None]
        folder = _Folder(key, tree, path, state, kept, changed, iter(folders))
        for node in kept:
            if node.type == "file":
                folder.files += 1
                folder.size += node.size
        return folder

    @staticmethod
    def _take(folder: _Folder[State], result: Rewritten) -> None:
        folder.files += result.files
        folder.size += result.size
        node = folder.kept[folder.at]
        if node.subtree != result.tree:
            folder.kept[folder.at] = node.with_subtree(result.tree)
            folder.changed = True

    def _close(self, folder: _Folder[State]) -> Rewritten:
        tree = folder.tree
        if folder.changed:
            tree = self._put(encode_tree([node.encoded() for node in folder.kept]))
        result = self._known[folder.key] = Rewritten(tree, folder.files, folder.size)
        return result
