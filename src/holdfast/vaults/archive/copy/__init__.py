"""Copying snapshots from one archive vault into another: only what is missing there, proved on its way."""

from holdfast.vaults.archive.copy.run import CopyOptions, CopySummary, copy

__all__ = ["CopyOptions", "CopySummary", "copy"]
