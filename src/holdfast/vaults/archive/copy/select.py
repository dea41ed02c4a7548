"""Which snapshots a copy has to bring: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from holdfast.format.snapshot import Snapshot
from holdfast.kernel.ids import SnapshotId

Stored = tuple[SnapshotId, Snapshot]


def lasting_id(identifier: SnapshotId, snapshot: Snapshot) -> SnapshotId:
    """The id that stays the same however often a snapshot is copied or tagged: restic's ``original``."""
    return snapshot.original or identifier


def missing(there: Iterable[Stored], wanted: Sequence[Stored]) -> list[Stored]:
    """Those of ``wanted`` that are not ``there`` yet, oldest first.

    The same saved version is known by its lasting id together with tree, time, host and paths. Tags do not count (in
    restic they do): a version that was tagged later is not brought twice.
    """
    known = {_version(identifier, snapshot) for identifier, snapshot in there}
    found: list[Stored] = []
    for identifier, snapshot in sorted(wanted, key=lambda pair: (pair[1].time_ns, pair[0])):
        version = _version(identifier, snapshot)
        if version not in known:
            known.add(version)
            found.append((identifier, snapshot))
    return found


def as_copied(identifier: SnapshotId, snapshot: Snapshot) -> Snapshot:
    """The snapshot as it is written into the other vault. Its parent means nothing there (restic's rule as well)."""
    return replace(snapshot, parent=None, original=lasting_id(identifier, snapshot))


def _version(identifier: SnapshotId, snapshot: Snapshot) -> tuple[object, ...]:
    return (lasting_id(identifier, snapshot), snapshot.tree, snapshot.time, snapshot.hostname, snapshot.paths)
