"""Redis' dumps: whole or not, and their keys."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.kernel.errors import Corrupt, Unsupported
from holdfast.sources import rdb
from holdfast.sources.rdb import Whole, crc64
from holdfast.sources.rdbkeys import Dump, Function, Key, unpack_lzf


def text(data: bytes) -> bytes:
    return struct.pack(">BI", 0x80, len(data)) + data


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<Q", crc64(body, 0))


AUX = b"\xfa\x09redis-ver\x067.0.15\xfb\x02\x01"
DUMP = sealed(
    b"REDIS0010"
    + AUX
    + b"\xf5"
    + text(b"#!lua name=x")
    + b"\xfe\x00"
    + b"\x00\x01a\xc0\xfe"  # a = -2
    + b"\xfc"
    + struct.pack("<q", 33_000_000_000_000)
    + b"\x04\x01h\x01\x01f\xc2\x01\x00\x00\x00"
    + b"\xfe\x03\xf9\x07\x03"
    + text(b"old scores")
    + b"\x02\x01m\xfd\x01n\x031.5"
    + b"\xff"
)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def verdict(data: bytes, size: int = 7) -> None:
    whole = Whole()
    for piece in pieces(data, size):
        whole.look(piece)
    whole.finish()


def test_the_checksum_is_that_of_redis() -> None:
    assert crc64(b"123456789", 0) == 0xE9C6D914C4B8D9CA  # the value in crc64.c's own test
    assert rdb._crc64_slowly(b"123456789", 0) == 0xE9C6D914C4B8D9CA


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1))
def test_both_forms_of_the_checksum_agree(data: bytes, start: int) -> None:
    assert crc64(data, start) == rdb._crc64_slowly(data, start)


@pytest.mark.parametrize("size", [1, 8, 9, 1000])
def test_a_whole_dump(size: int) -> None:
    verdict(DUMP, size)
    verdict(DUMP[:-8] + bytes(8), size)  # a server with rdbchecksum no


def test_every_truncation_and_every_flipped_byte_is_seen() -> None:
    for end in range(len(DUMP)):
        with pytest.raises(Corrupt):
            verdict(DUMP[:end])
    for place in range(len(DUMP)):
        damaged = bytearray(DUMP)
        damaged[place] ^= 4
        with pytest.raises(Corrupt):
            verdict(bytes(damaged))


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_keys_as_restore_takes_them(size: int) -> None:
    dump = Dump(pieces(DUMP, size))
    assert dump.version == 10
    function, *keys = dump.records()
    assert function == Function(b"#!lua name=x")
    assert all(isinstance(key, Key) for key in keys)
    assert [key[:2] for key in keys] == [(0, b"a"), (0, b"h"), (3, b"old scores")]
    assert [key[3:] for key in keys] == [(0, -1, -1), (33_000_000_000_000, -1, -1), (0, -1, 7)]
    assert keys[0][2] == sealed(b"\x00\xc0\xfe\x0a\x00")
    assert keys[1][2] == sealed(b"\x04\x01\x01f\xc2\x01\x00\x00\x00\x0a\x00")
    assert keys[2][2] == sealed(b"\x03\x02\x01m\xfd\x01n\x031.5\x0a\x00")


def test_a_dump_that_breaks_off_is_told_wherever_it_does() -> None:
    for end in range(len(DUMP) - 8):
        with pytest.raises(Corrupt):
            list(Dump(pieces(DUMP[:end], 11)).records())


@given(st.binary(max_size=60))
def test_nonsense_raises_what_callers_expect(data: bytes) -> None:
    try:
        list(Dump([b"REDIS0010" + data]).records())
    except (Corrupt, Unsupported) as error:
        assert error.message


@pytest.mark.parametrize("code", [b"\x18\x01k", b"\xf7\x01", b"\x06\x01k"])
def test_what_is_not_understood_is_refused(code: bytes) -> None:
    with pytest.raises(Unsupported, match="cannot be loaded"):
        list(Dump([b"REDIS0012" + code + b"\xff"]).records())


def test_lzf() -> None:
    assert unpack_lzf(b"\x02abc\xe0\x00\x02", 12) == b"abcabcabcabc"
    assert unpack_lzf(b"\x00a\xe0\xf0\x00", 250) == b"a" * 250
    for data, size in ((b"\x05abc", 6), (b"\x20\x09", 3), (b"\x02abc", 4), (b"\x20", 3)):
        with pytest.raises(Corrupt):
            unpack_lzf(data, size)
