"""Chunk boundaries: restic's own, whatever the buffers; and a fallback that keeps local edits local."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.format.chunker import MAX_SIZE, MIN_SIZE, Chunker, native_available
from holdfast.kernel.errors import Invalid

POLYNOMIAL = 0x3DA3358B4DC173
VECTORS = json.loads((Path(__file__).parent / "vectors" / "chunker.json").read_text())

needs_native = pytest.mark.skipif(not native_available(), reason="the C extension was not built")


def content(parts: list[dict[str, Any]]) -> bytes:
    made = bytearray()
    for part in parts:
        size = part["bytes"]
        if "shake128" in part:
            made += hashlib.shake_128(part["shake128"].encode()).digest(size)
        else:
            pattern = bytes.fromhex(part["repeat"])
            made += (pattern * (size // len(pattern) + 1))[:size]
    return bytes(made)


@cache
def noise(size: int, name: str = "noise") -> bytes:
    return hashlib.shake_128(name.encode()).digest(size)


@cache
def prose(size: int) -> bytes:
    words = [b"backup", b"vault", b"proof", b"a", b"the", b"of", b"keeps", b"restore", b"silence", b"and"]
    chance = random.Random(7)
    lines = (b" ".join(chance.choices(words, k=chance.randrange(3, 16))) for _ in range(size // 40))
    return b"\n".join(lines)[:size]


def in_buffers(chunker: Chunker, data: bytes, take: Iterator[int]) -> list[int]:
    """Cuts as a reader of a file does: fills up its buffer with what comes next, keeps what was left over."""
    lengths: list[int] = []
    start = filled = 0
    while filled < len(data):
        scanned = filled - start
        filled = min(len(data), filled + next(take))
        found = chunker.cuts(memoryview(data)[start:filled], final=filled == len(data), scanned=scanned)
        lengths += found
        start += sum(found)
    return lengths


def window_digest(window: bytes, polynomial: int) -> int:
    """The remainder of the window, read as a polynomial over GF(2): the definition, bit by bit."""
    value = int.from_bytes(window, "big")
    for bit in range(len(window) * 8 - 1, 52, -1):
        if value >> bit & 1:
            value ^= polynomial << (bit - 53)
    return value


def oracle(data: bytes, polynomial: int, minimum: int, maximum: int, mask: int) -> list[int]:
    lengths = []
    start = 0
    while start < len(data):
        rest = len(data) - start
        length = minimum
        while length < min(rest, maximum):
            if window_digest(data[start + length - 64 : start + length], polynomial) & mask == 0:
                break
            length += 1
        lengths.append(min(length, rest))
        start += lengths[-1]
    return lengths


@needs_native
@pytest.mark.parametrize("name", VECTORS["files"])
def test_boundaries_are_those_that_restic_stored(name: str) -> None:
    data = content(VECTORS["files"][name])
    for polynomial, lengths in VECTORS["lengths"].items():
        assert Chunker(int(polynomial, 16), native=True).cuts(data, final=True) == lengths[name]


@needs_native
@settings(deadline=None, max_examples=60)
@given(
    data=st.one_of(
        st.binary(max_size=1500),
        st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=40), st.integers(1, 300)),
        st.builds(lambda seed, size: noise(size, str(seed)), st.integers(0, 99), st.integers(0, 4000)),
    ),
    low_bits=st.integers(0, 2**53 - 1),
    minimum=st.sampled_from([64, 65, 100, 512]),
    spread=st.integers(0, 4000),
    mask_bits=st.sampled_from([0, 1, 7, 13]),
)
@example(data=b"", low_bits=1, minimum=64, spread=0, mask_bits=0)
@example(data=noise(4000), low_bits=POLYNOMIAL - 2**53, minimum=64, spread=3936, mask_bits=53)
def test_native_cuts_follow_the_definition(
    data: bytes, low_bits: int, minimum: int, spread: int, mask_bits: int
) -> None:
    from holdfast import _native

    polynomial = 1 << 53 | low_bits
    mask = (1 << mask_bits) - 1
    found = _native.cuts(_native.tables(polynomial), data, 0, True, minimum, minimum + spread, mask)
    assert found == oracle(data, polynomial, minimum, minimum + spread, mask)


@needs_native
@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(69_000, 400_000),
    seed=st.integers(0, 99),
    begin=st.integers(0, 70),
    low_bits=st.integers(0, 2**53 - 1),
    minimum=st.sampled_from([64, 512, 70_000]),
    mask_bits=st.sampled_from([0, 7, 16, 20, 21, 22, 53]),
    shift=st.integers(0, 8),
)
def test_the_vector_units_find_what_tables_find(
    size: int, seed: int, begin: int, low_bits: int, minimum: int, mask_bits: int, shift: int
) -> None:
    from holdfast import _native

    plain, *wide = (_native.tables(1 << 53 | low_bits, lanes) for lanes in (0, 32, 64))
    if plain == wide[-1]:
        pytest.skip("this processor has no vector units that can")
    data = memoryview(noise(size, str(seed)))[begin:]
    mask = ((1 << mask_bits) - 1) << shift & (1 << 53) - 1
    arguments = data, 0, True, minimum, 10**6, mask
    expected = _native.cuts(plain, *arguments)
    assert [_native.cuts(tables, *arguments) for tables in wide] == [expected, expected]


@needs_native
@pytest.mark.parametrize("lanes", [64, 32, 0])
def test_hits_far_apart_are_found_in_every_lane(lanes: int) -> None:
    """Windows of zeros, planted at many distances from a chunk's start, are the only hits under a mask of 53 bits."""
    from holdfast import _native

    tables = _native.tables(POLYNOMIAL, lanes)
    base = bytearray(noise(100_000).replace(b"\0", b"\1"))
    for hit in [65, 66, 511, 2624, 2625, 8255, 8256, 8257, 16_449, 40_000, 41_024, 41_025, 82_000, 90_001, 99_999]:
        data = base.copy()
        data[hit - 64 : hit] = bytes(64)
        for begin in (0, 1, 3):
            found = _native.cuts(tables, memoryview(data)[begin:], 0, True, 64, 10**6, (1 << 53) - 1)
            assert found == [hit - begin, len(data) - hit] if hit - begin >= 64 else [len(data) - begin]


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_native), False])
@pytest.mark.parametrize("make", [noise, prose, bytes], ids=["noise", "prose", "zeros"])
def test_the_result_does_not_depend_on_how_a_file_is_divided(native: bool, make: Callable[[int], bytes]) -> None:
    chunker = Chunker(POLYNOMIAL, native=native)
    data = make(20_000_000)
    whole = chunker.cuts(data, final=True)
    sizes = random.Random(3)
    assert in_buffers(chunker, data, iter(lambda: 8_388_608, 0)) == whole
    assert in_buffers(chunker, data, iter(lambda: sizes.randrange(1, 1_500_000), 0)) == whole


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_native), False])
@pytest.mark.parametrize("make", [noise, prose, bytes], ids=["noise", "prose", "zeros"])
@pytest.mark.parametrize(
    "size", [0, 1, MIN_SIZE - 1, MIN_SIZE, MIN_SIZE + 1, 1_572_863, 1_572_864, MAX_SIZE, MAX_SIZE + 1, 11_000_003]
)
def test_every_byte_is_in_one_chunk_of_allowed_size(native: bool, make: Callable[[int], bytes], size: int) -> None:
    data = make(size)
    chunker = Chunker(POLYNOMIAL, native=native)
    lengths = chunker.cuts(data, final=True)
    assert sum(lengths) == len(data)
    assert all(MIN_SIZE <= length <= MAX_SIZE for length in lengths[:-1])
    assert all(0 < length <= MAX_SIZE for length in lengths[-1:])
    unfinished = chunker.cuts(data, final=False)
    assert unfinished == lengths[: len(unfinished)]
    assert len(data) - sum(unfinished) < MAX_SIZE


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_native), False])
@pytest.mark.parametrize("make", [noise, prose], ids=["noise", "prose"])
def test_an_insertion_leaves_most_chunks_as_they_were(native: bool, make: Callable[[int], bytes]) -> None:
    chunker = Chunker(POLYNOMIAL, native=native)
    before = make(20_000_000)
    after = before[:7_000_000] + b"inserted" + before[7_000_000:]

    def pieces(data: bytes) -> set[bytes]:
        ends = [0]
        for length in chunker.cuts(data, final=True):
            ends.append(ends[-1] + length)
        return {data[begin:end] for begin, end in pairwise(ends)}

    assert len(pieces(after) - pieces(before)) <= 4


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_native), False])
def test_all_kinds_of_buffer_are_cut_alike(native: bool) -> None:
    chunker = Chunker(POLYNOMIAL, native=native)
    data = noise(6_000_000)
    expected = chunker.cuts(data, final=True)
    assert chunker.cuts(bytearray(data), final=True) == expected
    assert chunker.cuts(memoryview(b"..." + data)[3:], final=True) == expected
    assert chunker.cuts(memoryview(data).cast("Q"), final=True) == expected


@needs_native
def test_threads_share_one_chunker() -> None:
    chunker = Chunker(POLYNOMIAL, native=True)
    data = noise(12_000_000)
    expected = chunker.cuts(data, final=True)
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(chunker.cuts(data, final=True))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


@pytest.mark.parametrize("polynomial", [0, 1, 2**53 - 1, 2**54, 2**64 + 2**53, -(2**53)])
def test_a_polynomial_that_restic_would_not_make_is_refused(polynomial: int) -> None:
    with pytest.raises(Invalid) as caught:
        Chunker(polynomial)
    assert caught.value.hint


@needs_native
def test_the_extension_refuses_nonsense_and_keeps_no_references() -> None:
    from holdfast import _native

    tables = _native.tables(POLYNOMIAL)
    for arguments in [
        (b"short", b"", 0, True, 64, 64, 1),
        (tables, b"", -1, True, 64, 64, 1),
        (tables, b"", 0, True, 63, 64, 1),
        (tables, b"", 0, True, 64, 63, 1),
    ]:
        with pytest.raises(ValueError):
            _native.cuts(*arguments)
    with pytest.raises(ValueError):
        _native.tables(2**52)
    data = noise(1_000_000)
    held = sys.getrefcount(data)
    for _ in range(3):
        _native.cuts(tables, data, 0, True, 64, 4096, 0xFFF)
        _native.cuts(tables, data, 10**9, True, 64, 10**12, 0xFFF)
    assert sys.getrefcount(data) == held
