"""Writing snapshots anew with other tags, as restic does it: a new file that names the old one, which then goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from holdfast.format.snapshot import Snapshot
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.ids import SnapshotId, short
from holdfast.repository import Repository, layout
from holdfast.repository.locks import Lock
from holdfast.vaults.tags import Rewrite


def retag(
    repository: Repository, rewrites: Sequence[Rewrite], lock: Lock, *, emit: Emit, cancel: Cancel
) -> list[tuple[SnapshotId, SnapshotId]]:
    """Carry out ``rewrites`` under an exclusive ``lock``; returns (id of the base, id it has now) for each.

    The new file is durable before an old one is deleted: a crash leaves the old one, the new one, or both. Both are
    whole snapshots of the same data, and the same call again brings them together.
    """
    lock.start_renewing()
    found = []
    for number, rewrite in enumerate(rewrites):
        cancel.check()
        lock.confirm()
        base = rewrite.base.id
        new = base if rewrite.tags is None else _write(repository, base, rewrite.tags)
        for old in rewrite.obsolete:
            repository.delete_unpacked(layout.SNAPSHOTS, old.id)
        if new != base:
            message = f"Snapshot {short(base)} is now {short(new)}."
            data = {"snapshot": new.hex(), "before": base.hex(), "tags": list(rewrite.tags or ())}
            emit(Fact("snapshot.tagged", message, "info", data))
        found.append((base, new))
        emit(Tick("tag", number + 1, items_total=len(rewrites)))
    return found


def _write(repository: Repository, base: SnapshotId, tags: tuple[str, ...]) -> SnapshotId:
    snapshot = Snapshot.parse(repository.read_unpacked(layout.SNAPSHOTS, base))
    changed = replace(snapshot, tags=tags, original=snapshot.original or base)
    return SnapshotId(repository.write_unpacked(layout.SNAPSHOTS, changed.encode()))
