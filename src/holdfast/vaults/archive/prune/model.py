"""What a prune is asked with and what it answers with."""

from __future__ import annotations

from dataclasses import field

from holdfast.kernel.values import dataclass
from holdfast.vaults.base import Outcome


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much that nobody uses may stay between what is used, because removing it costs more than it is worth.

    ``percent`` of what the vault holds afterwards, or ``size`` in bytes; neither: any amount.
    """

    percent: float | None = None
    size: int | None = None

    def limit(self, used: int) -> float:
        """Bytes that may stay beside ``used`` bytes."""
        if self.size is not None:
            return self.size
        if self.percent is None or self.percent >= 100:
            return float("inf")
        return used * self.percent / (100 - self.percent)


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """How thorough a prune is.

    ``max_repack_size`` is the most bytes of packs to write anew. ``repack_small`` also merges packs below four fifths
    of the usual size, ``repack_uncompressed`` compresses what is not, ``repack_cacheable_only`` leaves packs of data as
    they are.
    """

    max_unused: Tolerance = field(default_factory=lambda: Tolerance(percent=5.0))
    max_repack_size: int | None = None
    repack_small: bool = False
    repack_uncompressed: bool = False
    repack_cacheable_only: bool = False
    dry_run: bool = False
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What there is and what is planned. Bytes are as stored; those of packs count whole files.

    ``used`` + ``unused`` + ``duplicate`` are all blobs in indexed packs; ``duplicate`` are further copies of used ones.
    ``orphans`` are packs that no index names, ``gone`` packs that an index names and that are not there.
    """

    snapshots: int = 0
    packs: int = 0
    pack_bytes: int = 0
    used_blobs: int = 0
    used_bytes: int = 0
    unused_blobs: int = 0
    unused_bytes: int = 0
    duplicate_blobs: int = 0
    duplicate_bytes: int = 0
    keep_packs: int = 0
    remove_packs: int = 0
    remove_bytes: int = 0
    repack_packs: int = 0
    repack_bytes: int = 0
    copied_bytes: int = 0
    orphans: int = 0
    orphan_bytes: int = 0
    gone_packs: int = 0
    left_bytes: int = 0

    @property
    def freed_bytes(self) -> int:
        """How much smaller the vault gets (headers of new packs not counted)."""
        return self.remove_bytes + self.orphan_bytes + self.repack_bytes - self.copied_bytes


@dataclass(slots=True)
class PruneSummary:
    """What a prune did, or would do.

    ``figures`` is the plan. ``removed_packs`` and ``removed_bytes`` are files that were really deleted; ``new_packs``
    and ``new_bytes`` were written; ``rescued_packs`` were to go, but something meanwhile uses them again;
    ``damaged_packs`` (hex ids) hold damaged blobs that snapshots need and were left as they are.
    """

    figures: Figures = field(default_factory=Figures)
    outcome: Outcome = Outcome.OK
    dry_run: bool = False
    new_packs: int = 0
    new_bytes: int = 0
    removed_packs: int = 0
    removed_bytes: int = 0
    rescued_packs: int = 0
    damaged_packs: list[str] = field(default_factory=list)
    index_files: int = 0
    seconds: float = 0.0
