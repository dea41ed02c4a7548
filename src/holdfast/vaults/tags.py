"""Changing the tags of snapshots: a pure function from what is wished for to what has to be rewritten and removed.

A snapshot file never changes: new tags mean a new file, which names the first one as its original, and then the old
one's removal. A run that died in between leaves both, and the next one on the same snapshot finishes what it began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from holdfast.kernel.values import dataclass
from holdfast.vaults.base import SnapshotInfo

Tags = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TagChange:
    """``replace`` (None: no) puts new tags in place of all, then ``remove`` and ``add`` do what they say."""

    add: Tags = ()
    remove: Tags = ()
    replace: Tags | None = None

    def apply(self, tags: Tags) -> Tags:
        """The tags afterwards, each once, in the order in which they came."""
        before = tags if self.replace is None else self.replace
        return tuple(dict.fromkeys((*(tag for tag in before if tag not in self.remove), *self.add)))


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What to do with one saved version. ``tags`` go into a new file made of ``base``; None: that is right as it is.

    ``obsolete`` are the files to remove afterwards, ``base`` among them if it is rewritten.
    """

    base: SnapshotInfo
    tags: Tags | None
    obsolete: tuple[SnapshotInfo, ...]


def same_save(one: SnapshotInfo, other: SnapshotInfo) -> bool:
    """Whether the two are versions of one snapshot that differ in nothing but tags and notes."""
    return (one.tree, one.time, one.hostname, one.paths) == (other.tree, other.time, other.hostname, other.paths)


def is_older(one: SnapshotInfo, other: SnapshotInfo) -> bool:
    """Whether ``other`` is known to be a rewritten version of ``one``."""
    return other.original == one.id and one.id != other.id and same_save(one, other)


def plan_rewrites(
    everything: Iterable[SnapshotInfo], chosen: Sequence[SnapshotInfo], change: Callable[[Tags], Tags]
) -> list[Rewrite]:
    """What makes ``change`` true of every snapshot in ``chosen``; each saved version is dealt with once.

    ``everything`` are all snapshots of the vault. Versions of one snapshot are brought together where that loses
    nothing: those known to be older than the one that is kept, and those that would be equal after the change.
    """
    families: dict[tuple[object, ...], list[SnapshotInfo]] = {}
    for snapshot in everything:
        families.setdefault(_family(snapshot), []).append(snapshot)
    rewrites: list[Rewrite] = []
    done: set[bytes] = set()
    for snapshot in chosen:
        if snapshot.id in done:
            continue
        family = families[_family(snapshot)]
        newer = [other for other in family if is_older(snapshot, other)]
        base = newer[0] if newer else snapshot
        wanted = change(base.tags)
        together = [
            other for other in family if is_older(other, base) or other is base or _same(change(other.tags), wanted)
        ]
        right = next((other for other in [base, *together] if _same(other.tags, wanted)), None)
        done.update(other.id for other in together)
        done.add(snapshot.id)
        obsolete = tuple(other for other in together if other is not right)
        rewrites.append(Rewrite(right or base, None if right else wanted, obsolete))
    return rewrites


def _family(snapshot: SnapshotInfo) -> tuple[object, ...]:
    return snapshot.original or snapshot.id, snapshot.tree, snapshot.time, snapshot.hostname, snapshot.paths


def _same(one: Tags, other: Tags) -> bool:
    return set(one) == set(other)
