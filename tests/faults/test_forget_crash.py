"""Forget and tag, killed, or with a storage that fails, at every step: a part is done, and nothing else has changed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.archivekit import SECRET, new_vault, open_vault, save
from tests.faults.faulty import Faulty, Killing, Late, in_child

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Denied, Locked, Unavailable
from holdfast.kernel.events import Event, Fact, ignore
from holdfast.repository import Repository
from holdfast.storage import LocalStorage, Storage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.forget import forget
from holdfast.vaults.archive.tag import retag
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.retention import Policy, plan
from holdfast.vaults.tags import TagChange, plan_rewrites

if TYPE_CHECKING:
    pass

SNAPSHOTS = 4


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A vault with four snapshots."""
    source = tmp_path / "source"
    source.mkdir()
    vault = new_vault(tmp_path / "template")
    for number in range(SNAPSHOTS):
        (source / "file").write_text(f"version {number}")
        save(vault, source, tags=("numbered",))
    return tmp_path / "template"


def forget_first_three(storage: Storage) -> None:
    vault = open_vault(storage)
    going = [snapshot.id for snapshot in vault.snapshots()[:-1]]
    with vault.repository.locks.hold(exclusive=True) as lock:
        forget(vault.repository, going, lock, emit=ignore, cancel=Cancel())


def tag_all(storage: Storage) -> None:
    vault = open_vault(storage)
    with vault.repository.locks.hold(exclusive=True) as lock:
        snapshots = vault.snapshots()
        rewrites = plan_rewrites(snapshots, snapshots, TagChange(add=("kept",)).apply)
        retag(vault.repository, rewrites, lock, emit=ignore, cancel=Cancel())


def snapshots_of(place: Path) -> list[SnapshotInfo]:
    return list(open_vault(place).snapshots())


def is_sound(need: Callable[[str], str], place: Path) -> None:
    """restic finds nothing wrong, and every snapshot can be read in full."""
    command = [need("restic"), "-r", str(place), "--no-cache", "--no-lock", "check", "--read-data"]
    environment = {**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def every_fault(template: Path, work: Callable[[Storage], None], tmp_path: Path) -> list[Path]:
    """A copy of the vault for each way in which ``work`` may end early."""
    damaged: list[Path] = []

    def copy() -> Path:
        place = tmp_path / f"vault {len(damaged)}"
        shutil.copytree(template, place)
        damaged.append(place)
        return place

    counting = Killing(LocalStorage(str(copy())), at=0)
    work(counting)
    for at in range(1, counting.changes + 1):
        for after in (False, True):
            place = copy()
            killing = Killing(LocalStorage(str(place)), at, after=after)
            assert in_child(partial(work, killing)) == -9
    calls = Faulty(LocalStorage(str(copy())))
    work(calls)
    for at, (method, _) in enumerate(calls.calls, start=1):
        for kind in (Faulty, Late) if method in ("write", "delete") else (Faulty,):
            storage = kind(LocalStorage(str(copy())), at)
            # In a child of its own: where the lock could not be deleted, its process is gone then, as in life.
            assert in_child(partial(_until_it_fails, work, storage)) == 0
    return damaged


def _until_it_fails(work: Callable[[Storage], None], storage: Storage) -> None:
    with contextlib.suppress(Unavailable):
        work(storage)


def test_a_forget_that_ends_early_has_deleted_a_part_and_can_be_repeated(
    template: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    before = snapshots_of(template)
    places = every_fault(template, forget_first_three, tmp_path)
    assert len(places) > 15
    for place in places:
        left = snapshots_of(place)
        assert left == before[-len(left) :]  # oldest first: what is left is always the newer part
        # The lock of a dead process is in the way of nobody who tells of it.
        open_vault(place).repository.locks.remove_stale()
        forget_first_three(LocalStorage(str(place)))
        assert snapshots_of(place) == before[-1:]
    is_sound(need, places[3])


def test_a_tag_that_ends_early_loses_no_version_and_can_be_repeated(
    template: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    before = snapshots_of(template)
    places = every_fault(template, tag_all, tmp_path)
    for place in places:
        found = snapshots_of(place)
        assert {(s.tree, s.time) for s in found} == {(s.tree, s.time) for s in before}
        assert len(found) <= SNAPSHOTS + 1
        open_vault(place).repository.locks.remove_stale()
        tag_all(LocalStorage(str(place)))
        after = snapshots_of(place)
        assert [(s.tree, s.time, s.tags) for s in after] == [(s.tree, s.time, ("numbered", "kept")) for s in before]
        assert [s.original for s in after] == [s.id for s in before]
    is_sound(need, places[3])


def test_forget_clears_what_a_dead_tag_left_without_counting_it(template: Path, tmp_path: Path) -> None:
    def tag_and_die() -> None:
        # The first snapshot's new version is the second change, after the lock.
        tag_all(Killing(LocalStorage(str(template)), 2, after=True))

    assert in_child(tag_and_die) == -9
    snapshots = snapshots_of(template)
    assert len(snapshots) == SNAPSHOTS + 1
    made = plan(snapshots, Policy(last=SNAPSHOTS), now_ns=snapshots[-1].time_ns, local_offset=lambda _: 0, group_by=())
    assert [s.tags for s in made.remove] == [("numbered",)]


def test_deleting_stops_between_two_snapshots_when_it_is_cancelled(template: Path) -> None:
    vault = open_vault(template)
    cancel = Cancel()
    facts: list[Event] = []

    class StopAfterOne:
        def __init__(self, inner: Storage) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        def delete(self, name: str) -> None:
            self._inner.delete(name)
            if name.startswith("snapshots/"):
                cancel.cancel()

    vault.repository.storage = StopAfterOne(vault.repository.storage)  # type: ignore[assignment]
    with pytest.raises(Cancelled), vault.repository.locks.hold(exclusive=True) as lock:
        forget(vault.repository, [s.id for s in vault.snapshots()], lock, emit=facts.append, cancel=cancel)
    assert len(snapshots_of(template)) == SNAPSHOTS - 1
    assert [fact.kind for fact in facts if isinstance(fact, Fact)] == ["snapshot.forgotten"]


def test_nothing_is_deleted_once_the_lock_was_taken_away(template: Path) -> None:
    vault = open_vault(template)
    with pytest.raises(Locked, match="removed by somebody"), vault.repository.locks.hold(exclusive=True) as lock:
        vault.repository.locks.remove(lock.id)
        forget(vault.repository, [s.id for s in vault.snapshots()], lock, emit=ignore, cancel=Cancel())
    assert len(snapshots_of(template)) == SNAPSHOTS


def test_deletions_of_a_remote_vault_run_beside_each_other(template: Path) -> None:
    """Eight at a time, as the storage asks for; and one that is refused ends it with its own error."""

    class Remote(Faulty):
        def __init__(self, inner: Storage, fail_at: int = 0) -> None:
            super().__init__(inner)
            self.traits = type(inner.traits)(
                **{**{name: getattr(inner.traits, name) for name in inner.traits.__slots__}, "connections": 8}
            )
            self._left = fail_at

        def delete(self, name: str) -> None:
            if name.startswith("snapshots/"):
                self._left -= 1
                if self._left == 0:
                    raise Denied("this one may not be deleted")
            super().delete(name)

    def run(storage: Storage) -> None:
        vault = ArchiveVault(Repository.open(storage, SECRET))
        with vault.repository.locks.hold(exclusive=True) as lock:
            forget(vault.repository, [s.id for s in vault.snapshots()][:3], lock, emit=ignore, cancel=Cancel())

    with pytest.raises(Denied):
        run(Remote(LocalStorage(str(template)), fail_at=2))
    run(Remote(LocalStorage(str(template))))
    assert len(snapshots_of(template)) <= 2
