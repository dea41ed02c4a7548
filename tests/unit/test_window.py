"""Reading packs in stretches: from a folder as asked for, over a network in few large requests."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from tests.remotekit import Far

from holdfast.kernel.errors import NotFound
from holdfast.vaults.archive import window as module
from holdfast.vaults.archive.window import GAP, PackWindow

SIZE = 3_000_000
NAME = "data/ab/" + "ab" * 32


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 2_000_000)


@pytest.fixture
def far(tmp_path: Path, content: bytes) -> Far:
    (tmp_path / "place").mkdir()
    storage = Far(tmp_path / "place")
    storage.write(NAME, content)
    storage.calls.clear()
    return storage


def test_what_was_announced_is_fetched_in_few_requests(far: Far, content: bytes) -> None:
    window = PackWindow(far)
    spans = [(at, at + 1000) for at in range(0, SIZE, 100_000)]
    window.expect(NAME, spans)
    for begin, end in spans:
        assert window.read(begin, end - begin) == content[begin:end]
    assert len(far.calls) == 2


def test_a_wide_gap_is_skipped_and_the_end_is_known_without_asking(far: Far, content: bytes) -> None:
    window = PackWindow(far)
    spans = [(0, 10), (10 + GAP, 20 + GAP), (30 + 2 * GAP, 40 + 2 * GAP), (SIZE - 5, SIZE + 1)]
    window.expect(NAME, spans)
    for begin, end in spans:
        assert window.read(begin, end - begin) == content[begin:end]
    assert window.read(SIZE, 1) == b""
    assert len(far.calls) == 3


@pytest.mark.parametrize("seed", range(8))
def test_any_reading_gives_what_is_there(far: Far, content: bytes, seed: int) -> None:
    chance = random.Random(seed)
    for ahead in (True, False):
        window = PackWindow(far, ahead=ahead)
        for _ in range(3):
            points = sorted(chance.sample(range(SIZE), 10))
            window.expect(NAME, list(zip(points[::2], points[1::2], strict=True)))
            for _ in range(20):
                begin = chance.choice([*points, chance.randrange(SIZE + 10)])
                size = chance.choice([1, 1000, 1 << 20])
                assert window.read(begin, size) == content[begin : begin + size]


def test_expecting_again_reads_again(far: Far, tmp_path: Path) -> None:
    window = PackWindow(far)
    for _ in range(2):
        window.expect(NAME, [(0, 10)])
        window.read(0, 10)
    assert len(far.calls) == 2
    (tmp_path / "place" / NAME).unlink()
    window.expect(NAME, [(0, 10)])
    for _ in range(2):
        with pytest.raises(NotFound):
            window.read(0, 10)
