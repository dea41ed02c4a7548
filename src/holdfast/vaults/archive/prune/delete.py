"""The second half of a prune, under an exclusive lock: look once more, write the final index, delete what is left over.

Nothing that the first half has found out is trusted where somebody may have changed it since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import compress

from holdfast.format.index import Entries
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Denied, HoldfastError
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.ids import PackId, short
from holdfast.kernel.threads import map_in_threads
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository, layout
from holdfast.repository.locks import Lock
from holdfast.repository.reindex import FILE_BLOBS, replace_index
from holdfast.vaults.archive.reach import Reached, reach

_BATCH = 512  # packs that are deleted between two looks at the lock and at the stop button


@dataclass(slots=True)
class Doomed:
    """What the first half found: ``packs`` to go with their sizes (0: gone already), ``orphans`` likewise, what was
    ``used`` by entry number, the ``roots`` of all snapshots of then, and the ``index_files`` that it knew."""

    packs: dict[PackId, int]
    orphans: dict[PackId, int]
    used: bytearray
    roots: set[bytes]
    index_files: set[bytes]


@dataclass(slots=True)
class Deleted:
    """What was done: files that went and their bytes, packs that had to stay, index files that were written, and what
    could not be deleted."""

    packs: int = 0
    size: int = 0
    rescued: int = 0
    index_files: int = 0
    undeleted: int = 0


class Deletion:
    """One deletion, in three steps: :meth:`look`, :meth:`reindex`, :meth:`delete`."""

    def __init__(
        self, repository: Repository, doomed: Doomed, lock: Lock, emit: Emit, cancel: Cancel, workers: int | None
    ) -> None:
        self._repository = repository
        self._doomed = doomed
        self._lock = lock
        self._emit = emit
        self._cancel = cancel
        self._workers = workers
        self._positions: set[int] = set()  # of doomed packs in the index of now
        self._stale: set[bytes] = set()  # index files that name them
        self._done = Deleted()

    def run(self) -> Deleted:
        """Do it all. A crash or an error at any moment leaves a sound vault, and the next prune goes on."""
        self._look()
        self._reindex()
        self._delete()
        return self._done

    def _look(self) -> None:
        """Read what was added meanwhile; packs with the only copy of something that is used now are spared."""
        repository, doomed = self._repository, self._doomed
        roots = {bytes(snapshot.tree) for _, snapshot in repository.snapshots()}
        repository.load_index()
        reached: Reached | None = None
        if doomed.index_files <= repository.index_files:
            roots -= doomed.roots
        else:  # another prune or a repair was faster: what is known of the index is worth nothing
            repository.reload_index()
            there = {PackId(pack) for pack, _ in layout.listing(repository.storage, layout.DATA)}
            doomed.used = bytearray()
            doomed.packs = {pack: size if pack in there else 0 for pack, size in doomed.packs.items()}
            doomed.orphans = {pack: size for pack, size in doomed.orphans.items() if pack in there}
        if roots:
            reached = reach(
                repository,
                roots,
                emit=self._emit,
                cancel=self._cancel,
                workers=self._workers,
                forked=self._lock.start_renewing,
            )
        self._lock.start_renewing()
        self._spare(reached)
        for pack in [pack for pack in doomed.orphans if repository.index.position(pack) >= 0]:
            del doomed.orphans[pack]  # its backup has finished

    def _spare(self, reached: Reached | None) -> None:
        index, packs = self._repository.index, self._doomed.packs
        flags = index.tree_flags()
        self._positions = {position for pack in packs if (position := index.position(pack)) >= 0}
        for position in sorted(self._positions):
            self._cancel.check()
            pack = index.packs[position]
            needed = self._needed(position, reached, flags)
            if packs[pack] and any(self._has_no_other_copy(number, flags) for number in needed):
                self._positions.discard(position)
                del packs[pack]
                self._done.rescued += 1
        if self._done.rescued:
            message = f"{self._done.rescued:,} packs stay: a backup that ran meanwhile uses what is in them."
            self._emit(Fact("prune.rescued", message, "info", {"packs": self._done.rescued}))

    def _needed(self, position: int, reached: Reached | None, flags: bytes) -> Iterator[int]:
        """The entries of a pack that some snapshot of before or of now uses."""
        begin, end = self._repository.index.span(position)
        used = self._doomed.used[begin:end]  # empty for a pack that is new
        yield from compress(range(begin, end), used)
        if reached is not None:
            for number in range(begin, end):
                if self._is_marked(number, reached, bool(flags[number])):
                    yield number

    def _is_marked(self, number: int, reached: Reached, tree: bool) -> bool:
        index = self._repository.index
        return any(reached.marks[copy] for copy in index.copies(index.id_of(number), tree=tree))

    def _has_no_other_copy(self, number: int, flags: bytes) -> bool:
        index, doomed = self._repository.index, self._positions
        copies = index.copies(index.id_of(number), tree=bool(flags[number]))
        return all(index.pack_number(copy) in doomed for copy in copies)

    # -- index -----------------------------------------------------------------------------------------------------

    def _reindex(self) -> None:
        """Write an index without the doomed packs. Small index files, and packs that several files name, are merged on
        this occasion."""
        contents = self._repository.packs_of_file
        files = [file for file in contents if file in self._repository.index_files]
        small = [file for file in files if self._count(contents[file]) < FILE_BLOBS // 2]
        stale = {file for file in files if not self._positions.isdisjoint(contents[file])}
        stale.update(small if len(small) > 1 else ())
        seen: set[int] = set()
        for file in files:
            if not seen.isdisjoint(contents[file]):
                stale.add(file)
            seen.update(contents[file])
        if not stale:
            return
        elsewhere = {position for file in files if file not in stale for position in contents[file]}
        left = dict.fromkeys(position for file in files if file in stale for position in contents[file])
        survivors = [pack for pack in left if pack not in self._positions and pack not in elsewhere]
        written = replace_index(self._repository, stale, self._entries(survivors))
        self._done.index_files = len(written)

    def _count(self, packs: Iterable[int]) -> int:
        spans = map(self._repository.index.span, packs)
        return sum(end - begin for begin, end in spans)

    def _entries(self, survivors: list[int]) -> Iterator[tuple[PackId, Entries]]:
        index = self._repository.index
        for done, position in enumerate(survivors):
            if done % _BATCH == 0:
                self._cancel.check()
                self._emit(Tick("index", done, items_total=len(survivors)))
            pack = index.packs[position]
            yield pack, index.entries_of(pack)
        self._lock.confirm()

    # -- packs -----------------------------------------------------------------------------------------------------

    def _delete(self) -> None:
        there = {pack: size for pack, size in {**self._doomed.packs, **self._doomed.orphans}.items() if size}
        packs = list(there)
        for begin in range(0, len(packs), _BATCH):
            self._cancel.check()
            self._lock.confirm()
            batch = packs[begin : begin + _BATCH]
            traits = self._repository.storage.traits
            if traits.connections > 1:
                gone = map_in_threads(self._delete_one, batch, traits.connections)
            else:
                gone = [self._delete_one(pack) for pack in batch]
            self._done.packs += sum(gone)
            self._done.size += sum(there[pack] for pack, went in zip(batch, gone, strict=True) if went)
            self._emit(Tick("delete", begin + len(batch), self._done.size, len(packs), sum(there.values())))

    def _delete_one(self, pack: PackId) -> bool:
        """Whether it went. One file that may not be deleted keeps none of the others."""
        try:
            self._repository.storage.delete(layout.name_of(layout.DATA, pack))
        except Denied as error:
            self._done.undeleted += 1
            self._tell(pack, error)
            return False
        return True

    def _tell(self, pack: PackId, error: HoldfastError) -> None:
        message = f"Pack {short(pack)} is needed no more but cannot be deleted: {error.message}"
        self._emit(Fact("item.failed", message, "error", {"pack": pack.hex(), "why": error.message}))
