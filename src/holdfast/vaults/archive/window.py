"""Reading stretches of packs front to back: small ones from a disk, whole packs at once over a network."""

from __future__ import annotations

import mmap
from collections.abc import Iterable

from holdfast.storage import Storage

MOST_AT_ONCE = 9 << 20
"""Bytes of one request over a network: a pack of the usual 16 MiB, its last blob and its header take two.

With a whole pack in one, a check of a vault on S3 held 700 MB in all its processes together.
"""

GAP = 512 << 10
"""Unwanted bytes that are rather fetched than skipped: what a connection of 100 Mbit/s carries during 40 ms of waiting
for the next answer."""

_FIRST_SIZE = 2 << 20


class PackWindow:
    """Reads for one process, into memory that is used again. Where the storage waits for a network
    (``traits.connections``), what :meth:`expect` announced is fetched in as few requests as possible.
    """

    def __init__(self, storage: Storage, *, ahead: bool | None = None) -> None:
        """``ahead`` tells whether requests are dear, if that does not follow from the storage's traits."""
        self._read_into = storage.read_into
        self._ahead = storage.traits.connections > 1 if ahead is None else ahead
        self._memory = _memory(_FIRST_SIZE)
        self._name = ""
        self._expected: list[tuple[int, int]] = []
        self._begin = 0
        self._end = 0  # nothing is held where both are equal
        self._held = memoryview(b"")

    def expect(self, name: str, spans: Iterable[tuple[int, int]]) -> None:
        """These (begin, end) of the file, sorted, will be read next. What is held is forgotten."""
        self._name = name
        self._begin = self._end = 0
        if not self._ahead:
            return
        expected: list[tuple[int, int]] = []
        for begin, end in spans:
            if expected:
                first, last = expected[-1]
                if begin <= last + GAP:
                    expected[-1] = first, max(end, last)
                    continue
            expected.append((begin, end))
        self._expected = expected

    def read(self, begin: int, size: int) -> memoryview:
        """Up to ``size`` bytes from ``begin`` on, fewer only at the end of the file; good until the next call.

        Raises what the storage's ``read_into`` raises.
        """
        if not self._ahead:
            view = self._room(size)
            return view[: self._read_into(self._name, view, begin)]
        if not self._begin <= begin <= begin + size <= self._end:
            end = begin + size
            for first, last in self._expected:
                if first <= begin < last:  # what is left is fetched in equal parts
                    end = max(end, begin + -(-(last - begin) // -(-(last - begin) // MOST_AT_ONCE)))
            self._begin = self._end = 0
            view = self._room(end - begin)
            self._held = view[: self._read_into(self._name, view, begin)]
            self._begin, self._end = begin, end
        return self._held[begin - self._begin : begin - self._begin + size]

    def _room(self, size: int) -> memoryview:
        if size > len(self._memory):
            self._memory = _memory(size)
        return self._memory[:size]


def _memory(size: int) -> memoryview:
    return memoryview(mmap.mmap(-1, size, access=mmap.ACCESS_COPY))  # private: a forked process gets its own
