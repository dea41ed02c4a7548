"""Gather the figures of an archive vault, reading every folder of all snapshots once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from holdfast.format.chunker import native_available
from holdfast.format.node import Node
from holdfast.format.pack import BlobType
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt
from holdfast.kernel.events import Emit, Tick
from holdfast.kernel.ids import BlobId
from holdfast.repository import Repository, layout
from holdfast.repository.index import Place
from holdfast.vaults.archive.read import read_tree
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.items import OnDamage
from holdfast.vaults.stats import Growth, Stored, VaultStats

_KINDS = (layout.CONFIG, layout.KEYS, layout.LOCKS, layout.SNAPSHOTS, layout.INDEX, layout.DATA)
_SHOWN_KINDS = {layout.DATA: "packs"}


def stats(
    repository: Repository,
    snapshots: Sequence[SnapshotInfo],
    *,
    emit: Emit,
    cancel: Cancel,
    on_damage: OnDamage | None = None,
) -> VaultStats:
    """The figures of a repository whose index is loaded; growth and restore sizes of ``snapshots`` only.

    Damaged folders go to ``on_damage`` and count as empty, or raise ``Corrupt`` without it. Raises ``Cancelled``.
    Reads the listing of the storage and each distinct folder once, no data. Memory: some 250 bytes for each distinct
    folder.
    """
    found = VaultStats(format_version=repository.config.version, exact_chunker=native_available())
    found.stored = _stored(repository)
    _count_blobs(repository, found)
    survey = _Survey(repository, emit, cancel, on_damage)
    for snapshot in sorted(snapshots, key=lambda info: (info.time_ns, info.id)):
        found.growth.append(survey.grow(snapshot))
    found.missing = survey.missing
    return found


def _stored(repository: Repository) -> list[Stored]:
    files: dict[str, list[int]] = {kind: [] for kind in _KINDS}
    files[layout.CONFIG].append(repository.storage.size(layout.CONFIG))
    for kind in _KINDS[1:]:
        files[kind] = [info.size for _, info in layout.listing(repository.storage, kind)]
    return [Stored(_SHOWN_KINDS.get(kind, kind), len(sizes), sum(sizes)) for kind, sizes in files.items()]


def _count_blobs(repository: Repository, found: VaultStats) -> None:
    index = repository.index
    for number, (_, blob) in enumerate(index.blobs()):
        if index.number(blob.id) != number:
            found.duplicate_stored += blob.length
            continue
        found.blobs += 1
        found.tree_blobs += blob.type == BlobType.TREE
        found.blob_stored += blob.length
        found.blob_bytes += blob.length - 32 if blob.raw_length is None else blob.raw_length


class _Totals(NamedTuple):
    """What is beneath one folder. Hard links stay apart: whether one counts depends on the rest of the snapshot."""

    files: int
    dirs: int
    others: int
    size: int
    linked: tuple[tuple[int, int, int], ...]  # (device, inode, size), directly in this folder
    below: tuple[BlobId, ...]  # folders in it beneath which there are hard links


_EMPTY = _Totals(0, 0, 0, 0, (), ())


class _Open(NamedTuple):
    """A folder whose nodes are being looked at."""

    tree: BlobId
    path: bytes
    nodes: list[Node]
    folders: Iterator[Node]


class _Survey:
    """Looks at snapshots one after the other and remembers the totals of every folder."""

    def __init__(self, repository: Repository, emit: Emit, cancel: Cancel, on_damage: OnDamage | None) -> None:
        self._repository = repository
        self._emit = emit
        self._cancel = cancel
        self._on_damage = on_damage
        self._totals: dict[BlobId, _Totals] = {}
        self._seen = bytearray(len(repository.index) // 8 + 1)  # one bit for each entry of the index
        self._lost: set[BlobId] = set()
        self._new = [0, 0, 0]

    @property
    def missing(self) -> int:
        """Needed blobs that no index knows."""
        return len(self._lost)

    def grow(self, snapshot: SnapshotInfo) -> Growth:
        """The figures of one snapshot, after those that were asked for before it."""
        self._new = [0, 0, 0]
        root = BlobId(snapshot.tree)
        self._visit(root)
        totals = self._totals[root]
        new_blobs, new_bytes, new_stored = self._new
        return Growth(
            snapshot=snapshot,
            files=totals.files,
            dirs=totals.dirs,
            others=totals.others,
            restore_bytes=totals.size + self._linked_size(root),
            new_blobs=new_blobs,
            new_bytes=new_bytes,
            new_stored=new_stored,
        )

    def _visit(self, root: BlobId) -> None:
        """Make sure that the totals of ``root`` and of all folders beneath it are known."""
        pending = [] if root in self._totals else [self._open(root, b"")]
        while pending:
            top = pending[-1]
            folder = next(top.folders, None)
            if folder is None:
                pending.pop()
                self._totals[top.tree] = self._sum(top.nodes)
            elif folder.subtree is not None and folder.subtree not in self._totals:
                pending.append(self._open(folder.subtree, top.path + b"/" + folder.name))

    def _open(self, tree: BlobId, path: bytes) -> _Open:
        self._cancel.check()
        self._emit(Tick("stats", len(self._totals), current=os.fsdecode(path)))
        self._use(tree)
        try:
            nodes = read_tree(self._repository, tree, path)
        except Corrupt as error:
            if self._on_damage is None:
                raise
            self._on_damage(path, error)
            nodes = []
        for node in nodes:
            for identifier in node.content or ():
                self._use(identifier)
        return _Open(tree, path, nodes, iter([node for node in nodes if node.subtree is not None]))

    def _use(self, identifier: BlobId) -> None:
        """Count a blob at its first use."""
        number = self._repository.index.number(identifier)
        if number < 0:
            self._lost.add(identifier)
            return
        byte, bit = number >> 3, 1 << (number & 7)
        if not self._seen[byte] & bit:
            self._seen[byte] |= bit
            place = self._repository.index.place(identifier)
            assert isinstance(place, Place)
            self._new[0] += 1
            self._new[1] += place.size
            self._new[2] += place.length

    def _sum(self, nodes: list[Node]) -> _Totals:
        files = dirs = others = size = 0
        linked: list[tuple[int, int, int]] = []
        below: list[BlobId] = []
        for node in nodes:
            if node.type == "file":
                files += 1
                if node.links > 1 and node.inode:
                    linked.append((node.device_id, node.inode, node.size))
                else:
                    size += node.size
            elif node.type == "dir":
                inner = _EMPTY if node.subtree is None else self._totals[node.subtree]
                files, dirs, others = files + inner.files, dirs + inner.dirs + 1, others + inner.others
                size += inner.size
                if node.subtree is not None and (inner.linked or inner.below):
                    below.append(node.subtree)
            else:
                others += 1
        return _Totals(files, dirs, others, size, tuple(linked), tuple(below))

    def _linked_size(self, root: BlobId) -> int:
        """Sizes of the files with hard links beneath ``root``, each file once."""
        sizes: dict[tuple[int, int], int] = {}
        pending = [root]
        while pending:
            totals = self._totals[pending.pop()]
            for device, inode, size in totals.linked:
                sizes.setdefault((device, inode), size)
            pending.extend(totals.below)
        return sum(sizes.values())
