"""The compact index against a dictionary, and the shared set of ids across processes."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.format.pack import Blob, BlobType
from holdfast.kernel.ids import BlobId, PackId
from holdfast.repository import index as index_module
from holdfast.repository.index import Index, SharedIds

ids = st.integers(0, 300).map(lambda number: BlobId(number.to_bytes(2, "big") * 16))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(ids, st.booleans(), st.booleans()), max_size=20), max_size=12), st.lists(ids))
def test_agrees_with_a_dictionary(packs: list[list[tuple[BlobId, bool, bool]]], others: list[BlobId]) -> None:
    index = Index()
    expected: dict[BlobId, list[tuple[PackId, Blob]]] = {}
    for number, listed in enumerate(packs):
        pack = PackId(number.to_bytes(32, "big"))
        blobs = [
            Blob(identifier, BlobType(is_tree), number * 7 + at, 100 + at, 50 + at if compressed else None)
            for at, (identifier, is_tree, compressed) in enumerate(listed)
        ]
        assert index.add(pack, blobs)
        assert not index.add(pack, blobs)
        assert index.blobs_of(pack) == blobs
        for blob in blobs:
            expected.setdefault(blob.id, []).append((pack, blob))
    assert len(index) == sum(map(len, packs))
    for identifier in [*expected, *others]:
        found = [tuple(place) for place in index.places(identifier)]
        wanted = [
            (pack, blob.type, blob.offset, blob.length, blob.raw_length) for pack, blob in expected.get(identifier, [])
        ]
        assert found == wanted
        assert index.has(identifier) == bool(wanted)
        first = wanted[0] if wanted else None
        assert index.stored(identifier) == (first and (first[0], first[2], first[3], first[4] or 0))
        assert (index.number(identifier) == -1) == (not wanted)


def test_grows_far_beyond_its_first_size() -> None:
    index = Index()
    draw = random.Random(1)
    known = []
    for _ in range(40):
        blobs = [Blob(BlobId(draw.randbytes(32)), BlobType.DATA, at, 64, None) for at in range(500)]
        index.add(PackId(draw.randbytes(32)), blobs)
        known += [blob.id for blob in blobs]
    assert len(index) == 20_000
    assert all(map(index.has, known))
    assert not any(index.has(draw.randbytes(32)) for _ in range(1000))
    assert [index.number(identifier) for identifier in known] == list(range(20_000))


@pytest.fixture(params=["as it is", "no extension"])
def _extension(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no extension":
        monkeypatch.setattr(index_module, "_native", None)


@pytest.mark.usefixtures("_extension")
def test_a_shared_id_is_new_once() -> None:
    add = SharedIds().adder()
    draw = random.Random(2)
    every = [draw.randbytes(32) for _ in range(20_000)]
    assert all(map(add, every))
    assert not any(map(add, every))


@pytest.mark.usefixtures("_extension")
def test_ids_that_look_alike_are_told_apart() -> None:
    add = SharedIds().adder()
    alike = [b"\x07" * 8 + number.to_bytes(24, "big") for number in range(60)]  # all want the same slot
    assert all(map(add, alike))
    assert not any(map(add, alike))


@pytest.mark.usefixtures("_extension")
def test_processes_see_each_others_ids() -> None:
    shared = SharedIds()
    draw = random.Random(3)
    every = [draw.randbytes(32) for _ in range(9_000)]
    mine = shared.adder()
    assert all(map(mine, every[:3_000]))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            theirs = shared.adder()
            assert not any(map(theirs, every[:3_000]))
            assert all(map(theirs, every[3_000:]))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert not any(map(mine, every))


def test_a_full_set_forgets_but_never_mixes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedIds, "_ROOM", 4096)  # one block
    draw = random.Random(4)
    every = [draw.randbytes(32) for _ in range(5000)]
    add = SharedIds().adder()
    assert all(map(add, every))
    assert [add(identifier) for identifier in every] == [False] * 4096 + [True] * 904
