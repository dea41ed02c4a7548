"""Looking for damage: keys, index, packs, trees and snapshots, and what of the user's each damage touches."""

from holdfast.vaults.archive.check.run import check

__all__ = ["check"]
