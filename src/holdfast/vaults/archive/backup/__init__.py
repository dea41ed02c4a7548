"""Backing up: directories become trees, files become blobs, by several processes at once."""

from holdfast.vaults.archive.backup.ahead import Ahead
from holdfast.vaults.archive.backup.run import backup

__all__ = ["Ahead", "backup"]
