"""Which blobs do snapshots use? Workers read every needed tree once and mark, in shared memory, all that it names."""

from __future__ import annotations

import mmap
import re
from array import array
from binascii import unhexlify
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field

from holdfast.format.tree import decode_tree
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Corrupt, HoldfastError
from holdfast.kernel.events import Emit, Tick
from holdfast.kernel.ids import short
from holdfast.kernel.pool import Pool, default_size
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository
from holdfast.vaults.archive.canonical import rows
from holdfast.vaults.archive.sealed import Proved, SealedReader

BATCH = 512  # trees in one task
ALONE_TREES = 512  # fewer than these are read before three workers are forked
_IDS = re.compile(rb"[0-9a-f]{64}")
_HINT = "Nothing was changed. 'holdfast check' tells what is touched; 'holdfast repair' mends what can be mended."

OnDamage = Callable[[bytes, HoldfastError], None]


@dataclass(slots=True)
class Reached:
    """What is used: ``marks`` has one byte for each entry of the index (1: this copy is used), all others are unused.

    Of a blob with several copies the first intact one is marked: any data counts as intact, a tree was read. ``trees``
    counts distinct trees that were read. ``bad`` are entry numbers of copies of trees that could not be read; ``lost``
    the ids of needed blobs that are in no index or of which no copy could be read (only with ``on_damage``).
    """

    marks: memoryview
    trees: int = 0
    bad: set[int] = field(default_factory=set)
    lost: set[bytes] = field(default_factory=set)


def reach(
    repository: Repository,
    roots: Iterable[bytes],
    *,
    emit: Emit,
    cancel: Cancel,
    workers: int | None = None,
    forked: Callable[[], None] | None = None,
    on_damage: OnDamage | None = None,
) -> Reached:
    """Mark everything that these trees lead to, by the loaded index of ``repository``. Writes nothing.

    A needed blob that is in no index, or a tree of which no copy is intact, raises ``Corrupt`` naming it; with
    ``on_damage`` it is told there (its id, what is wrong) and passed over. Data is looked up, not read. ``forked`` is
    called once no more processes will be forked: start threads then. Memory: one byte for each entry of the index.
    Raises ``Cancelled``, and ``Unavailable`` or ``Denied`` from the storage.
    """
    return _Walk(repository, emit, cancel, on_damage).run(roots, workers, forked)


@dataclass(slots=True)
class _Answer:
    """What a worker found in one batch: trees to look at next, copies that are damaged (entry number, why), and needed
    ids that no index knows, each with the tree that names it."""

    read: int = 0
    below: array[int] = field(default_factory=lambda: array("I"))
    damaged: list[tuple[int, HoldfastError]] = field(default_factory=list)
    missing: list[tuple[bytes, bytes]] = field(default_factory=list)


class _Walk:
    """The parent's side: hands out trees by the pack that they lie in, whatever is known to be needed."""

    def __init__(self, repository: Repository, emit: Emit, cancel: Cancel, on_damage: OnDamage | None) -> None:
        self._repository = repository
        self._index = repository.index
        self._emit = emit
        self._cancel = cancel
        self._on_damage = on_damage
        self._reached = Reached(memoryview(mmap.mmap(-1, max(1, len(self._index)))))
        self._waiting: dict[int, array[int]] = {}  # by pack
        self._queued = 0
        self._out = 0  # tasks that are not answered yet

    def run(self, roots: Iterable[bytes], workers: int | None, forked: Callable[[], None] | None) -> Reached:
        for root in dict.fromkeys(roots):
            number = self._index.find(root, tree=True)
            if number < 0:
                message = f"Tree {short(root)}, which a snapshot needs, is in no index."
                self._lose(root, Corrupt(message, hint=_HINT, blob=root.hex()))
            elif not self._reached.marks[number]:
                self._reached.marks[number] = 1
                self._wait(number)
        size = self._size(workers)
        flags = self._index.tree_flags()
        repository, marks = self._repository, self._reached.marks
        with Pool(lambda: _TreeReader(repository, marks, flags).answers, size) as pool:
            if forked is not None:
                forked()
            self._feed(pool)
            try:
                for answer in pool.results():
                    self._cancel.check()
                    if answer is not None:
                        self._take(answer)
                        self._feed(pool)
                    self._emit(Tick("trees", self._reached.trees, items_total=self._reached.trees + self._queued))
            except Cancelled:
                self._cancel.check()  # raised by a worker it lacks the reason, which only this process knows
                raise
        return self._reached

    def _size(self, workers: int | None) -> int:
        if not self._repository.storage.traits.fork_safe:
            return 0
        if workers is not None:
            return workers
        return default_size(self._repository.storage.traits.connections) if len(self._index) > ALONE_TREES else 0

    def _wait(self, number: int) -> None:
        self._waiting.setdefault(self._index.pack_number(number), array("I")).append(number)
        self._queued += 1

    def _feed(self, pool: Pool[array[int], _Answer]) -> None:
        """Keep every worker busy; the pack that waited longest comes first, as most of its trees are then known."""
        while self._waiting and self._out <= 2 * pool.size:
            pack = next(iter(self._waiting))
            numbers = self._waiting.pop(pack)
            if len(numbers) > BATCH:
                self._waiting[pack] = numbers[BATCH:]
            pool.submit(numbers[:BATCH])
            self._out += 1

    def _take(self, answer: _Answer) -> None:
        self._out -= 1
        self._reached.trees += answer.read
        self._queued -= answer.read
        for number in answer.below:
            self._wait(number)
        for number, error in answer.damaged:
            self._queued -= 1
            self._try_other_copy(number, error)
        for blob, tree in answer.missing:
            message = f"Blob {short(blob)}, which tree {short(tree)} needs, is in no index."
            self._lose(blob, Corrupt(message, hint=_HINT, blob=blob.hex(), tree=tree.hex()))

    def _try_other_copy(self, number: int, error: HoldfastError) -> None:
        """A tree could not be read: go on with its next copy."""
        reached = self._reached
        identifier = self._index.id_of(number)
        reached.bad.add(number)
        for other in self._index.copies(identifier, tree=True):
            if other not in reached.bad:
                reached.marks[number], reached.marks[other] = 0, 1
                self._wait(other)
                return
        pack = self._index.packs[self._index.pack_number(number)]
        message = f"Tree {short(identifier)} in pack {short(pack)}, which a snapshot needs, is damaged: {error.message}"
        self._lose(identifier, Corrupt(message, hint=_HINT, blob=identifier.hex(), pack=pack.hex()))

    def _lose(self, identifier: bytes, error: Corrupt) -> None:
        if self._on_damage is None:
            raise error
        if identifier not in self._reached.lost:
            self._reached.lost.add(identifier)
            self._on_damage(identifier, error)


class _TreeReader:
    """The work of one process."""

    def __init__(self, repository: Repository, marks: memoryview, flags: bytes) -> None:
        self._index = repository.index
        self._marks = marks
        self._flags = flags
        self._reader = SealedReader(repository)

    def answers(self, numbers: array[int]) -> Sequence[_Answer]:
        """Read these trees, all of one pack, and mark what they name."""
        answer = _Answer()

        def take(_data: memoryview, _begin: int, trees: list[Proved]) -> None:
            for tree in trees:
                try:
                    subtrees, content = named_by(tree.plain)
                except Corrupt as error:
                    answer.damaged.append((tree.number, error))
                else:
                    answer.read += 1
                    self._mark(tree.id, subtrees, content, answer)

        failed = self._reader.read(self._index.pack_number(numbers[0]), numbers, take)
        answer.damaged += failed.items()
        return (answer,)

    def _mark(self, tree: bytes, subtrees: Iterable[bytes], content: Iterable[bytes], answer: _Answer) -> None:
        marks, flags, number_of, find = self._marks, self._flags, self._index.number, self._index.find
        for identifier in content:
            number = number_of(identifier)
            if number >= 0 and flags[number]:
                number = find(identifier, tree=False)
            if number >= 0:
                marks[number] = 1
            else:
                answer.missing.append((identifier, tree))
        for identifier in subtrees:
            number = number_of(identifier)
            if number >= 0 and not flags[number]:
                number = find(identifier, tree=True)
            if number < 0:
                answer.missing.append((identifier, tree))
            elif not marks[number]:
                marks[number] = 1  # two workers may both see a 0: the tree is then read twice, which does no harm
                answer.below.append(number)


def named_by(plain: bytes) -> tuple[set[bytes], set[bytes]]:
    """The ids of (subtrees, data) that a tree names. Raises ``Corrupt`` for what cannot be a tree."""
    found = rows(plain)
    if found is None:
        nodes = decode_tree(plain)
        subtrees = {bytes(node.subtree) for node in nodes if node.subtree is not None}
        return subtrees, {bytes(blob) for node in nodes for blob in node.content or ()}
    lists = b"".join([row[7] for row in found])
    return {unhexlify(row[8]) for row in found if row[8]}, set(map(unhexlify, _IDS.findall(lists)))
