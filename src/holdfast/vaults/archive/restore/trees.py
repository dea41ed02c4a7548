"""Reading the trees of many folders at once: those of neighbours lie near each other in a pack."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from holdfast.format.jsonfields import load_object
from holdfast.kernel.errors import Corrupt, HoldfastError
from holdfast.kernel.ids import BlobId, PackId, short
from holdfast.repository import Repository
from holdfast.repository.reading import Copies
from holdfast.vaults.archive.restore.packs import PackReader
from holdfast.vaults.archive.restore.tasks import Visit

_BATCH_BYTES = 64 << 10  # as stored: about 1,000 nodes
_BATCH_VISITS = 64


class TreeReader:
    """Reads trees for one process, at about 15 microseconds each instead of 90 one by one."""

    def __init__(self, repository: Repository) -> None:
        self._place = repository.index.place
        # What lies on this machine as copies is not read ahead.
        self._reader = PackReader(repository, ahead=False if isinstance(repository.storage, Copies) else None)

    def read(self, stack: list[Visit]) -> Iterator[tuple[Visit, list[dict[str, Any]] | HoldfastError]]:
        """Take some folders from the end of ``stack``; yield each with its nodes' JSON, or what is wrong with it."""
        by_pack: dict[PackId, list[tuple[int, int, int, bytes, Visit]]] = {}
        size = number = 0
        while stack and size < _BATCH_BYTES and number < _BATCH_VISITS:
            visit = stack.pop()
            place = self._place(BlobId(visit.tree))
            if place is None:
                yield visit, Corrupt(f"its tree {short(visit.tree)} is in no index")
                continue
            row = (place.offset, place.length, place.raw_length or 0, visit.tree, visit)
            by_pack.setdefault(place.pack, []).append(row)
            size += place.length
            number += 1
        for pack, rows in by_pack.items():
            rows.sort(key=itemgetter(0))
            for found, users in self._reader.blobs(pack, rows):
                for row in users:
                    yield row[4], found if isinstance(found, HoldfastError) else _parsed(found)


def _parsed(data: bytes) -> list[dict[str, Any]] | Corrupt:
    try:
        listed = load_object(data, "a tree").get("nodes") or []
    except Corrupt as error:
        return error
    if type(listed) is not list or not set(map(type, listed)) <= {dict}:
        return Corrupt("its nodes are not a list of objects")
    return listed
