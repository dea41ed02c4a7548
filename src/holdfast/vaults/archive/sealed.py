"""Reads chosen blobs of a pack, neighbours together, and proves each of them against its id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

from holdfast.format.compression import Decompressor
from holdfast.format.crypto import BatchOpener
from holdfast.kernel.errors import Corrupt, HoldfastError, NotFound
from holdfast.kernel.ids import BlobId
from holdfast.repository import Repository, layout
from holdfast.vaults.archive.window import PackWindow

WINDOW = 1 << 20  # bytes that are read, opened and hashed at a time: stays in the cache of one core
GAP = 64 << 10  # bytes between two blobs that are read along, because that is cheaper than another call


class Proved(NamedTuple):
    """An intact blob: its number in the index, id, place in the pack (``raw_length`` 0: not compressed), plaintext."""

    number: int
    id: BlobId
    offset: int
    length: int
    raw_length: int
    plain: bytes


Take = Callable[[memoryview, int, list[Proved]], None]
"""Called with bytes of the pack as stored, where in it they begin, and intact blobs in them in order of offset. The
view is good until it returns."""


class SealedReader:
    """One process's reader by the loaded index, with buffers that are never given back."""

    def __init__(self, repository: Repository) -> None:
        self._index = repository.index
        self._window = PackWindow(repository.storage)
        self._opener = BatchOpener(repository.master)
        self._decompress = Decompressor().decompress

    def read(self, pack: int, numbers: Iterable[int], take: Take) -> dict[int, HoldfastError]:
        """Give every intact one of these blobs, all of the pack at that position of the index, to ``take``.

        Returns those that are damaged or not there, each with the reason; they were read twice. Raises what the storage
        raises when it is out of reach.
        """
        places = sorted((*self._index.entry(number)[1:], number) for number in numbers)
        name = layout.name_of(layout.DATA, self._index.packs[pack])
        failed = self._read(name, places, take)
        if not failed:
            return failed
        return self._read(name, [place for place in places if place[3] in failed], take)

    def _read(self, name: str, places: Sequence[_Place], take: Take) -> dict[int, HoldfastError]:
        self._window.expect(name, [(offset, offset + length) for offset, length, _, _ in places])
        failed: dict[int, HoldfastError] = {}
        for run in _runs(places):
            begin = run[0][0]
            try:
                data = self._window.read(begin, run[-1][0] + run[-1][1] - begin)
            except (NotFound, Corrupt) as error:
                failed.update((number, error) for _, _, _, number in run)
                continue
            take(data, begin, self._prove(data, begin, run, failed))
        return failed

    def _prove(
        self, data: memoryview, begin: int, run: Sequence[_Place], failed: dict[int, HoldfastError]
    ) -> list[Proved]:
        units = [data[offset - begin : offset - begin + length] for offset, length, _, _ in run]
        proved: list[Proved] = []
        for (offset, length, raw, number), plain in zip(run, self._opener.open(units), strict=True):
            identifier = self._index.id_of(number)
            try:
                if plain is not None and raw:
                    plain = self._decompress(plain, size=raw)
                if plain is None or sha256(plain).digest() != identifier:
                    raise Corrupt("what is stored does not match its hash.")
            except Corrupt as error:
                failed[number] = error
            else:
                proved.append(Proved(number, identifier, offset, length, raw, plain))
        return proved


_Place = tuple[int, int, int, int]  # offset, stored length, plaintext length, number


def _runs(places: Sequence[_Place]) -> list[list[_Place]]:
    """Groups of neighbours that are read in one go."""
    runs: list[list[_Place]] = []
    begin = end = 0
    for place in places:
        offset, length, _, _ = place
        if not runs or offset - end > GAP or offset + length - begin > WINDOW:
            runs.append([])
            begin = offset
        runs[-1].append(place)
        end = max(end, offset + length)
    return runs
