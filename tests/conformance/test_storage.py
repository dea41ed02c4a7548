"""What every storage promises."""

from __future__ import annotations

import hashlib
import mmap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Invalid, NotFound
from holdfast.storage import ReadOnly, Storage

HASH = "ab" + "0" * 62
PACK = f"data/ab/{HASH}"
OTHER_PACK = f"data/cd/cd{HASH[2:]}"
KEY, OTHER_KEY, ABSENT = (f"keys/{number:064x}" for number in range(3))
LOCK = f"locks/{HASH}"
BAD_NAMES = ["", "/", "/etc/passwd", "..", ".", "../x", "a/../x", "a/..", "a//b", "a/", "./a", "a\\b", "a\0b", "a\nb"]
LOOKS_UNFINISHED = [f"data/ab/{HASH}-tmp-12345", f"{HASH}-tmp-0123456789abcdef", "data/hf-tmp-7"]


@pytest.fixture
def with_any_names(storage: Storage) -> Storage:
    """The storage, if it takes names of all kinds and not only those of a vault."""
    try:
        storage.delete("any/name")
    except Invalid:
        pytest.skip("this place takes only the names of a vault")
    return storage


def listed(storage: Storage, folder: str = "") -> dict[str, int]:
    found = list(storage.list(folder))
    assert len({info.name for info in found}) == len(found), "a file was listed twice"
    return {info.name: info.size for info in found}


def staged(storage: Storage, tmp_path: Path, data: bytes) -> Path:
    folder = storage.staging()
    path = Path(folder) / "hf-tmp-staged" if folder else tmp_path / "hf-tmp-staged"
    path.write_bytes(data)
    return path


def test_what_was_written_comes_back(storage: Storage) -> None:
    for name, data in {"config": b"c", KEY: b"", PACK: b"pack" * 1000}.items():
        storage.write(name, data)
        assert storage.read(name) == data
        assert storage.size(name) == len(data)


def test_any_buffer_may_be_written_and_is_not_kept(storage: Storage) -> None:
    buffer = bytearray(b"0123456789")
    with mmap.mmap(-1, 4096) as shared:
        shared[:3] = b"map"
        storage.write(PACK, shared)
    storage.write(KEY, memoryview(buffer)[2:5])
    storage.write(OTHER_KEY, buffer)
    buffer[:] = b"..........."[:10]
    assert storage.read(KEY) == b"234"
    assert storage.read(OTHER_KEY) == b"0123456789"
    assert storage.read(PACK, 0, 4) == b"map\0"
    assert storage.size(PACK) == 4096


def test_ranges(storage: Storage) -> None:
    storage.write(PACK, b"0123456789")
    assert storage.read(PACK, 3, 4) == b"3456"
    assert storage.read(PACK, 7) == b"789"
    assert storage.read(PACK, 10) == b""
    assert storage.read(PACK, 10, 0) == storage.read(PACK, 99, 0) == b""
    assert storage.read(PACK, 0, 10) == b"0123456789"
    for offset, length in [(0, 11), (9, 2), (11, None), (500, 1)]:
        with pytest.raises(Corrupt):
            storage.read(PACK, offset, length)
    for offset, length in [(-1, None), (0, -1)]:
        with pytest.raises(Invalid):
            storage.read(PACK, offset, length)


def test_reading_into_a_buffer(storage: Storage) -> None:
    storage.write(PACK, b"0123456789")
    buffer = bytearray(b"." * 6)
    assert storage.read_into(PACK, buffer, 1) == 6
    assert buffer == b"123456"
    assert storage.read_into(PACK, buffer, 7) == 3
    assert buffer == b"789456"
    assert storage.read_into(PACK, memoryview(buffer)[4:], 0) == 2
    assert buffer == b"789401"
    assert storage.read_into(PACK, buffer, 10) == 0
    assert storage.read_into(PACK, buffer, 99) == 0
    assert storage.read_into(PACK, bytearray(), 0) == 0
    with pytest.raises(Invalid):
        storage.read_into(PACK, buffer, -1)


def test_a_big_object(storage: Storage) -> None:
    data = hashlib.shake_128(b"big").digest(1 << 20) * 33
    digest = hashlib.sha256(data).hexdigest()
    name = f"data/{digest[:2]}/{digest}"
    storage.write(name, data)
    assert listed(storage, "data") == {name: len(data)}
    assert storage.read(name, 32 << 20, 1 << 20) == data[: 1 << 20]
    with mmap.mmap(-1, len(data)) as buffer:
        assert storage.read_into(name, buffer) == len(data)
        assert hashlib.sha256(buffer).hexdigest() == name[-64:]


@pytest.mark.parametrize("name", ["config", ABSENT, PACK, "data", "keys"])
def test_a_missing_file_is_not_found(storage: Storage, name: str) -> None:
    for ask in (storage.read, storage.size, lambda wanted: storage.read_into(wanted, bytearray(1))):
        with pytest.raises(NotFound):
            ask(name)


def test_listing(storage: Storage) -> None:
    assert listed(storage) == {}
    assert listed(storage, "snapshots") == {}
    files = {"config": 1, KEY: 2, OTHER_KEY: 0, PACK: 4, OTHER_PACK: 5, LOCK: 6}
    for name, size in files.items():
        storage.write(name, bytes(size))
    assert listed(storage) == files
    assert listed(storage, "keys") == {KEY: 2, OTHER_KEY: 0}
    assert listed(storage, "data") == {PACK: 4, OTHER_PACK: 5}
    assert listed(storage, "data/ab") == {PACK: 4}
    assert listed(storage, "data/cd") == {OTHER_PACK: 5}
    assert listed(storage, "data/ef") == listed(storage, "config") == {}


def test_listing_folders_within_folders(with_any_names: Storage) -> None:
    storage = with_any_names
    assert listed(storage, "never/made") == {}
    files = {"keys/aa": 2, PACK: 4, f"data/cd/{HASH}": 5, "data/flat": 6, "data/a/b/c": 1, "data2/x": 7}
    for name, size in files.items():
        storage.write(name, bytes(size))
    assert listed(storage) == files
    assert listed(storage, "data") == {name: size for name, size in files.items() if name.startswith("data/")}
    assert listed(storage, "data/a") == {"data/a/b/c": 1}


def test_a_listing_may_be_read_while_files_come_and_go(storage: Storage) -> None:
    steady = {f"data/{number:02x}/{number:02x}{HASH[2:]}": 3 for number in range(20)}
    doomed = [f"data/{number}/{number}{'d' * 62}" for number in ("00", "13")]
    for name in [*steady, *doomed]:
        storage.write(name, b"abc")
    seen = {}
    for number, info in enumerate(storage.list("data")):
        seen[info.name] = info.size
        storage.write(f"data/{number % 20:02x}/{number % 20:02x}{number:062x}", b"new")
        for name in doomed:
            storage.delete(name)
    assert steady.items() <= seen.items()
    assert not listed(storage, "data").keys() & set(doomed)


def test_what_is_written_is_listed_at_once_if_the_storage_says_so(storage: Storage) -> None:
    if not storage.traits.immediate_listing:
        pytest.skip("this place does not promise it")
    for number in range(20):
        storage.write(f"locks/{number:064x}", b"lock")
        assert f"locks/{number:064x}" in listed(storage, "locks")
        storage.delete(f"locks/{number:064x}")
        assert listed(storage, "locks") == {}


def test_writing_a_hash_again_is_fine_but_another_size_is_damage(storage: Storage, tmp_path: Path) -> None:
    storage.write(PACK, b"first")
    storage.write(PACK, b"first")
    with pytest.raises(Corrupt):
        storage.write(PACK, b"longer than the first")
    path = staged(storage, tmp_path, b"short")
    storage.adopt(str(path), PACK)
    assert not path.exists()
    path = staged(storage, tmp_path, b"longer than the first")
    with pytest.raises(Corrupt):
        storage.adopt(str(path), PACK)
    assert path.read_bytes() == b"longer than the first"
    path.unlink()
    assert storage.read(PACK) == b"first"
    assert listed(storage) == {PACK: 5}


def test_a_name_that_is_no_hash_belongs_to_who_was_first(storage: Storage, tmp_path: Path) -> None:
    storage.write("config", b"mine!")
    storage.write("config", b"mine!")
    for rival in (b"yours", b"ours and longer"):
        with pytest.raises(Invalid):
            storage.write("config", rival)
        path = staged(storage, tmp_path, rival)
        with pytest.raises(Invalid):
            storage.adopt(str(path), "config")
        path.unlink(missing_ok=True)
    assert storage.read("config") == b"mine!"
    assert listed(storage) == {"config": 5}


def race(work: Callable[[int], None], count: int) -> list[BaseException]:
    """Run ``work(0..count-1)`` at once in threads; returns what they raised."""
    start, raised = threading.Barrier(count), []

    def run(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_writers_of_one_hash_all_succeed(storage: Storage) -> None:
    data = b"same bytes" * 10_000
    assert race(lambda _: storage.write(PACK, data), 8) == []
    assert storage.read(PACK) == data
    assert listed(storage) == {PACK: len(data)}


def test_of_several_makers_of_a_vault_one_wins_and_the_others_are_told(with_any_names: Storage) -> None:
    storage = with_any_names
    if not storage.traits.atomic_create:
        pytest.skip("this place does not promise it")
    for turn in range(5):
        name = f"keys/config{turn}"
        raised = race(lambda number, name=name: storage.write(name, b"maker %d" % number), 6)  # type: ignore[misc]
        assert [type(error) for error in raised] == [Invalid] * 5
        winner = storage.read(name)
        storage.write(name, winner)
    assert len(listed(storage)) == 5


def test_many_files_written_and_read_at_once(storage: Storage) -> None:
    def work(number: int) -> None:
        for step in range(20):
            data = b"%d/%d" % (number, step)
            name = f"data/{step:02x}/{step:02x}{number:062x}"
            storage.write(name, data)
            assert storage.read(name) == data

    assert race(work, 6) == []
    assert len(listed(storage, "data")) == 120


def test_adopting_takes_the_file_over(storage: Storage, tmp_path: Path) -> None:
    for name, data in {PACK: b"packed" * 1000, KEY: b"", f"index/{HASH}": b"x"}.items():
        path = staged(storage, tmp_path, data)
        assert "staged" not in "".join(listed(storage)), "a file in the staging folder was listed"
        storage.adopt(str(path), name)
        assert not path.exists()
        assert storage.read(name) == data
    assert len(listed(storage)) == 3


def test_adopting_what_is_no_file(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        storage.adopt(str(tmp_path / "nothing"), PACK)
    (tmp_path / "folder").mkdir()
    (tmp_path / "target").write_bytes(b"somebody's data")
    (tmp_path / "link").symlink_to("target")
    for odd in ("folder", "link"):
        with pytest.raises(Invalid):
            storage.adopt(str(tmp_path / odd), PACK)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"somebody's data"
    assert listed(storage) == {}


def test_deleting(storage: Storage) -> None:
    storage.write(PACK, b"pack")
    storage.delete(PACK)
    storage.delete(PACK)
    storage.delete("data")
    storage.delete(LOCK)
    assert listed(storage) == {}
    with pytest.raises(NotFound):
        storage.read(PACK)
    storage.write(PACK, b"again, longer")
    assert storage.read(PACK) == b"again, longer"


@pytest.mark.parametrize("name", BAD_NAMES + LOOKS_UNFINISHED)
def test_names_that_escape_or_would_never_be_listed_are_refused(storage: Storage, tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data")
    before = sorted(tmp_path.rglob("*"))
    attempts: list[Callable[[], object]] = [
        lambda: storage.read(name),
        lambda: storage.read_into(name, bytearray(1)),
        lambda: storage.size(name),
        lambda: storage.write(name, b"data"),
        lambda: storage.adopt(str(source), name),
        lambda: storage.delete(name),
    ]
    if name:
        attempts += [lambda: storage.list(name), lambda: storage.prepare([name])]
    for attempt in attempts:
        with pytest.raises(Invalid):
            attempt()
    assert source.read_bytes() == b"data"
    assert sorted(tmp_path.rglob("*")) == before


def test_preparing_again_harms_nothing(storage: Storage) -> None:
    storage.write(KEY, b"key")
    storage.prepare(["data", "keys", "data/ab", "snapshots"])
    assert listed(storage) == {KEY: 3}


def test_the_location_can_be_shown(storage: Storage) -> None:
    assert storage.location
    storage.location.encode("utf-8")


def test_errors_name_the_file(storage: Storage) -> None:
    with pytest.raises(HoldfastError, match=ABSENT):
        storage.read(ABSENT)


def test_read_only_looks_but_never_touches(storage: Storage, tmp_path: Path) -> None:
    storage.write(PACK, b"0123456789")
    watcher = ReadOnly(storage)
    assert watcher.traits.read_only
    assert not storage.traits.read_only
    source = tmp_path / "source"
    source.write_bytes(b"data")
    changes: list[Callable[[], object]] = [
        lambda: watcher.prepare(["data"]),
        lambda: watcher.write(KEY, b"data"),
        lambda: watcher.adopt(str(source), KEY),
        lambda: watcher.delete(PACK),
    ]
    for change in changes:
        with pytest.raises(Denied, match="read-only"):
            change()
    assert watcher.staging() is None
    assert source.exists()
    buffer = bytearray(3)
    assert watcher.read_into(PACK, buffer, 4) == 3
    assert (watcher.read(PACK, 1, 2), watcher.size(PACK), bytes(buffer)) == (b"12", 10, b"456")
    assert listed(watcher) == listed(storage) == {PACK: 10}
    assert watcher.location == storage.location


def test_a_file_that_is_named_by_no_hash_can_be_replaced(storage: Storage) -> None:
    storage.write("config", b"version 1")
    storage.replace("config", b"version 2, longer")
    assert storage.read("config") == b"version 2, longer"
    assert listed(storage) == {"config": len(b"version 2, longer")}
    storage.replace("config", b"3")
    assert storage.read("config") == b"3"


def test_replacing_makes_nothing_new_and_leaves_hashes_alone(storage: Storage) -> None:
    with pytest.raises(NotFound):
        storage.replace("config", b"x")
    storage.write(PACK, b"pack")
    with pytest.raises(Invalid):
        storage.replace(PACK, b"other")
    assert listed(storage) == {PACK: 4}
