"""Versioned vaults: the current tree as plain files, and the history of every file, for ordinary tools."""

from holdfast.vaults.versioned.layout import is_versioned
from holdfast.vaults.versioned.vault import VersionedVault

__all__ = ["VersionedVault", "is_versioned"]
