"""Mending an archive vault: its index, its packs (also from a second vault) and its snapshots. Never makes it worse."""

from holdfast.vaults.archive.repair.index import IndexOptions, IndexRepair, repair_index
from holdfast.vaults.archive.repair.packs import PacksOptions, PacksRepair, repair_packs
from holdfast.vaults.archive.repair.snapshots import SnapshotsOptions, SnapshotsRepair, repair_snapshots

__all__ = [
    "IndexOptions",
    "IndexRepair",
    "PacksOptions",
    "PacksRepair",
    "SnapshotsOptions",
    "SnapshotsRepair",
    "repair_index",
    "repair_packs",
    "repair_snapshots",
]
