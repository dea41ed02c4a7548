"""The archive vault: a restic repository, written and read by several processes."""

from holdfast.vaults.archive.vault import ArchiveVault

__all__ = ["ArchiveVault"]
