"""The keys of a Redis dump (RDB), each as ``RESTORE`` takes it.

The format is told in Redis' ``rdb.h`` and ``rdb.c``. A value is passed on as it stands: only its length is understood.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from holdfast.kernel.errors import Corrupt, Unsupported
from holdfast.sources.rdb import END, MAGICS, crc64

_SELECT, _SECONDS, _MILLISECONDS, _SIZES, _AUX = 254, 253, 252, 251, 250
_FREQUENCY, _IDLE = 249, 248
_MODULE_AUX, _FUNCTION, _SLOT = 247, 245, 244


class Key(NamedTuple):
    """A key and its value; ``expires``: milliseconds since 1970, or 0. ``idle`` (s), ``frequency``: or -1."""

    database: int
    name: bytes
    value: bytes
    expires: int
    idle: int
    frequency: int


class Function(NamedTuple):
    """The source of a library of functions."""

    code: bytes


class Dump:
    """Reads a dump from pieces. Raises ``Corrupt`` where it is none or breaks off, ``Unsupported`` for newer ones."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._bytes = _Bytes(pieces)
        head = self._bytes.take(9)
        magic = next((magic for magic in MAGICS if head.startswith(magic)), None)
        if magic is None or not head[len(magic) :].isdigit():
            raise Corrupt("this is no dump of Redis")
        self.version = int(head[len(magic) :])

    def records(self) -> Iterator[Key | Function]:
        """Everything in it, in its order."""
        data = self._bytes
        database = expires = 0
        idle = frequency = -1
        while (code := data.byte()) != END:
            if code in _VALUES:
                name = data.text()
                yield Key(database, name, self._value(code), expires, idle, frequency)
                expires, idle, frequency = 0, -1, -1
            elif code == _MILLISECONDS:
                (expires,) = struct.unpack("<q", data.take(8))
            elif code == _SECONDS:
                expires = struct.unpack("<i", data.take(4))[0] * 1000
            elif code == _IDLE:
                idle = data.length()
            elif code == _FREQUENCY:
                frequency = data.byte()
            elif code == _SELECT:
                database = data.length()
            elif code == _FUNCTION:
                yield Function(data.text())
            elif code in (_SIZES, _SLOT):
                _pass_lengths(data, 2 if code == _SIZES else 3)
            elif code == _AUX:
                data.pass_texts(2)
            else:
                what = "data of a module" if code == _MODULE_AUX else f"something newer (type {code})"
                raise Unsupported(
                    f"the dump has {what} in it, which cannot be loaded into a running server",
                    hint="Start a server on it: 'holdfast dump SNAPSHOT:PATH > dump.rdb' in its data folder.",
                )

    def _value(self, code: int) -> bytes:
        value = self._bytes.recorded(_VALUES[code])
        body = b"%c%b%b" % (code, value, struct.pack("<H", self.version))
        return body + struct.pack("<Q", crc64(body, 0))


class _Bytes:
    """The content of a dump, taken from the front."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._data = bytearray()
        self._at = 0  # where we are in the data ...
        self._mark = -1  # ... and, while a value is gone over, where it began

    def recorded(self, go_over: Callable[[_Bytes], None]) -> bytes:
        """All that ``go_over`` passes."""
        self._mark = self._at
        go_over(self)
        value = bytes(self._data[self._mark : self._at])
        self._mark = -1
        return value

    def move(self, count: int) -> int:
        """Pass so many bytes; where they begin in the data."""
        while len(self._data) - self._at < count:
            keep = self._at if self._mark < 0 else self._mark
            del self._data[:keep]
            self._at -= keep
            self._mark = -1 if self._mark < 0 else 0
            piece = next(self._pieces, None)
            if piece is None:
                raise Corrupt("the dump breaks off", hint="Take another snapshot.")
            self._data += piece
        self._at += count
        return self._at - count

    def take(self, count: int) -> bytes:
        """So many bytes."""
        start = self.move(count)
        return bytes(self._data[start : self._at])

    def byte(self) -> int:
        """One byte."""
        return self._data[self.move(1)]

    def length(self) -> int:
        """A length."""
        size, special = self._size()
        if special:
            raise Corrupt("the dump has a text where a length belongs")
        return size

    def text(self) -> bytes:
        """A text, as it was before it was packed."""
        size, special = self._size()
        if not special:
            return self.take(size)
        if size < 3:
            return b"%d" % int.from_bytes(self.take(1 << size), "little", signed=True)
        if size == 3:
            packed, plain = self.length(), self.length()
            return unpack_lzf(self.take(packed), plain)
        raise _meaningless()

    def pass_texts(self, count: int = 1) -> None:
        """So many texts, unseen."""
        for _ in range(count):
            size, special = self._size()
            if special and size == 3:
                size = self.length()
                self.length()
            elif special:
                if size > 3:
                    raise _meaningless()
                size = 1 << size
            self.move(size)

    def _size(self) -> tuple[int, bool]:
        """(a length, False), or (the kind of a special form, True)."""
        first = self.byte()
        if first < 0x40:
            return first, False
        if first < 0x80:
            return (first & 0x3F) << 8 | self.byte(), False
        if first >= 0xC0:
            return first & 0x3F, True
        if first > 0x81:
            raise _meaningless()
        return int.from_bytes(self.take(8 if first & 1 else 4), "big"), False


def _meaningless() -> Corrupt:
    return Corrupt("the dump has a length or a text in a form that means nothing")


def _pass_lengths(data: _Bytes, count: int) -> None:
    for _ in range(count):
        data.length()


def _scores(data: _Bytes) -> None:
    for _ in range(data.length()):
        data.pass_texts()
        size = data.byte()
        data.move(size if size < 253 else 0)  # above: not a number, and both infinities


def _binary_scores(data: _Bytes) -> None:
    for _ in range(data.length()):
        data.pass_texts()
        data.move(8)


def _nodes(data: _Bytes) -> None:
    for _ in range(data.length()):
        data.length()
        data.pass_texts()


def _module(data: _Bytes) -> None:
    data.length()
    while kind := data.length():
        if kind == 5:
            data.pass_texts()
        elif kind in (3, 4):
            data.move(4 if kind == 3 else 8)
        elif kind in (1, 2):
            data.length()
        else:
            raise _meaningless()


def _stream(data: _Bytes, version: int) -> None:
    data.pass_texts(2 * data.length())
    _pass_lengths(data, 3 if version == 1 else 8)
    for _ in range(data.length()):
        data.pass_texts()  # a group
        _pass_lengths(data, 2 if version == 1 else 3)
        for _ in range(data.length()):
            data.move(16 + 8)  # the id and time of what waits to be acknowledged
            data.length()
        for _ in range(data.length()):
            data.pass_texts()  # a consumer
            data.move(8 if version < 3 else 16)
            data.move(16 * data.length())


_VALUES: dict[int, Callable[[_Bytes], None]] = {
    **dict.fromkeys((0, 9, 10, 11, 12, 13, 16, 17, 20), _Bytes.pass_texts),
    **dict.fromkeys((1, 2, 14), lambda data: data.pass_texts(data.length())),
    3: _scores,
    4: lambda data: data.pass_texts(2 * data.length()),
    5: _binary_scores,
    7: _module,
    15: lambda data: _stream(data, 1),
    18: _nodes,
    19: lambda data: _stream(data, 2),
    21: lambda data: _stream(data, 3),
}
"""How to go over the value of each type (those of hashes whose fields expire, Redis 7.4, are not among them)."""


def unpack_lzf(data: bytes, size: int) -> bytes:
    """What LibLZF packed. Raises ``Corrupt``."""
    out = bytearray()
    at = 0
    try:
        while at < len(data):
            control = data[at]
            at += 1
            if control < 32:
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[at]
                at += 1
            start = len(out) - ((control & 31) << 8 | data[at]) - 1
            at += 1
            if start < 0:
                raise IndexError
            for place in range(start, start + length + 2):  # it may overlap with what it makes
                out.append(out[place])
    except IndexError:
        raise Corrupt("the dump has a packed text that cannot be unpacked") from None
    if len(out) != size:
        raise Corrupt("the dump has a packed text of another length than it says")
    return bytes(out)
