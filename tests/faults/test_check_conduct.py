"""How a check behaves: with storages that fail or lie now and then, beside others' locks, and when it is cancelled."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.faults.crafted import READ_ALL, SECRET, STRUCTURE, Crafted, check, errors, file_node, many_packs

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Locked, Unavailable
from holdfast.kernel.events import Event, Tick
from holdfast.kernel.ids import BlobId
from holdfast.repository import Repository, layout
from holdfast.storage import LocalStorage
from holdfast.storage.base import Storage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import CheckOptions, CheckReport, Outcome, Subset

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@pytest.fixture
def crafted(tmp_path: Path) -> Crafted:
    return Crafted(LocalStorage(str(tmp_path / "vault")))


# -- storages that misbehave ------------------------------------------------------------------------------------------


class Changing:
    """Passes reads on to ``inner``, after ``change`` had its way with (name, how many times it was asked, bytes)."""

    def __init__(self, inner: Storage, change: Callable[[str, int, bytes], bytes]) -> None:
        self._inner = inner
        self._change = change
        self._asked: dict[tuple[str, int], int] = {}
        self.location = inner.location
        self.traits = inner.traits

    def begin(self, change: Callable[[str, int, bytes], bytes]) -> None:
        self._change = change
        self._asked.clear()

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._changed(name, offset, self._inner.read(name, offset, length))

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        count = self._inner.read_into(name, buffer, offset)
        memoryview(buffer)[:count] = self._changed(name, offset, bytes(memoryview(buffer)[:count]))
        return count

    def _changed(self, name: str, offset: int, data: bytes) -> bytes:
        asked = self._asked[name, offset] = self._asked.get((name, offset), 0) + 1
        changed = self._change(name, asked, data)
        return changed if len(changed) == len(data) else data


def through(crafted: Crafted, change: Callable[[str, int, bytes], bytes]) -> CheckReport:
    storage = Changing(crafted.storage, lambda _name, _asked, data: data)
    repository = Repository.open(storage, SECRET)  # type: ignore[arg-type]
    storage.begin(change)
    return check(repository, READ_ALL)


@pytest.mark.parametrize("folder", ["data", "index", "snapshots", "keys"])
def test_wrong_at_the_first_read_only(crafted: Crafted, folder: str) -> None:
    crafted.save(crafted.tree(file_node("a", 3, crafted.data(b"abc"))))

    def change(name: str, asked: int, data: bytes) -> bytes:
        return bytes(len(data)) if name.startswith(folder) and asked == 1 else data

    report = through(crafted, change)
    assert report.outcome is Outcome.OK
    assert report.damage
    assert all(damage.severity == "hint" and "correct at the second read" in damage.message for damage in report.damage)


def test_a_file_that_the_disk_refuses(crafted: Crafted) -> None:
    content = crafted.data(b"abc")
    (snapshot,) = crafted.save(crafted.tree(file_node("a", 3, content)))
    crafted.repository.load_index()
    place = crafted.repository.index.place(BlobId(content))
    assert place is not None
    bad = layout.name_of(layout.DATA, place.pack)

    def change(name: str, _asked: int, data: bytes) -> bytes:
        if name == bad:
            raise Unavailable("input/output error")
        return data

    (damage,) = errors(through(crafted, change))
    assert damage.kind == "pack.unreadable"
    assert "input/output error" in damage.message
    assert damage.files == (f"{snapshot}:/a",)


def test_a_place_that_is_gone_is_no_damage(crafted: Crafted) -> None:
    crafted.save(crafted.tree(file_node("a", 3, crafted.data(b"abc"))))

    def change(name: str, _asked: int, data: bytes) -> bytes:
        if name.startswith("data/"):
            shutil.rmtree(crafted.storage.location, ignore_errors=True)
            raise Unavailable("the disk was unplugged")
        return data

    with pytest.raises(Unavailable):
        through(crafted, change)


# -- locks and ending -------------------------------------------------------------------------------------------------


def locks_of(crafted: Crafted) -> list[str]:
    return [info.name for _, info in layout.listing(crafted.storage, layout.LOCKS)]


def test_others_go_on_meanwhile_but_nobody_deletes(crafted: Crafted) -> None:
    crafted.save(crafted.tree())
    seen: list[str] = []

    def emit(event: Event) -> None:
        with crafted.repository.locks.hold(exclusive=False):
            seen.append("shared")
        with pytest.raises(Locked), crafted.repository.locks.hold(exclusive=True):
            pass

    ArchiveVault(crafted.repository).check(STRUCTURE, emit=emit, cancel=Cancel())
    assert seen
    assert locks_of(crafted) == []
    with crafted.repository.locks.hold(exclusive=True), pytest.raises(Locked):
        crafted.check()


def test_without_lock_nothing_is_written(crafted: Crafted) -> None:
    crafted.save(crafted.tree())
    before = sorted(info.name for info in crafted.storage.list(""))

    def emit(_event: Event) -> None:
        assert sorted(info.name for info in crafted.storage.list("")) == before

    with crafted.repository.locks.hold(exclusive=True):
        before = sorted(info.name for info in crafted.storage.list(""))
        vault = ArchiveVault(crafted.repository, no_lock=True)
        assert vault.check(STRUCTURE, emit=emit, cancel=Cancel()).damage == []


def test_stale_lock_is_a_hint(crafted: Crafted) -> None:
    crafted.save(crafted.tree())
    child = os.fork()
    if child == 0:
        with crafted.repository.locks.hold(exclusive=False):
            os._exit(0)
    os.waitpid(child, 0)
    report = crafted.check()
    assert report.outcome is Outcome.OK
    assert [(damage.kind, damage.severity) for damage in report.damage] == [("lock.stale", "hint")]


def test_unreadable_lock_is_damage_and_the_rest_is_checked(crafted: Crafted) -> None:
    crafted.save(crafted.tree(file_node("a", 1)))
    crafted.storage.write(layout.name_of(layout.LOCKS, sha256(b"x").digest()), b"not a lock at all, " * 3)
    assert [damage.kind for damage in errors(crafted.check())] == ["lock.corrupt", "file.size"]


@pytest.mark.parametrize("workers", [0, 2])
def test_cancelled(crafted: Crafted, workers: int) -> None:
    many_packs(crafted)
    cancel = Cancel()

    def emit(event: Event) -> None:
        if isinstance(event, Tick) and event.phase == "packs":
            cancel.cancel("enough")

    with pytest.raises(Cancelled, match="enough"):
        ArchiveVault(crafted.repository).check(CheckOptions(Subset(), workers=workers), emit=emit, cancel=cancel)
    assert locks_of(crafted) == []


def test_many_workers_find_the_same(crafted: Crafted) -> None:
    many_packs(crafted)
    packs = [path for path in Path(crafted.storage.location, "data").rglob("*") if path.is_file()]
    for path in sorted(packs)[:9]:
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-50])
    alone, together = crafted.check(READ_ALL), crafted.check(CheckOptions(Subset(), workers=3))
    assert errors(alone)
    assert sorted(map(repr, alone.damage)) == sorted(map(repr, together.damage))
