"""Which packs a check reads, in what order, and how far it has come."""

from __future__ import annotations

import random
from collections.abc import Sequence

from holdfast.kernel.errors import Invalid
from holdfast.kernel.events import Tick
from holdfast.vaults.archive.check.index import DATA_ONLY, MISSING, TREES_ONLY, Catalogue
from holdfast.vaults.archive.check.packs import PART, PackReport, ReadPack
from holdfast.vaults.base import Subset

_BUCKETS = 256  # restic's limit: one byte of a pack's id decides


def plan(catalogue: Catalogue, read_data: Subset | None, chance: random.Random) -> list[ReadPack]:
    """The tasks: all trees first (they take longest, in parts), then the chosen packs of data, the largest first.

    Packs that are not there are left out. Raises ``Invalid`` for an impossible subset.
    """
    there = [number for number, found in enumerate(catalogue.found) if found != MISSING]
    chosen = set() if read_data is None else set(choose(there, catalogue, read_data, chance))
    tasks: list[ReadPack] = []
    for number in there:
        contents = catalogue.contents[number]
        whole = number in chosen
        if contents == DATA_ONLY or (whole and contents != TREES_ONLY):
            continue
        parts = max(1, -(-catalogue.expected[number] // PART)) if contents == TREES_ONLY else 1
        if parts == 1:
            tasks.append(ReadPack(number, trees_only=not whole, whole=whole))
            continue
        tasks += [ReadPack(number, part, parts, trees_only=True, whole=False) for part in range(parts)]
        if whole:
            tasks.append(ReadPack(number, blobs=False))
    data = [number for number in chosen if catalogue.contents[number] != TREES_ONLY]
    data.sort(key=lambda number: (-catalogue.found[number], catalogue.index.packs[number]))
    return tasks + [ReadPack(number) for number in data]


def choose(there: Sequence[int], catalogue: Catalogue, subset: Subset, chance: random.Random) -> list[int]:
    """The packs of a subset, as restic chooses: part n of t by the first byte of the id, or a random share (at least
    one pack)."""
    if subset.part is not None:
        part, parts = subset.part
        if not 1 <= part <= parts <= _BUCKETS:
            raise Invalid(
                f"There is no part {part}/{parts} of the packs.", hint=f"Give n/t with 1 <= n <= t <= {_BUCKETS}."
            )
        packs = catalogue.index.packs
        return [number for number in there if packs[number][0] % parts == part - 1]
    if subset.percent is not None:
        if not 0 < subset.percent <= 100:
            raise Invalid(
                f"{subset.percent:g} % is no share of the packs.", hint="Give more than 0 % and at most 100 %."
            )
        count = max(1, int(len(there) * subset.percent / 100))
        return chance.sample(there, min(count, len(there)))
    return list(there)


class Progress:
    """How much of the planned reading is done. Bytes count as they are stored."""

    def __init__(self, catalogue: Catalogue, tasks: Sequence[ReadPack], phase: str) -> None:
        self._found = catalogue.found
        self._phase = phase
        self._tasks = len(tasks)
        self._done = 0
        self._bytes = 0
        self.total = sum(map(self._size, tasks))

    def _size(self, task: ReadPack) -> int:
        return self._found[task.pack] // task.parts if task.blobs else 0

    def take(self, report: PackReport) -> None:
        """Count one finished task."""
        self._done += 1
        self._bytes += self._size(report.task)

    def tick(self, errors: int) -> Tick:
        """The figures of now."""
        return Tick(self._phase, self._done, self._bytes, self._tasks, self.total, errors=errors)
