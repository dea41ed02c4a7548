"""The mirror: an exact copy of its sources, as plain files that any program can read."""

from holdfast.vaults.mirror.vault import KIND, MirrorVault, make_mirror, open_mirror

__all__ = ["KIND", "MirrorVault", "make_mirror", "open_mirror"]
