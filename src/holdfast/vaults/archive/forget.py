"""Deleting snapshots from an archive vault: only the snapshot files; what they alone used is for a prune."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.ids import SnapshotId, short
from holdfast.kernel.threads import map_in_threads
from holdfast.repository import Repository, layout
from holdfast.repository.locks import Lock

_BATCH = 256
"""Deletions between two looks at the lock, which on a remote place cost a round trip each."""


def forget(repository: Repository, snapshots: Sequence[SnapshotId], lock: Lock, *, emit: Emit, cancel: Cancel) -> int:
    """Delete the files of these snapshots, in this order, under an exclusive ``lock``; returns how many.

    Each deletion is final by itself. Whatever ends this early (a crash, an error, ``cancel``) leaves a part of them
    deleted and everything else as it was: the same call again does the rest. Every deletion is a fact.
    """
    lock.start_renewing()
    at_once = repository.storage.traits.connections
    deleted: list[SnapshotId] = []

    def delete(identifier: SnapshotId) -> None:
        cancel.check()
        repository.delete_unpacked(layout.SNAPSHOTS, identifier)
        deleted.append(identifier)

    for start in range(0, len(snapshots), _BATCH):
        lock.confirm()
        told = len(deleted)
        try:
            map_in_threads(delete, snapshots[start : start + _BATCH], at_once)
        finally:
            for identifier in deleted[told:]:
                message = f"Forgot snapshot {short(identifier)}."
                emit(Fact("snapshot.forgotten", message, "info", {"snapshot": identifier.hex()}))
        emit(Tick("forget", len(deleted), items_total=len(snapshots)))
    return len(deleted)
