"""Reading many blobs of one pack: neighbours in one go, every needed byte once, everything verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Any

from holdfast.format.compression import Decompressor
from holdfast.format.crypto import BatchOpener
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, NotFound, Unavailable
from holdfast.kernel.ids import BlobId, PackId
from holdfast.repository import Repository, layout
from holdfast.vaults.archive.window import PackWindow

RUN = 1 << 20
"""Bytes that are read and opened together: many small blobs, yet within the cache of a core."""

GAP = 64 << 10
"""Bytes between two needed blobs that are rather read than skipped."""

_OFFSET = itemgetter(0)

Row = tuple[Any, ...]
"""Begins with offset, stored length, plaintext length (0: stored raw) and id of a blob; the rest is the caller's."""


class PackReader:
    """Reads blobs for one process; its buffers are reused. ``bytes_read`` counts what came from the storage."""

    def __init__(self, repository: Repository, *, ahead: bool | None = None) -> None:
        """``ahead``: see :class:`PackWindow`."""
        self._repository = repository
        self._window = PackWindow(repository.storage, ahead=ahead)
        self._opener = BatchOpener(repository.master)
        self._decompress = Decompressor().decompress
        self.bytes_read = 0

    def blobs(self, pack: PackId, rows: Sequence[Row]) -> Iterator[tuple[bytes | HoldfastError, Sequence[Row]]]:
        """The plaintext of every blob that ``rows`` (sorted by offset) ask for, with the rows that want it.

        A blob that is damaged here is looked for in its other copies; where none is intact, the error comes instead
        of the plaintext. Raises what keeps everything from being read (``Unavailable``). Holds a run in memory.
        """
        self._window.expect(layout.name_of(layout.DATA, pack), ((row[0], row[0] + row[1]) for row in rows))
        end = len(rows)
        first = 0
        while first < end:
            start = rows[first][0]
            stop = start + rows[first][1]
            last = first + 1
            while last < end:
                offset, length = rows[last][:2]
                if offset > stop + GAP or offset + length > start + RUN:
                    break
                stop = max(stop, offset + length)
                last += 1
            # More users of a first blob that is larger than a run.
            while last < end and rows[last][0] + rows[last][1] <= stop:
                last += 1
            yield from self._run(start, stop, rows[first:last])
            first = last

    def _run(self, start: int, stop: int, rows: Sequence[Row]) -> Iterator[tuple[bytes | HoldfastError, Sequence[Row]]]:
        groups: list[Sequence[Row]] = []
        if len({row[0] for row in rows}) == len(rows):  # no blob is wanted twice
            groups += [(row,) for row in rows]
        else:
            groups += [tuple(users) for _, users in groupby(rows, _OFFSET)]
        view = self._read(start, stop - start)
        if view is not None:
            opened = self._opener.open([view[users[0][0] - start :][: users[0][1]] for users in groups])
        else:
            opened = [None] * len(groups)
        decompress = self._decompress
        for number, users in enumerate(groups):
            plain = opened[number]
            _, _, raw_length, identifier = users[0][:4]
            opened[number] = None  # what was handed over is not kept as well
            if plain is not None:
                try:
                    if raw_length:
                        plain = decompress(plain, size=raw_length)
                    if sha256(plain).digest() == identifier:
                        yield plain, users
                        continue
                except Corrupt:
                    pass
            yield self._another_copy(BlobId(identifier)), users

    def _read(self, start: int, size: int) -> memoryview | None:
        """A range, shorter if the pack was cut off; None if that part of it is gone or cannot be read."""
        try:
            view = self._window.read(start, size)
        except (NotFound, Denied, Corrupt):
            return None
        except Unavailable as error:
            if not _is_bad_sector(error):
                raise
            return None
        self.bytes_read += len(view)
        return view

    def _another_copy(self, identifier: BlobId) -> bytes | HoldfastError:
        try:
            plain = self._repository.read_blob(identifier)
        except (Corrupt, NotFound, Denied) as error:
            return error
        except Unavailable as error:
            if not _is_bad_sector(error):
                raise
            return error
        self.bytes_read += len(plain)
        return plain


def _is_bad_sector(error: Unavailable) -> bool:
    """Whether a disk could not read this place; all else that is unavailable concerns the whole storage."""
    return error.context.get("errno") == "EIO"
