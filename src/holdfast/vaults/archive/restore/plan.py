"""The plan of a restore: everything that will be done, in order, computed before anything is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter

from holdfast.kernel.ids import PackId
from holdfast.kernel.values import dataclass
from holdfast.repository.index import Index
from holdfast.vaults.archive.restore.rows import Rows
from holdfast.vaults.archive.restore.tasks import (
    Big,
    Folder,
    Linked,
    Note,
    Part,
    Spot,
    Surveyed,
    WriteParts,
    WritePlain,
    WriteSmall,
)  # fmt: skip

ROWS_PER_TASK = 3000  # about 0.1 s of work
BYTES_PER_TASK = 4 << 20
PARTS_PER_TASK = 2048  # only packs that many files share (runs of zeros) have more

WriteTask = WriteSmall | WriteParts | WritePlain


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore will do. All paths are relative to the target's root.

    In this order: ``removals``; ``tasks`` (in the order of the packs, each needed range of a pack in one of them, to be
    done in any order by any process; ``shares`` tells how many of them a file of several tasks waits for); ``links``
    (existing name, new name); the metadata of ``folders``, deepest first, which makes those that are still missing.
    ``files`` and ``size`` count what ``tasks`` write, ``skipped`` what stays as it is. ``others``: links, and
    devices and pipes. ``actions`` is the plan for people (empty unless it was asked for).
    """

    removals: tuple[bytes, ...]
    tasks: tuple[WriteTask, ...]
    shares: dict[bytes, int]
    links: tuple[tuple[bytes, bytes], ...]
    folders: tuple[Folder, ...]
    files: int
    size: int
    skipped: int
    notes: tuple[Note, ...]
    actions: tuple[tuple[str, bytes], ...]
    others: tuple[int, int]


class Planner:
    """Adds up what the surveyors of all processes found."""

    def __init__(self, index: Index, *, keep_content: bool, selective: bool) -> None:
        """``selective``: not everything is wanted, so a folder counts only if something in it does."""
        self._index = index
        self._keep_content = keep_content
        self._selective = selective
        self._small: dict[Spot, list[tuple[bytes, int, int]]] = {}
        self._parts: dict[PackId, list[Part]] = {}
        self._bigs: dict[bytes, Big] = {}
        self._linked: list[Linked] = []
        self._plain: list[bytes] = []
        self._used: set[bytes] = set()
        self.found = Surveyed([])
        """The sums so far: files, size, skipped, folders, removals, notes, actions."""

    def take(self, surveyed: Surveyed) -> None:
        """Add one answer."""
        for spot, chunk in surveyed.small.items():
            self._small.setdefault(spot, []).append(chunk)
        for pack, parts in surveyed.parts.items():
            self._parts.setdefault(pack, []).extend(parts)
        self._bigs.update((big.path, big) for big in surveyed.bigs)
        if surveyed.plain[1]:
            self._plain.append(surveyed.plain[0])
        self._linked += surveyed.linked
        self._used.update(surveyed.used)
        found = self.found
        found.folders += surveyed.folders
        found.removals += surveyed.removals
        found.notes += surveyed.notes
        found.actions += surveyed.actions
        found.files += surveyed.files
        found.size += surveyed.size
        found.skipped += surveyed.skipped
        found.links += surveyed.links
        found.others += surveyed.others

    def finish(self, *, show: bool) -> Plan:
        """The plan. ``show`` adds the actions for people."""
        links = tuple(self._link())
        tasks, shares = self._tasks()
        found = self.found
        folders = tuple(self._needed(found.folders))
        actions: list[tuple[str, bytes]] = []
        if show:
            actions = found.actions + [("folder", folder.path) for folder in folders if not folder.there]
            actions.sort(key=itemgetter(1))
        return Plan(
            removals=tuple(sorted(found.removals)),
            tasks=tasks,
            shares=shares,
            links=links,
            folders=folders,
            files=found.files,
            size=found.size,
            skipped=found.skipped,
            notes=tuple(found.notes),
            actions=tuple(actions),
            others=(found.links + len(links), found.others),
        )

    def _link(self) -> Iterator[tuple[bytes, bytes]]:
        """Of the names of one file the first is written, or is in the target already; the others become links to it.

        Names count as one file's if inode, device and content are equal: a file can change between two names.
        """
        groups: dict[tuple[object, ...], list[Linked]] = {}
        for linked in sorted(self._linked, key=lambda linked: linked.path):
            groups.setdefault((linked.inode, linked.content), []).append(linked)
        rows = Rows(self._index, keep_content=self._keep_content)
        for names in groups.values():
            first = next((linked for linked in names if linked.state != "keep"), None)
            if first is None:
                continue
            if first.state == "same":
                rows.plain.append(("repair", first.folder, first.name, b"", 0, *first.meta))
            elif why := rows.add_file(first.folder, first.name, first.content, first.meta):
                self.found.notes += [("damage", linked.path, why) for linked in names if linked.state == "write"]
                continue
            for linked in names:
                if linked is not first and linked.state == "write":
                    yield first.path, linked.path
        self.take(
            Surveyed(
                [],
                small=rows.take_small(),
                plain=rows.take_plain(),
                parts=rows.parts,
                bigs=rows.bigs,
                files=rows.files,
                size=rows.size,
            )
        )

    def _tasks(self) -> tuple[tuple[WriteTask, ...], dict[bytes, int]]:
        order = {pack: number for number, pack in enumerate(self._index.packs)}
        by_pack: dict[PackId, list[Spot]] = {}
        for spot in self._small:
            by_pack.setdefault(spot[0], []).append(spot)
        pieces = {pack: list(_pieces(sorted(parts))) for pack, parts in self._parts.items()}
        uses = Counter(path for listed in pieces.values() for piece in listed for path in {part[4] for part in piece})
        shares = {path: number for path, number in uses.items() if number > 1}
        tasks: list[WriteTask] = [WritePlain(rows) for rows in self._plain]
        for pack in sorted(by_pack.keys() | pieces.keys(), key=order.__getitem__):
            for piece in pieces.get(pack, ()):
                bigs = [self._bigs[path] for path in dict.fromkeys(part[4] for part in piece)]
                tasks.append(WriteParts(pack, piece, bigs, {}, frozenset()))
            chunks = (chunk for spot in sorted(by_pack.get(pack, ())) for chunk in self._small[spot])
            tasks += (WriteSmall(pack, rows) for rows in _batches(chunks))
        self._small, self._parts, self._plain = {}, {}, []
        return tuple(tasks), shares

    def _needed(self, folders: list[Folder]) -> Iterator[Folder]:
        """In ascending order of paths: a folder before what is in it."""
        folders.sort(key=itemgetter(0))
        if not self._selective:
            yield from folders
            return
        needed = {b""}
        for path in (*self._used, *(folder.path for folder in folders if folder.wanted)):
            while path not in needed:
                needed.add(path)
                path = path.rpartition(b"/")[0]
        yield from (folder for folder in folders if folder.path in needed)


def _pieces(parts: list[Part]) -> Iterator[list[Part]]:
    """Parts in the order of their offsets, in lists of a bearable length."""
    for at in range(0, len(parts), PARTS_PER_TASK):
        yield parts[at : at + PARTS_PER_TASK]


def _batches(chunks: Iterable[tuple[bytes, int, int]]) -> Iterator[list[bytes]]:
    """Chunks of rows of one pack, put together until they make a task."""
    batch: list[bytes] = []
    rows = size = 0
    for chunk, number, length in chunks:
        if batch and (rows + number > ROWS_PER_TASK or size + length > BYTES_PER_TASK):
            yield batch
            batch, rows, size = [], 0, 0
        batch.append(chunk)
        rows += number
        size += length
    if batch:
        yield batch
