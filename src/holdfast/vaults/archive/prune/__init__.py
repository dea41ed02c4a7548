"""Removes from a vault what no snapshot uses: survey what there is, plan, repack beside running backups, delete."""

from holdfast.vaults.archive.prune.model import Figures, PruneOptions, PruneSummary, Tolerance
from holdfast.vaults.archive.prune.run import prune

__all__ = ["Figures", "PruneOptions", "PruneSummary", "Tolerance", "prune"]
