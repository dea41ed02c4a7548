"""``stats``: what a vault holds, what that costs, and how it grows."""

from __future__ import annotations

from dataclasses import field

from holdfast.kernel.values import dataclass
from holdfast.vaults.base import SnapshotInfo


@dataclass(frozen=True, slots=True)
class Stored:
    """Files of one kind in the vault's storage: how many, and their bytes."""

    kind: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """What one snapshot holds, and what it added to those before it (in order of time).

    ``restore_bytes``: sizes of its files, each set of hard links once. ``new_bytes``: content that no earlier
    snapshot among those that were asked for has, ``new_stored`` what that occupies in the vault (both with the blobs
    of folders).
    """

    snapshot: SnapshotInfo
    files: int
    dirs: int
    others: int
    restore_bytes: int
    new_blobs: int
    new_bytes: int
    new_stored: int


@dataclass(slots=True)
class VaultStats:
    """Figures of a vault. Bytes are bytes; ratios are 1.0 where there is nothing to divide.

    ``stored``: all files of the storage by kind. ``blobs``, ``blob_bytes`` (plaintext), ``blob_stored``: every blob
    that is in the vault once, used or not; ``duplicate_stored``: further copies of the same blobs. ``growth``: one
    item a snapshot, oldest first. ``missing``: blobs that the snapshots need and no index knows. ``exact_chunker``:
    whether new data is cut as restic cuts it (False: by the fallback, valid but without deduplication against
    restic's).
    """

    stored: list[Stored] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    blobs: int = 0
    tree_blobs: int = 0
    blob_bytes: int = 0
    blob_stored: int = 0
    duplicate_stored: int = 0
    missing: int = 0
    format_version: int = 2
    exact_chunker: bool = True

    @property
    def stored_bytes(self) -> int:
        """Everything that the vault occupies."""
        return sum(part.bytes for part in self.stored)

    @property
    def restore_bytes(self) -> int:
        """What restoring each of the snapshots would write, summed up."""
        return sum(item.restore_bytes for item in self.growth)

    @property
    def used_bytes(self) -> int:
        """Plaintext of all blobs that the snapshots need, each once."""
        return sum(item.new_bytes for item in self.growth)

    @property
    def used_stored(self) -> int:
        """What those blobs occupy."""
        return sum(item.new_stored for item in self.growth)

    @property
    def deduplication(self) -> float:
        """How many times larger the snapshots' files are than their distinct blobs."""
        return _ratio(self.restore_bytes, self.used_bytes)

    @property
    def compression(self) -> float:
        """How many times larger the needed blobs are than what they occupy."""
        return _ratio(self.used_bytes, self.used_stored)

    @property
    def saving(self) -> float:
        """How many times larger the snapshots' files are than what is stored for them: both effects together."""
        return _ratio(self.restore_bytes, self.used_stored)


def _ratio(large: int, small: int) -> float:
    return large / small if large and small else 1.0
