"""What a repair finds: what every index file says, which packs are stored, and what the packs themselves say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from itertools import islice
from operator import add

from holdfast.format.crypto import OVERHEAD, unseal
from holdfast.format.index import Entries, decode_entries
from holdfast.format.pack import TRAILER_SIZE, decode_header, parse_trailer
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Corrupt, Denied, HoldfastError, Invalid, NotFound, Unavailable
from holdfast.kernel.ids import PackId, short
from holdfast.kernel.pool import Pool, default_size
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository, layout
from holdfast.repository.index import Index
from holdfast.repository.reading import Copies
from holdfast.vaults.archive.check.files import still_there

_ENTRY_PLAIN, _ENTRY_COMPRESSED = 37, 41  # bytes of one blob in a pack's header
_TAIL = 16 << 10  # read at first: the header of some 400 blobs
_ALONE_PACKS = 64  # fewer headers than these are read without workers
_BATCH = 32
_MOST_WORKERS = 16


Step = Callable[[int, int], None]
"""Told how many index files were read, and of how many."""


@dataclass(slots=True)
class IndexFiles:
    """What the readable index files say: ``files`` names the packs of each, ``packs`` has the entries of each pack.

    Entries stand in the order of offsets. ``conflicts`` are further, different entries of a pack. ``damaged`` are
    index files that cannot be opened, each with the reason.
    """

    files: dict[bytes, list[PackId]] = field(default_factory=dict)
    packs: dict[PackId, Entries] = field(default_factory=dict)
    conflicts: dict[PackId, list[Entries]] = field(default_factory=dict)
    damaged: dict[bytes, HoldfastError] = field(default_factory=dict)

    def replaced(self, changed: Iterable[PackId]) -> tuple[set[bytes], list[PackId]]:
        """The index files that name a changed pack, and the packs that only they name and that did not change."""
        away = set(changed)
        obsolete = {file for file, packs in self.files.items() if not away.isdisjoint(packs)}
        staying = {pack for file, packs in self.files.items() if file not in obsolete for pack in packs}
        orphaned = dict.fromkeys(pack for file in obsolete for pack in self.files[file])
        return obsolete, [pack for pack in orphaned if pack not in staying and pack not in away]


def read_index(repository: Repository, step: Step) -> IndexFiles:
    """Read all index files, those that fail twice; ``step(done, total)`` is called before each.

    Raises ``Denied``, and ``Unavailable`` where the whole place is out of reach.
    """
    found = IndexFiles()
    listed = [identifier for identifier, _ in layout.listing(repository.storage, layout.INDEX)]
    for done, identifier in enumerate(listed):
        step(done, len(listed))
        for attempt in (1, 2):
            try:
                decoded = list(decode_entries(repository.read_unpacked(layout.INDEX, identifier)))
            except NotFound:
                pass  # replaced by somebody since it was listed
            except (Corrupt, Unavailable, Invalid) as error:
                still_there(repository.storage, error)
                if attempt == 1:
                    continue
                found.damaged[identifier] = error
            else:
                _take(found, identifier, decoded)
            break
    step(len(listed), len(listed))
    return found


def _take(found: IndexFiles, identifier: bytes, decoded: list[tuple[PackId, Entries]]) -> None:
    packs = found.files[identifier] = []
    for pack, entries in decoded:
        packs.append(pack)
        ordered = entries.by_offset()
        known = found.packs.setdefault(pack, ordered)
        if known != ordered and ordered not in found.conflicts.setdefault(pack, []):
            found.conflicts[pack].append(ordered)
    for pack in [pack for pack, others in found.conflicts.items() if not others]:
        del found.conflicts[pack]


def sound_index(repository: Repository, step: Step) -> IndexFiles:
    """As :func:`read_index`; raises ``Corrupt`` where ``repair index`` has to come first."""
    found = read_index(repository, step)
    hint = "Run 'holdfast repair index' first."
    for identifier, error in found.damaged.items():
        raise Corrupt(f"The index file {short(identifier)} is damaged: {error.message}", hint=hint) from error
    for pack in found.conflicts:
        raise Corrupt(f"Index files name pack {short(pack)} with different entries.", hint=hint)
    return found


def loaded(repository: Repository, packs: Iterable[tuple[PackId, Entries]]) -> Index:
    """An index of just these packs; it becomes that of ``repository``."""
    index = Index()
    for pack, entries in packs:
        index.add_entries(pack, entries)
    repository.index = index
    if isinstance(repository.storage, Copies):
        repository.storage.keep([layout.name_of(layout.DATA, pack) for pack in index.tree_packs()])
    return index


def stored_packs(repository: Repository) -> dict[PackId, int]:
    """The size in bytes of every pack file that lies in its place."""
    return {
        PackId(identifier): info.size
        for identifier, info in layout.listing(repository.storage, layout.DATA)
        if info.name == layout.name_of(layout.DATA, identifier)
    }


def is_gone(repository: Repository, pack: PackId) -> bool:
    """Whether a pack that was not listed is truly not there: a listing may be late, a question is not."""
    try:
        repository.storage.size(layout.name_of(layout.DATA, pack))
    except NotFound:
        return True
    return False


def file_size(entries: Entries) -> int | None:
    """Bytes that a pack with these blobs (in the order of offsets) must have; None if they leave gaps or overlap."""
    offsets = entries.offsets.tolist()
    ends = list(map(add, offsets, entries.lengths))
    if not offsets or offsets[0] != 0 or offsets[1:] != ends[:-1]:
        return None
    plain = entries.raw_lengths.count(0)
    header = _ENTRY_PLAIN * plain + _ENTRY_COMPRESSED * (len(offsets) - plain) + OVERHEAD
    return int(ends[-1]) + header + TRAILER_SIZE


# -- headers -----------------------------------------------------------------------------------------------------------


def read_header(repository: Repository, pack: PackId, size: int, *, exact: bool = True) -> Entries:
    """The blobs that a pack of ``size`` bytes lists itself. Raises ``Corrupt`` where that cannot be read.

    ``exact``: the blobs and the header must also make up the whole file.
    """
    name = layout.name_of(layout.DATA, pack)
    tail = repository.storage.read(name, max(0, size - _TAIL), min(size, _TAIL))
    length = parse_trailer(tail[-TRAILER_SIZE:])
    end = length + TRAILER_SIZE
    if end > size:
        raise Corrupt("its header is longer than the file")
    if end > len(tail):
        tail = repository.storage.read(name, size - end, end)
    entries = Entries.of(decode_header(unseal(repository.master, tail[-end:-TRAILER_SIZE])))
    if exact and file_size(entries) != size:
        raise Corrupt(f"its blobs and header make {file_size(entries) or 0:,} bytes, the file has {size:,}")
    return entries


Header = tuple[PackId, Entries | None, str]
"""A pack, what its header lists, or (None) why it cannot be read."""


def read_headers(
    repository: Repository,
    packs: dict[PackId, int],
    cancel: Cancel,
    *,
    workers: int | None = None,
    forked: Callable[[], None] | None = None,
) -> Iterator[Header]:
    """The headers of these packs (with sizes in bytes), in any order. What fails is read a second time.

    ``forked`` is called once no more processes will be forked. Raises ``Denied``, and ``Unavailable`` where the whole
    place is out of reach.
    """
    with Pool(lambda: _HeaderReader(repository, cancel).answers, _pool_size(repository, len(packs), workers)) as pool:
        if forked is not None:
            forked()
        waiting = iter(packs.items())
        while batch := list(islice(waiting, _BATCH)):
            pool.submit(batch)
        try:
            for answer in pool.results():
                cancel.check()
                if answer is not None:
                    yield answer
        except Cancelled:
            cancel.check()  # raised by a worker it lacks the reason, which only this process knows
            raise


def _pool_size(repository: Repository, packs: int, workers: int | None) -> int:
    traits = repository.storage.traits
    if not traits.fork_safe or workers == 0:
        return 0
    size = min(_MOST_WORKERS, max(default_size(), traits.connections)) if workers is None else workers
    return size if packs >= _ALONE_PACKS or traits.connections > 1 < packs else 0


class _HeaderReader:
    """One process's reader."""

    def __init__(self, repository: Repository, cancel: Cancel) -> None:
        self._repository = repository
        self._cancel = cancel

    def answers(self, batch: list[tuple[PackId, int]]) -> Iterator[Header]:
        for pack, size in batch:
            self._cancel.check()
            yield self._answer(pack, size)

    def _answer(self, pack: PackId, size: int) -> Header:
        for attempt in (1, 2):
            try:
                return pack, read_header(self._repository, pack, size), ""
            except Denied:
                raise
            except (Corrupt, NotFound, Unavailable, Invalid) as error:
                still_there(self._repository.storage, error)
                if attempt == 2:
                    return pack, None, error.message
        raise AssertionError("the second attempt returns")
