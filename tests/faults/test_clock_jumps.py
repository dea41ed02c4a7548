"""Clocks that jump in the middle of the work: nothing is lost, and nobody's lock is taken for a dead one's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.archivekit import SECRET, files, new_vault, on_disk, open_vault, save
from tests.faults.faulty import Faulty

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import Locked
from holdfast.kernel.events import Event, ignore
from holdfast.repository import Repository
from holdfast.storage import LocalStorage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.prune import PruneOptions, Tolerance, prune
from holdfast.vaults.base import CheckOptions, Subset
from holdfast.vaults.retention import Policy, ahead_of_time, plan

HOUR = 3600 * 1_000_000_000
JUMPS = [-400 * 24 * HOUR, -2 * HOUR, 2 * HOUR, 3 * 24 * HOUR]


class Jumping(SystemClock):
    """The machine's clock, wrong by ``offset`` nanoseconds from :meth:`jump` on. The steady clock goes on."""

    def __init__(self) -> None:
        self.offset = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.offset


def vault_with(place: Path, clock: Jumping) -> ArchiveVault:
    return ArchiveVault(Repository.open(LocalStorage(str(place)), SECRET, clock=clock, username="tester"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for number in range(20):
        path = folder / f"d{number % 3}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(3000))
    return folder


@pytest.mark.parametrize("jump", JUMPS)
def test_a_backup_during_which_the_clock_jumps(tmp_path: Path, source: Path, jump: int) -> None:
    new_vault(tmp_path / "vault")
    clock = Jumping()
    vault = vault_with(tmp_path / "vault", clock)

    def leap(_event: Event) -> None:
        clock.offset = jump

    first = save(vault, source, emit=leap)
    (source / "more").write_bytes(b"more")
    second = save(vault_with(tmp_path / "vault", Jumping()), source)
    assert {first.snapshot, second.snapshot} == {info.id for info in open_vault(tmp_path / "vault").snapshots()}
    assert files(open_vault(tmp_path / "vault"), source, second.snapshot) == on_disk(source)
    report = open_vault(tmp_path / "vault").check(
        CheckOptions(read_data=Subset(), workers=0), emit=ignore, cancel=Cancel()
    )
    assert report.damage == []


@pytest.mark.parametrize("jump", JUMPS)
def test_the_lock_of_a_living_process_holds_however_late_it_seems_to_be(tmp_path: Path, jump: int) -> None:
    new_vault(tmp_path / "vault")
    clock = Jumping()
    other = vault_with(tmp_path / "vault", clock)
    with open_vault(tmp_path / "vault").repository.locks.hold(exclusive=False):
        clock.offset = jump
        assert other.repository.locks.remove_stale() == []
        assert [lock.is_stale for lock in other.repository.locks.held()] == [False]
        with pytest.raises(Locked), other.repository.locks.hold(exclusive=True):
            raise AssertionError("it was taken")


@pytest.mark.parametrize("jump", JUMPS)
def test_a_prune_during_which_the_clock_jumps_keeps_everything(tmp_path: Path, source: Path, jump: int) -> None:
    vault = new_vault(tmp_path / "vault")
    gone = save(vault, source).snapshot
    for number in range(10):
        (source / f"new{number}").write_bytes(os.urandom(2000))
        (source / f"d{number % 3}" / f"f{number}").unlink()
    kept = save(open_vault(tmp_path / "vault"), source).snapshot
    assert gone is not None
    open_vault(tmp_path / "vault").repository.delete_unpacked("snapshots", gone)
    clock = Jumping()

    def leap(_event: Event) -> None:
        clock.offset = jump

    options = PruneOptions(max_unused=Tolerance(size=0), workers=0)
    prune(vault_with(tmp_path / "vault", clock).repository, options, emit=leap, cancel=Cancel())
    assert files(open_vault(tmp_path / "vault"), source, kept) == on_disk(source)


def test_a_snapshot_of_the_future_keeps_a_policy_from_choosing(tmp_path: Path, source: Path) -> None:
    new_vault(tmp_path / "vault")
    clock = Jumping()
    clock.offset = 3 * 24 * HOUR
    save(vault_with(tmp_path / "vault", clock), source)
    save(vault_with(tmp_path / "vault", Jumping()), source)
    infos = open_vault(tmp_path / "vault").snapshots()
    now = SystemClock().now_ns()
    assert len(ahead_of_time(infos, now)) == 1
    made = plan(infos, Policy(last=1), now_ns=now, local_offset=lambda _at: 0)
    assert len(made.remove) == 1  # what would happen: the command asks ahead_of_time first and refuses


def test_a_clock_that_went_back_does_not_break_off_the_renewal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.repository.locks.RENEW_SECONDS", 0.01)
    new_vault(tmp_path / "vault")
    clock = Jumping()
    storage = Faulty(LocalStorage(str(tmp_path / "vault")))
    repository = Repository.open(storage, SECRET, clock=clock, username="tester")
    with repository.locks.hold(exclusive=False) as lock:
        first = lock.id
        clock.offset = -5 * HOUR
        lock.start_renewing()
        while lock.id == first:
            clock.sleep(0.01)
        lock.confirm()
    assert list((tmp_path / "vault" / "locks").iterdir()) == []
