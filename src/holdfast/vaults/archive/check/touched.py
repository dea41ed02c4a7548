"""The second pass, made only where something is wrong: which snapshots and files does each damage touch?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from typing import Any

import orjson

from holdfast.format.gostring import unquote_name
from holdfast.format.pack import BlobType
from holdfast.format.snapshot import Snapshot
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.ids import BlobId, SnapshotId, short
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository, layout
from holdfast.vaults.archive.check.findings import NAMED_FILES, Finding
from holdfast.vaults.archive.check.index import Catalogue


@dataclass(slots=True)
class _Folder:
    """One tree: nodes that findings touch as (finding, name), directories below, and how many touched files in all."""

    hits: list[tuple[int, bytes]] = field(default_factory=list)
    below: list[tuple[bytes, bytes]] = field(default_factory=list)  # (name, id of the tree)
    counts: Counter[int] = field(default_factory=Counter)


class Touched:
    """Names for each finding the snapshots and files that it touches. Trees are read again, each once."""

    def __init__(
        self, repository: Repository, catalogue: Catalogue, findings: Sequence[Finding], cancel: Cancel
    ) -> None:
        self._repository = repository
        self._catalogue = catalogue
        self._findings = findings
        self._cancel = cancel
        self._folders: dict[bytes, _Folder] = {}
        self._lost: dict[bytes, list[int]] = {}
        self._nodes: dict[int, list[tuple[int, bytes]]] = {}
        for position, finding in enumerate(findings):
            for identifier in finding.lost:
                self._lost.setdefault(identifier, []).append(position)
            for tree, names in finding.nodes.items():
                self._nodes.setdefault(tree, []).extend((position, name) for name in names)
        self._lost_hex = {identifier.hex() for identifier in self._lost}

    def name(self, snapshots: Iterable[tuple[SnapshotId, Snapshot]]) -> None:
        """Fill in ``snapshots``, ``files`` and ``files_total`` of all findings. Directories that cannot be read count
        as one file each and are named with a slash at the end: what was in them is not known."""
        for identifier, snapshot in snapshots:
            shown, root = short(identifier), snapshot.tree
            self._grow(root)
            counts = Counter(self._folders[root].counts)
            lost_root = self._lost.get(root, ())
            counts.update(lost_root)
            for position, count in counts.items():
                finding = self._findings[position]
                if shown not in finding.snapshots:
                    finding.snapshots.append(shown)
                finding.files_total += count
                room = NAMED_FILES - len(finding.files)
                if position in lost_root:
                    finding.files += [f"{shown}:/"][:room]
                else:
                    paths = self._paths(root, position)
                    finding.files += [f"{shown}:{_text(path)}" for path, _ in zip(paths, range(room), strict=False)]

    def _grow(self, root: bytes) -> None:
        """Read everything beneath ``root`` that is not known yet, and count upwards."""
        pending = [root]
        order: list[bytes] = []
        while pending:
            tree = pending.pop()
            if tree not in self._folders:
                self._cancel.check()
                folder = self._folders[tree] = self._read(tree)
                order.append(tree)
                pending.extend(below for _, below in folder.below)
        done: set[bytes] = set()
        fresh = set(order)
        for first in order:
            stack = [first]
            while stack:  # a tree is counted when all below it are
                tree = stack[-1]
                waiting = [below for _, below in self._folders[tree].below if below in fresh and below not in done]
                if tree in done or not waiting:
                    stack.pop()
                    if tree not in done:
                        done.add(tree)
                        self._count(self._folders[tree])
                else:
                    stack += waiting

    def _count(self, folder: _Folder) -> None:
        folder.counts.update(position for position, _ in folder.hits)
        for _, below in folder.below:
            folder.counts.update(self._folders[below].counts)

    def _read(self, tree: bytes) -> _Folder:
        folder = _Folder()
        nodes = self._tree(tree)
        number = self._catalogue.index.number(tree)
        folder.hits += self._nodes.get(number, [])
        for node in nodes:
            subtree = node.get("subtree") if node.get("type") == "dir" else None
            if subtree is not None:
                if subtree in self._lost_hex:
                    name = unquote_name(node["name"]) + b"/"
                    folder.hits += [(position, name) for position in self._lost[bytes.fromhex(subtree)]]
                else:
                    folder.below.append((unquote_name(node["name"]), bytes.fromhex(subtree)))
            elif not self._lost_hex.isdisjoint(node.get("content") or ()):
                name = unquote_name(node["name"])
                touching = {
                    position
                    for text in node["content"]
                    if text in self._lost_hex
                    for position in self._lost[bytes.fromhex(text)]
                }
                folder.hits += [(position, name) for position in sorted(touching)]
        return folder

    def _tree(self, tree: bytes) -> list[dict[str, Any]]:
        """The nodes of a tree; none if it cannot be read, which the first pass has told."""
        for place in self._catalogue.index.places(BlobId(tree)):
            if place.type != BlobType.TREE:
                continue
            try:
                name = layout.name_of(layout.DATA, place.pack)
                sealed = self._repository.storage.read(name, place.offset, place.length)
                nodes = orjson.loads(self._repository.open_blob(BlobId(tree), place, sealed)).get("nodes")
                return [node for node in nodes or () if isinstance(node.get("name"), str)]
            except (HoldfastError, orjson.JSONDecodeError, AttributeError, TypeError):
                continue
        return []

    def _paths(self, root: bytes, position: int) -> Iterator[bytes]:
        """Paths of the nodes that one finding touches, depth first; only folders that hold some are entered."""
        stack: list[tuple[bytes, bytes]] = [(b"/", root)]
        while stack:
            path, tree = stack.pop()
            folder = self._folders[tree]
            for hit, name in folder.hits:
                if hit == position:
                    yield path + name
            stack += [
                (path + name + b"/", below)
                for name, below in reversed(folder.below)
                if position in self._folders[below].counts
            ]


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def without_intact_copies(catalogue: Catalogue, lost: dict[bytes, set[bytes]]) -> None:
    """Take blobs of which another copy is intact out of ``lost`` (ids by pack)."""
    for pack, ids in lost.items():
        for identifier in list(ids):
            for place in catalogue.index.places(BlobId(identifier)):
                if place.pack != pack and identifier not in lost.get(place.pack, ()):
                    ids.discard(identifier)
                    break
