"""What decorators around a storage add: patience, limits, and the refusal to delete."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, NoSpace, NotFound, Unavailable
from holdfast.storage import Info, Manner, Storage
from holdfast.storage.appendonly import AppendOnly
from holdfast.storage.limited import Limited
from holdfast.storage.memory import MemoryStorage
from holdfast.storage.retrying import Retrying

HASH = "ab" * 32
PACK = f"data/ab/{HASH}"


class ManualClock:
    """A clock that goes on only when somebody waits; ``waits`` are the lengths of the waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def now_ns(self) -> int:
        return int(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)

    def utc_offset(self, at_ns: int) -> int:
        return 0

    def pause(self, seconds: float) -> bool:
        self.sleep(seconds)
        return False


class Shaky(MemoryStorage):
    """Raises what ``failures`` gives, one a call, before the call (or, with ``after``, once it was made)."""

    def __init__(self, failures: list[Exception | None], *, after: bool = False) -> None:
        super().__init__("shaky")
        self.failures = failures
        self.after = after
        self.tries = 0

    def shake(self, call: Callable[[], object]) -> object:
        self.tries += 1
        failure = self.failures.pop(0) if self.failures else None
        if failure is None or self.after:
            result = call()
        if failure is not None:
            raise failure
        return result

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self.shake(lambda: super(Shaky, self).read(name, offset, length))  # type: ignore[return-value]

    def size(self, name: str) -> int:
        return self.shake(lambda: super(Shaky, self).size(name))  # type: ignore[return-value]

    def write(self, name: str, data: bytes) -> None:  # type: ignore[override]
        self.shake(lambda: super(Shaky, self).write(name, data))

    def adopt(self, path: str, name: str) -> None:
        self.shake(lambda: super(Shaky, self).adopt(path, name))

    def replace(self, name: str, data: bytes) -> None:  # type: ignore[override]
        self.shake(lambda: super(Shaky, self).replace(name, data))

    def delete(self, name: str) -> None:
        self.shake(lambda: super(Shaky, self).delete(name))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def told() -> list[str]:
    return []


def down(seconds: float | None = None) -> Unavailable:
    context = {} if seconds is None else {"retry_after": seconds}
    return Unavailable("no answer from the server.", hint="Look at the network.", **context)


def retrying(inner: Storage, clock: ManualClock, told: list[str], patience: float = 900.0) -> Retrying:
    manner = Manner(patience=patience, first_patience=patience)
    return Retrying(inner, manner, pause=clock.pause, tell=told.append, clock=clock, draw=lambda: 0.999)


# -- retrying ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before taking effect", "after taking effect"])
def test_every_change_may_fail_and_is_made_in_the_end(
    clock: ManualClock, told: list[str], tmp_path: Path, after: bool
) -> None:
    inner = Shaky([], after=after)
    place = retrying(inner, clock, told)
    path = tmp_path / "pack"
    path.write_bytes(b"pack")
    changes: list[Callable[[], None]] = [
        lambda: place.write("config", b"mine"),
        lambda: place.write(PACK, b"pack"),
        lambda: place.replace("config", b"new"),
        lambda: place.delete(PACK),
    ]
    for change in changes:
        inner.failures = [down(), down()]
        change()
    assert place.read("config") == b"new"
    assert [info.name for info in place.list("")] == ["config"]
    if not after:
        inner.failures = [down(), down()]
        place.adopt(str(path), PACK)
        assert place.read(PACK) == b"pack" and not path.exists()


@pytest.mark.parametrize("error", [Denied("no"), NotFound("no"), NoSpace("full"), HoldfastError("odd"), Corrupt("bad")])
def test_what_will_not_get_better_is_raised_at_once(clock: ManualClock, told: list[str], error: HoldfastError) -> None:
    inner = Shaky([error])
    with pytest.raises(type(error)) as caught:
        retrying(inner, clock, told).write("config", b"c")
    assert caught.value is error
    assert inner.tries == 1 and clock.waits == [] and told == []


def test_the_patience_has_an_end_and_the_error_tells_what_was_tried(clock: ManualClock, told: list[str]) -> None:
    inner = Shaky([down() for _ in range(1000)])
    began = clock.now
    with pytest.raises(Unavailable) as caught:
        retrying(inner, clock, told).size("config")
    assert 800 < clock.now - began <= 900
    assert caught.value.message == f"no answer from the server (tried {inner.tries} times in 14 min)"
    assert caught.value.hint == "Look at the network."
    assert caught.value.context["tries"] == inner.tries
    assert 15 < inner.tries < 30


def test_a_place_that_never_answered_is_given_up_soon(clock: ManualClock, told: list[str]) -> None:
    def place(failures: list[Exception | None]) -> Retrying:
        return Retrying(Shaky(failures), Manner(), pause=clock.pause, clock=clock, draw=lambda: 0.999)

    began = clock.now
    with pytest.raises(Unavailable):
        place([down() for _ in range(1000)]).size("config")
    assert 30 < clock.now - began <= 60
    began = clock.now
    answered = place([NotFound("no config here"), *(down() for _ in range(1000))])
    with pytest.raises(NotFound):
        answered.size("config")
    with pytest.raises(Unavailable):
        answered.size("config")
    assert clock.now - began > 800


def test_no_patience_is_one_try(clock: ManualClock, told: list[str]) -> None:
    inner = Shaky([down()])
    with pytest.raises(Unavailable, match=r"^no answer from the server\.$"):
        retrying(inner, clock, told, patience=0.0).size("config")
    assert inner.tries == 1 and clock.waits == [] and told == []


def test_whoever_comes_late_to_a_dead_place_does_not_wait_as_long_again(clock: ManualClock, told: list[str]) -> None:
    inner = Shaky([down() for _ in range(1000)])
    place = retrying(inner, clock, told)
    began = clock.now
    with pytest.raises(Unavailable):
        place.write(PACK, b"pack")
    for name in ("index", "snapshots", "locks"):  # what a run does to end well
        with pytest.raises(Unavailable):
            place.delete(f"{name}/{HASH}")
    assert clock.now - began <= 900
    clock.now += 3600  # after a rest it deserves all the patience again
    inner.failures = [down() for _ in range(8)]
    place.delete(PACK)
    assert inner.failures == []


def test_a_server_says_when_to_come_back(clock: ManualClock, told: list[str]) -> None:
    inner = Shaky([])
    inner.write("config", b"c")
    inner.failures = [down(7.0), down(30.0)]
    assert retrying(inner, clock, told).size("config") == 1
    first, second = clock.waits
    assert 7.0 <= first < 7.5 and 30.0 <= second < 31.0


def test_a_server_that_wants_more_time_than_there_is(clock: ManualClock, told: list[str]) -> None:
    inner = Shaky([down(3600.0)])
    with pytest.raises(Unavailable):
        retrying(inner, clock, told).size("config")
    assert clock.waits == [], "waiting would help nobody"


def test_a_caller_who_is_gone_ends_it(told: list[str]) -> None:
    inner = Shaky([down() for _ in range(10)])
    place = Retrying(inner, Manner(), pause=lambda seconds: True, tell=told.append)
    with pytest.raises(Unavailable):
        place.size("config")
    assert inner.tries == 1


def test_a_read_cut_short_is_tried_twice_more(clock: ManualClock, told: list[str]) -> None:
    inner = Shaky([])
    inner.write(PACK, b"0123456789")
    place = retrying(inner, clock, told)
    inner.failures, inner.tries = [Corrupt("short"), Corrupt("short")], 0
    assert place.read(PACK, 2, 5) == b"23456"
    inner.tries = 0
    with pytest.raises(Corrupt):
        place.read(PACK, 5, 10)
    assert inner.tries == 3


def test_a_person_hears_of_it_once_in_a_while_and_when_it_is_over(clock: ManualClock, told: list[str]) -> None:
    inner = Shaky([])
    inner.write("config", b"c")
    place = retrying(inner, clock, told)
    inner.failures = [down()]
    place.size("config")
    assert told == [], "half a second is nobody's business"
    inner.failures = [down() for _ in range(9)]
    place.size("config")
    assert told[0] == "waiting for the storage: no answer from the server; trying again for up to 15 min"
    assert told[-1].startswith("the storage answers again, after ")
    assert 3 <= len(told) <= 5
    told.clear()
    place.size("config")
    assert told == []


class Paged(MemoryStorage):
    """Lists ten files, and breaks off after as many as ``breaks`` says, one number a try."""

    def __init__(self, breaks: list[int]) -> None:
        super().__init__()
        self.breaks = breaks
        for number in range(10):
            self.write(f"keys/{number}", bytes(number))

    def list(self, folder: str) -> Iterator[Info]:
        stop = self.breaks.pop(0) if self.breaks else 99
        for number, info in enumerate(super().list(folder)):
            if number == stop:
                raise down()
            yield info


def test_a_listing_that_broke_off_goes_on_without_repeating(clock: ManualClock, told: list[str]) -> None:
    found = list(retrying(Paged([0, 3, 1, 7, 7]), clock, told).list("keys"))
    assert found == [Info(f"keys/{number}", number) for number in range(10)]
    with pytest.raises(Unavailable):
        list(retrying(Paged([3] * 1000), clock, told).list("keys"))


# -- limits ------------------------------------------------------------------------------------------------------------


def test_bytes_a_second_are_kept_over_all_calls(clock: ManualClock) -> None:
    inner = MemoryStorage()
    place = Limited(inner, Manner(upload=1 << 20, download=2 << 20), pause=clock.pause, clock=clock)
    began = clock.now
    for number in range(10):
        place.write(f"data/ab/{number:064x}", bytes(1 << 20))
    assert 9.0 <= clock.now - began <= 10.0
    began = clock.now
    buffer = bytearray(1 << 20)
    for number in range(10):
        assert place.read_into(f"data/ab/{number:064x}", buffer) == 1 << 20
        assert place.read(f"data/ab/{number:064x}", 0, 1 << 20) == buffer
        assert len(place.read(f"data/ab/{number:064x}")) == 1 << 20
    assert 14.0 <= clock.now - began <= 15.0
    assert len(clock.waits) > 30 and max(clock.waits) <= 1.0


def test_a_large_download_is_spread_evenly_and_stays_whole(clock: ManualClock) -> None:
    inner = MemoryStorage()
    data = bytes(range(256)) * 8192
    inner.write(PACK, data)
    place = Limited(inner, Manner(download=1 << 20), pause=clock.pause, clock=clock)
    assert place.read(PACK, 5, len(data) - 9) == data[5:-4]
    buffer = bytearray(len(data) + 5)
    assert place.read_into(PACK, buffer) == len(data)
    assert buffer[:-5] == data
    assert max(clock.waits) <= 0.51
    with pytest.raises(Corrupt):
        place.read(PACK, 0, len(data) + 1)


def test_who_is_gone_does_not_hold_up_the_others(clock: ManualClock) -> None:
    place = Limited(MemoryStorage(), Manner(upload=1), pause=lambda seconds: True, clock=clock)
    place.write(PACK, b"all at once")
    with pytest.raises(Unavailable):
        place.write("config", b"x")


class Counting(MemoryStorage):
    """Counts how many calls are made at once; each waits until ``enough`` are, or for a moment."""

    traits = replace(MemoryStorage.traits, connections=4)

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.enough = enough
        self.most = self.now = 0
        self.change = threading.Condition()

    def size(self, name: str) -> int:
        with self.change:
            self.now += 1
            self.most = max(self.most, self.now)
            self.change.notify_all()
            self.change.wait_for(lambda: self.most >= self.enough, timeout=0.2)
            self.now -= 1
        return 0


@pytest.mark.parametrize(("wanted", "most"), [(None, 4), (2, 2), (1, 1), (7, 7)])
def test_so_many_calls_at_once_and_no_more(wanted: int | None, most: int) -> None:
    inner = Counting(most)
    place = Limited(inner, Manner(connections=wanted))
    threads = [threading.Thread(target=place.size, args=("config",)) for _ in range(most + 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inner.most == most
    assert place.traits.connections == max(most, 2), "it stays a place that is worth more than one call at a time"


def test_a_listing_leaves_its_turn_to_others_while_it_is_read() -> None:
    inner = Counting(1)
    for number in range(2500):
        inner.write(f"keys/{number}", b"")
    place = Limited(inner, Manner(connections=1))
    assert sum(place.size(info.name) + 1 for info in place.list("keys")) == 2500


# -- append only -------------------------------------------------------------------------------------------------------


def test_append_only_takes_nothing_away_but_locks(tmp_path: Path) -> None:
    inner = MemoryStorage("vault")
    place = AppendOnly(inner)
    assert place.traits.append_only and not place.traits.read_only
    place.prepare(["data"])
    place.write("config", b"c")
    place.write(f"locks/{HASH}", b"lock")
    path = tmp_path / "pack"
    path.write_bytes(b"pack")
    place.adopt(str(path), PACK)
    refused: list[Callable[[], None]] = [
        lambda: place.delete(PACK),
        lambda: place.delete("config"),
        lambda: place.delete("locksmith"),
        lambda: place.replace("config", b"other"),
    ]
    for change in refused:
        with pytest.raises(Denied, match="append-only") as caught:
            change()
        assert caught.value.hint
    place.delete(f"locks/{HASH}")
    assert {info.name for info in place.list("")} == {"config", PACK}
    assert place.read("config") == b"c" and place.read(PACK) == b"pack"
