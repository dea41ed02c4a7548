"""Redis' dump files (RDB): their checksum, and whether one is whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from holdfast.kernel.errors import Corrupt
from holdfast.kernel.native import native as _native

MAGICS = (b"REDIS", b"VALKEY")
END = 255
"""The byte that says that only the checksum follows."""

_CHECKSUM = 8  # bytes at the end; all zero where the server was told to make none
_POLYNOMIAL = 0x95AC9329AC4BC9B5


@cache
def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


def _crc64_slowly(data: bytes, crc: int) -> int:
    table = _table()
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc


crc64: Callable[[bytes, int], int] = getattr(_native, "crc64", _crc64_slowly)
"""The checksum of dumps and of ``RESTORE``'s values (CRC-64, Jones), gone on with from ``crc``; at first that is 0."""


class Whole:
    """Sees every piece of a dump go by, and says at the end whether that was a whole one."""

    def __init__(self) -> None:
        self._crc = 0
        self._tail = b""
        self._head = b""
        self._last = -1

    def look(self, piece: bytes) -> None:
        """The next piece."""
        if len(self._head) < 9:
            self._head += piece[:9]
        data = self._tail + piece
        ready, self._tail = data[:-_CHECKSUM], data[-_CHECKSUM:]
        if ready:
            self._crc, self._last = crc64(ready, self._crc), ready[-1]

    def finish(self) -> None:
        """Raises ``Corrupt`` where it was none, was cut short, or has another checksum than it says."""
        if not self._head.startswith(MAGICS):
            raise Corrupt("what Redis sent is no dump", hint="Is it a Redis server?")
        if len(self._tail) < _CHECKSUM or self._last != END:
            raise Corrupt("the dump of Redis was cut short", hint="Try again; what does the server's log say?")
        said = int.from_bytes(self._tail, "little")
        if said not in (0, self._crc):
            raise Corrupt("the dump of Redis has a wrong checksum", hint="Try again; if it stays so, test the memory.")
