"""Forgetting snapshots: former versions that no kept snapshot needs go, and those that were kept as a difference from
one of them are kept anew, byte for byte the same.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import field
from itertools import groupby

from holdfast.files.safepath import translated
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.ids import short
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import Problem
from holdfast.vaults.versioned import manifest
from holdfast.vaults.versioned.former import LONGEST_TEXT, Keeper, Reader
from holdfast.vaults.versioned.index import Index
from holdfast.vaults.versioned.journal import flush
from holdfast.vaults.versioned.layout import Layout, flush_folder
from holdfast.vaults.versioned.model import CURRENT, LOST, SAME, Version, join


@dataclass(slots=True)
class PruneSummary:
    """What went. ``rewritten``: former versions that were kept anew; ``bytes_freed`` of the history, net."""

    snapshots: int = 0
    versions: int = 0
    rewritten: int = 0
    files_removed: int = 0
    bytes_freed: int = 0
    problems: list[Problem] = field(default_factory=list)


def forget(
    layout: Layout, index: Index, gone: Collection[bytes], *, dry_run: bool = False, emit: Emit, cancel: Cancel
) -> PruneSummary:
    """Forget the snapshots with these ids, and what only they needed; under an exclusive lock.

    The newest snapshot's state is the current tree, which stays. Killed before the new base of the manifest has its
    name: nothing was forgotten. Killed later: everything was, and the next prune removes files that are left over.
    What is damaged stays as it is and is told. Raises ``Cancelled`` before anything is changed.
    """
    snapshots = index.snapshots()
    kept = [snapshot for snapshot in snapshots if snapshot.identifier not in gone]
    summary = PruneSummary(snapshots=len(snapshots) - len(kept))
    number = index.fact("step") + 1
    versions: list[tuple[bytes, Version]] = []
    work = _Work(layout, index, None if dry_run else Keeper(layout, number), summary)
    items = groupby(index.everything(), key=lambda pair: (pair[0], pair[1].name))
    for count, ((folder, name), chain) in enumerate(items):
        if count % 1000 == 0:
            cancel.check()
            emit(Tick("prune", count, current=os.fsdecode(folder)))
        path = join(folder, name)
        steps = [one.step for one in kept if one.covers(path)]
        versions += [(folder, version) for version in work.thin(folder, [one for _, one in chain], steps)]
    wanted = {version.history for _, version in versions}
    if dry_run:
        _sweep(layout, wanted, summary, dry_run=True)
        return summary
    try:
        if summary.snapshots or summary.versions:
            flush(layout)
            manifest.write_base(layout, number, versions, kept)
            with index.transaction():
                index.load(versions, kept, number)
            for path in manifest.obsolete(layout):
                os.unlink(path)
            flush_folder(layout.manifest)
        _sweep(layout, wanted, summary, dry_run=False)
    except OSError as error:
        raise translated(error, "write to the vault", layout.root) from error
    for snapshot in snapshots:
        if snapshot.identifier in gone:
            message = f"Forgot snapshot {short(snapshot.identifier)}."
            emit(Fact("snapshot.forgotten", message, "info", {"snapshot": snapshot.identifier.hex()}))
    return summary


class _Work:
    """Decides about the versions of one item after the other."""

    def __init__(self, layout: Layout, index: Index, keeper: Keeper | None, summary: PruneSummary) -> None:
        self._reader = Reader(layout, index)
        self._keeper = keeper
        self._summary = summary

    def thin(self, folder: bytes, chain: list[Version], steps: list[int]) -> list[Version]:
        """The versions of one name, oldest first, that any of ``steps`` needs, and the current one."""
        needed = [
            version
            for version in chain
            if version.last == CURRENT or any(version.first <= step < version.last for step in steps)
        ]
        if len(needed) == len(chain):
            return chain
        self._summary.versions += len(chain) - len(needed)
        after = {version.first: version for version in chain}
        return [
            self._relinked(folder, version, needed[at + 1] if at + 1 < len(needed) else None, after)
            for at, version in enumerate(needed)
        ]

    def _relinked(
        self, folder: bytes, version: Version, following: Version | None, after: dict[int, Version]
    ) -> Version:
        """``version`` as it must be kept if ``following`` is the next version that is left."""
        if version.last == CURRENT or not version.is_file or version.history.endswith(".zst"):
            return version
        if version.history == LOST or (following is not None and following.first == version.last):
            return version
        # What comes next is going: one after the other until there is something that stays, or is complete.
        next_one = after.get(version.last)
        if next_one is None:
            return version
        gapless = following is not None and self._without_gap(version, following, after)
        last = following.first if following is not None and gapless else version.last
        if version.history == SAME and next_one.history.endswith(".zst"):
            return version._replace(history=next_one.history)
        if gapless and following is not None and following.sha256 == version.sha256 and following.is_file:
            return version._replace(last=last, history=SAME)
        return self._kept_anew(folder, version, following if gapless else None, last)

    def _without_gap(self, version: Version, following: Version, after: dict[int, Version]) -> bool:
        at: Version | None = version
        while at is not None and at.first < following.first:
            at = after.get(at.last)
        return at is not None and at.first == following.first

    def _kept_anew(self, folder: bytes, version: Version, following: Version | None, last: int) -> Version:
        self._summary.rewritten += 1
        if self._keeper is None:
            return version
        try:
            before = self._reader.whole(folder, version)
            new = None
            if following is not None and following.is_file and following.size <= LONGEST_TEXT:
                new = self._reader.whole(folder, following)
        except Corrupt as error:
            self._summary.problems.append(Problem(join(folder, version.name), error.message, "prune"))
            return version._replace(history=LOST)
        history, _ = self._keeper.keep(before, new, following.depth if following is not None else 0)
        return version._replace(last=last, history=history)


def _sweep(layout: Layout, wanted: Collection[str], summary: PruneSummary, *, dry_run: bool) -> None:
    """Remove history that no version refers to any more."""
    for path, history in _history(layout):
        if history in wanted:
            continue
        summary.files_removed += 1
        summary.bytes_freed += os.lstat(path).st_size
        if not dry_run:
            os.unlink(path)
    if not dry_run:
        for name in os.listdir(layout.history):
            if name.isdigit() and not os.listdir(layout.history + b"/" + name):
                os.rmdir(layout.history + b"/" + name)


def _history(layout: Layout) -> Iterator[tuple[bytes, str]]:
    for step in sorted(os.listdir(layout.history)):
        if step.isdigit():
            for name in sorted(os.listdir(layout.history + b"/" + step)):
                yield layout.history + b"/" + step + b"/" + name, os.fsdecode(step + b"/" + name)
