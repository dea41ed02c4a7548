"""Use case: list the snapshots in a vault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from holdfast.app.context import Context
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo

GROUPS = ("host", "paths", "tags")


def list_snapshots(
    context: Context, wanted: SnapshotFilter, *, group_by: Sequence[str] = (), latest: int | None = None
) -> list[tuple[dict[str, str], list[SnapshotInfo]]]:
    """Snapshots oldest first, as (what the group has in common, its members); one group without names by default.

    ``latest`` keeps the newest so many of each group (without ``group_by``: of each host and set of paths, as restic).
    """
    with context.opened_any() as vault:
        fitting = [snapshot for snapshot in vault.snapshots(context.emit) if wanted.fitting(snapshot)]
    if latest is not None:
        kept = {s.id for _, group in _groups(fitting, group_by or ("host", "paths")) for s in group[-latest:]}
        fitting = [snapshot for snapshot in fitting if snapshot.id in kept]
    return _groups(fitting, group_by)


def _groups(
    snapshots: Iterable[SnapshotInfo], group_by: Sequence[str]
) -> list[tuple[dict[str, str], list[SnapshotInfo]]]:
    groups: dict[tuple[str, ...], list[SnapshotInfo]] = {}
    for snapshot in snapshots:
        values = {
            "host": snapshot.hostname,
            "paths": ", ".join(sorted(snapshot.paths)),
            "tags": ", ".join(sorted(snapshot.tags)),
        }
        groups.setdefault(tuple(values[name] for name in group_by), []).append(snapshot)
    return [(dict(zip(group_by, key, strict=True)), members) for key, members in groups.items()]
