"""Decides what happens to each pack: a pure function from what was found and what is wanted to an immutable plan."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.kernel.ids import PackId
from holdfast.kernel.values import dataclass
from holdfast.repository.packer import TARGET_SIZE
from holdfast.vaults.archive.prune.model import Figures, PruneOptions
from holdfast.vaults.archive.prune.survey import ABSENT, DATA, MIXED, TREES, Survey

SMALL = TARGET_SIZE * 4 // 5
"""Packs of fewer bytes are small (restic's share of the target)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """By position in the index: packs to ``remove`` (nothing in them is needed), to ``repack`` (their needed blobs are
    copied, then they go), and that are ``gone`` (only the index still names them). ``orphans`` are files to delete,
    with their sizes, unless an index names them by then."""

    remove: tuple[int, ...]
    repack: tuple[int, ...]
    gone: tuple[int, ...]
    orphans: tuple[tuple[PackId, int], ...]
    figures: Figures

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.remove or self.repack or self.gone or self.orphans)


def plan(found: Survey, options: PruneOptions, *, version: int, snapshots: int) -> Plan:
    """The plan for a vault of that format version. Every pack that keeps something must be sound (see ``unsound``).

    restic's rules: packs without anything needed go. Packs that mix data and trees (since version 2), partly used packs
    of trees, and what the options name are written anew. Then partly used packs of data, those with the largest share
    of waste first, until what stays unused is within ``max_unused``. ``max_repack_size`` bounds all of it. Unlike
    restic, small packs of data are only merged on request.
    """
    remove = [pack for pack, kept in enumerate(found.kept) if not kept and found.found[pack] != ABSENT]
    gone = [pack for pack, size in enumerate(found.found) if size == ABSENT]
    there = [pack for pack, kept in enumerate(found.kept) if kept and found.found[pack] != ABSENT]
    repack = _to_repack(found, there, options, version)
    return Plan(
        tuple(remove),
        tuple(repack),
        tuple(gone),
        tuple(sorted(found.orphans.items())),
        _figures(found, remove, repack, gone, snapshots),
    )


def _to_repack(found: Survey, there: Sequence[int], options: PruneOptions, version: int) -> list[int]:
    limit = options.max_unused.limit(sum(found.kept))
    waste = sum(_waste(found, pack) for pack in there)
    budget = options.max_repack_size
    small = _small(found, there, options)
    chosen: list[int] = []
    spent = 0

    def must(pack: int) -> bool:
        mixed = found.kinds[pack] == MIXED and version > 1
        raw = options.repack_uncompressed and version > 1 and found.raw[pack] > 0
        return raw or mixed or pack in small or (found.kinds[pack] != DATA and _waste(found, pack) > 0)

    def order(pack: int) -> tuple[bool, float, int]:
        return not must(pack), -_waste(found, pack) / found.found[pack], pack

    for pack in sorted(there, key=order):
        if options.repack_cacheable_only and found.kinds[pack] == DATA:
            continue
        if not must(pack) and (not _waste(found, pack) or waste <= limit):
            continue
        if budget is not None and spent + found.found[pack] > budget:
            continue
        chosen.append(pack)
        spent += found.found[pack]
        waste -= _waste(found, pack)
    return chosen


def _waste(found: Survey, pack: int) -> int:
    return found.rest[pack] + found.twice[pack]


def _small(found: Survey, there: Sequence[int], options: PruneOptions) -> set[int]:
    """Small packs of a kind, where merging them makes fewer of them."""
    small: set[int] = set()
    for kind in {DATA, TREES} if options.repack_small else ():
        packs = [pack for pack in there if found.kinds[pack] == kind and found.found[pack] < SMALL]
        size = sum(found.kept[pack] for pack in packs)
        if len(packs) > -(-size // TARGET_SIZE):
            small.update(packs)
    return small


def _figures(
    found: Survey, remove: Sequence[int], repack: Sequence[int], gone: Sequence[int], snapshots: int
) -> Figures:
    sizes = found.found
    kept_blobs, rest_blobs, double_blobs = found.blobs
    copied = sum(found.kept[pack] for pack in repack)
    leaving = {*remove, *repack, *gone}
    there = [pack for pack, size in enumerate(sizes) if size != ABSENT]
    return Figures(
        snapshots=snapshots,
        packs=len(there),
        pack_bytes=sum(sizes[pack] for pack in there),
        used_blobs=kept_blobs,
        used_bytes=sum(found.kept),
        unused_blobs=rest_blobs,
        unused_bytes=sum(found.rest),
        duplicate_blobs=double_blobs,
        duplicate_bytes=sum(found.twice),
        keep_packs=len(there) - len(remove) - len(repack),
        remove_packs=len(remove),
        remove_bytes=sum(sizes[pack] for pack in remove),
        repack_packs=len(repack),
        repack_bytes=sum(sizes[pack] for pack in repack),
        copied_bytes=copied,
        orphans=len(found.orphans),
        orphan_bytes=sum(found.orphans.values()),
        gone_packs=len(gone),
        left_bytes=sum(_waste(found, pack) for pack in range(len(sizes)) if pack not in leaving),
    )
