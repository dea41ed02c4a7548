"""The storages that fail on purpose fail where they say, so that other fault tests can be trusted."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.faults.faulty import Faulty, Killing, in_child

from holdfast.kernel.errors import NoSpace, Unavailable
from holdfast.storage import LocalStorage, Storage
from holdfast.storage.memory import MemoryStorage


def errand(storage: Storage) -> None:
    """Four changes and three looks."""
    storage.prepare(["keys"])
    storage.write("keys/a", b"a")
    list(storage.list(""))
    storage.size("keys/a")
    storage.read("keys/a")
    storage.write("keys/b", b"b")
    storage.delete("keys/a")


def test_every_call_fails_in_turn() -> None:
    count = Faulty(MemoryStorage())
    errand(count)
    assert [method for method, _ in count.calls] == ["prepare", "write", "list", "size", "read", "write", "delete"]
    for number in range(1, len(count.calls) + 1):
        faulty = Faulty(MemoryStorage(), number, NoSpace("full"))
        with pytest.raises(NoSpace):
            errand(faulty)
        assert faulty.calls == count.calls[:number]
        errand(faulty)


def test_a_lasting_fault_stays() -> None:
    faulty = Faulty(MemoryStorage(), 2, lasting=True)
    faulty.prepare([])
    for _ in range(3):
        with pytest.raises(Unavailable):
            faulty.read("keys/a")


def test_killed_before_or_after_each_change(tmp_path: Path) -> None:
    expected = {1: [], 2: ["keys/a"], 3: ["keys/a", "keys/b"], 4: ["keys/b"]}
    for at in range(1, 5):
        for after in (False, True):
            place = LocalStorage(str(tmp_path / f"{at}{after}"))
            place.prepare([])
            outcome = in_child(lambda place=place, at=at, after=after: errand(Killing(place, at, after=after)))
            assert outcome == -signal.SIGKILL
            assert sorted(info.name for info in place.list("")) == expected[at if after else max(at - 1, 1)]
    assert in_child(lambda: errand(Killing(LocalStorage(str(tmp_path / "whole")), 5))) == 0
