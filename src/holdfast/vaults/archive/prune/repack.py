"""Copies what is needed out of packs that are to go: worker processes prove every blob and write it, still sealed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import field
from itertools import compress

from holdfast.format.pack import BlobType, Listed
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, HoldfastError
from holdfast.kernel.pool import Pool
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository
from holdfast.repository.packer import OpenPack, Pack, Packer
from holdfast.vaults.archive.prune.plan import SMALL
from holdfast.vaults.archive.sealed import Proved, SealedReader

SMALLEST_PACK = SMALL  # what a worker leaves unfinished below this is merged by the parent
_FINISH = -1  # in place of a pack's number: hand over what is unfinished


@dataclass(slots=True)
class Copied:
    """One pack was worked through (or, where ``pack`` is negative, a worker has finished).

    ``damaged`` are needed blobs that could not be copied (entry number, why); ``packs`` were completed meanwhile and
    are durable; ``left`` are packs for another process to go on with.
    """

    pack: int
    size: int = 0
    damaged: list[tuple[int, HoldfastError]] = field(default_factory=list)
    packs: list[Pack] = field(default_factory=list)
    left: list[OpenPack] = field(default_factory=list)


class _Copier:
    """One process's reader and its two packers."""

    def __init__(
        self,
        repository: Repository,
        keep: bytes | bytearray,
        flags: bytes,
        cancel: Cancel,
        *,
        recompress: bool,
        spool_tag: str,
    ) -> None:
        self._index = repository.index
        self._keep = keep
        self._flags = flags
        self._cancel = cancel
        self._recompress = recompress and repository.config.version > 1
        self._reader = SealedReader(repository)
        self._packers = [
            Packer(
                repository.storage,
                repository.master,
                kind,
                repository.draw,
                spool_tag=spool_tag,
                compress=repository.config.version > 1,
            )
            for kind in (BlobType.DATA, BlobType.TREE)
        ]

    def answers(self, pack: int) -> Iterable[Copied]:
        """Copy the needed blobs of one pack."""
        self._cancel.check()
        if pack == _FINISH:
            left = [open_pack for packer in self._packers if (open_pack := packer.leave_open(SMALLEST_PACK))]
            return (Copied(pack, packs=self._take_packs(), left=left),)
        begin, end = self._index.span(pack)
        numbers = compress(range(begin, end), self._keep[begin:end])
        failed = self._reader.read(pack, numbers, self._copy)
        return (Copied(pack, damaged=list(failed.items()), packs=self._take_packs()),)

    def take_over(self, left: Iterable[OpenPack]) -> None:
        """Go on with what other processes left."""
        for open_pack in left:
            self._packers[open_pack.type].take_over(open_pack)

    def finish(self) -> list[Pack]:
        """Close everything."""
        return [pack for packer in self._packers for pack in packer.finish()]

    def discard(self) -> None:
        """Remove what is not finished."""
        for packer in self._packers:
            packer.discard()

    def _take_packs(self) -> list[Pack]:
        packs: list[Pack] = []
        for packer in self._packers:
            packs += packer.finished
            packer.finished = []
        return packs

    def _copy(self, data: memoryview, begin: int, blobs: list[Proved]) -> None:
        flags = self._flags
        for kind, packer in enumerate(self._packers):
            mine = [blob for blob in blobs if flags[blob.number] == kind]
            if self._recompress:
                for blob in mine:
                    if not blob.raw_length:
                        packer.add(blob.id, blob.plain)
                mine = [blob for blob in mine if blob.raw_length]
            if mine:
                listed: list[Listed] = [(blob.id, blob.length, blob.raw_length or None) for blob in mine]
                packer.add_sealed(listed, [data[first - begin : last - begin] for first, last in _stretches(mine)])


def _stretches(blobs: Sequence[Proved]) -> Iterator[tuple[int, int]]:
    """Where blobs lie that are back to back, as (begin, end)."""
    begin = end = blobs[0].offset
    for blob in blobs:
        if blob.offset != end:
            yield begin, end
            begin = blob.offset
        end = blob.offset + blob.length
    yield begin, end


def repack(
    repository: Repository,
    keep: bytes | bytearray,
    packs: Sequence[int],
    *,
    cancel: Cancel,
    workers: int,
    recompress: bool,
    spool_tag: str,
    record: Callable[[Pack], None],
    forked: Callable[[], None],
) -> Generator[Copied | None, None, None]:
    """Copy out of these packs what ``keep`` marks (by entry number) into new ones; yields as packs are worked through.

    A pack's blobs are all durable only when the iteration has ended: ``record`` hears of each new pack as soon as it
    is. ``None`` now and then, while there is silence. ``forked`` is called once all processes were forked. Ending early
    leaves spool files of ``spool_tag`` to sweep. Raises ``Cancelled``, and what the storage raises.
    """

    flags = repository.index.tree_flags()

    def start() -> _Copier:
        return _Copier(repository, keep, flags, cancel, recompress=recompress, spool_tag=spool_tag)

    own = start()
    try:
        with Pool(lambda: start().answers, workers) as pool:
            forked()
            for pack in packs:
                pool.submit(pack)
            for answer in pool.results():
                cancel.check()
                if answer is not None:
                    _hear(answer, record)
                yield answer
            for answer in pool.each(_FINISH):
                _hear(answer, record)
                own.take_over(answer.left)
        for new in own.finish():
            record(new)
    except Cancelled:
        cancel.check()  # raised by a worker it lacks the reason, which only this process knows
        raise
    finally:
        own.discard()


def _hear(answer: Copied, record: Callable[[Pack], None]) -> None:
    for new in answer.packs:
        record(new)
