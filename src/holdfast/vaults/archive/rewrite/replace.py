"""Puts new snapshots beside old ones, or in their place: everything durable before anything goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from holdfast.format.snapshot import Snapshot
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.ids import BlobId, SnapshotId
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository, Writer, layout
from holdfast.repository.index import Index
from holdfast.repository.locks import Lock
from holdfast.vaults.archive.mending import NewBlobs
from holdfast.vaults.archive.rewrite.trees import Rewritten

Listed = Sequence[tuple[SnapshotId, Snapshot]]


@dataclass(frozen=True, slots=True)
class Replacement:
    """One snapshot that was rewritten. ``new`` is None where the new one was there already, from an earlier run; or in
    a dry run, which writes none."""

    old: SnapshotId
    tree: BlobId
    new: SnapshotId | None = None


class TreeStore:
    """Where new trees go. One that the vault has intact already is not stored again."""

    def __init__(self, repository: Repository, new: NewBlobs) -> None:
        self._repository = repository
        self._new = new

    def put(self, data: bytes) -> BlobId:
        """Take a tree; its id."""
        return self._new.add_tree(data, unless=self._is_stored)

    def _is_stored(self, identifier: BlobId) -> bool:
        index: Index = self._repository.index
        if not index.has(identifier):
            return False
        try:
            self._repository.read_blob(identifier)
        except HoldfastError:
            return False
        return True


def successor(identifier: SnapshotId, snapshot: Snapshot, rewritten: Rewritten, tag: str) -> Snapshot:
    """``snapshot`` with another tree: it names the one that it was made from, and counts what it holds now."""
    summary = snapshot.summary
    if summary is not None:
        summary = {
            **summary,
            "total_files_processed": rewritten.files,
            "total_bytes_processed": rewritten.size,
        }
    tags = snapshot.tags if not tag or tag in snapshot.tags else (*snapshot.tags, tag)
    return replace(snapshot, tree=rewritten.tree, tags=tags, original=identifier, summary=summary)


def commit(
    repository: Repository,
    lock: Lock,
    new: NewBlobs,
    successors: Sequence[tuple[SnapshotId, Snapshot]],
    existing: Listed,
    *,
    forget: Callable[[SnapshotId], bool],
) -> list[Replacement]:
    """Make the new trees durable, then their index, then the new snapshots; then delete those that ``forget`` says.

    After a crash at any moment every old snapshot is there, or its successor. A successor that an earlier run has
    already written is not written again.
    """
    writer = Writer(repository, lock)
    for pack in new.finish():
        writer.record(pack)
    writer.save_index()
    there = {_likeness(snapshot) for _, snapshot in existing}
    replacements = [
        Replacement(old, snapshot.tree, None if _likeness(snapshot) in there else writer.commit(snapshot))
        for old, snapshot in successors
    ]
    for replacement in replacements:
        if forget(replacement.old):
            lock.confirm()
            repository.delete_unpacked(layout.SNAPSHOTS, replacement.old)
    return replacements


def _likeness(snapshot: Snapshot) -> bytes:
    return snapshot.encode()
