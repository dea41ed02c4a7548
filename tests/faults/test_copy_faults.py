"""A copy that is killed or fails at any step harms neither vault, and the next one finishes it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.archivekit import SECRET, files, new_vault, open_vault
from tests.copykit import Versions, bring
from tests.faults.faulty import Faulty, Killing, Late, in_child

from holdfast.kernel.errors import Unavailable
from holdfast.storage import LocalStorage


@pytest.fixture(autouse=True)
def many_small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several packs and interim indexes from little data."""
    monkeypatch.setattr("holdfast.repository.packer.TARGET_SIZE", 150_000)
    monkeypatch.setattr("holdfast.repository.packer.BATCH", 50_000)
    monkeypatch.setattr("holdfast.repository.writer.INTERIM_BLOBS", 8)


def assert_sound(there: Versions, target: Path, restic: str | None) -> None:
    """What the target lists is whole, restic finds nothing wrong, and the next copy brings everything."""
    vault = open_vault(target)
    for identifier, snapshot in vault.repository.snapshots():
        assert snapshot.original is not None
        assert files(vault, there.folder, identifier) == there.contents[snapshot.original]
    vault.repository.locks.remove_stale()
    if restic:
        done = subprocess.run(
            [restic, "-r", str(target), "--no-cache", "check", "--read-data"],
            env={**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode()},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    bring(there.place, target)
    there.assert_copied(open_vault(target))


def remove_own_locks(place: Path) -> None:
    """This very process could not remove them; that it lives on protects them."""
    for lock in (place / "locks").iterdir():
        lock.unlink()


def test_killed_at_every_durable_step(tmp_path: Path, need: Callable[[str], str]) -> None:
    restic = need("restic")
    there = Versions(tmp_path)
    new_vault(tmp_path / "count")
    counting = Faulty(LocalStorage(str(tmp_path / "count")))
    bring(there.place, counting)
    steps = sum(method in ("write", "adopt", "delete") for method, _ in counting.calls)
    assert steps >= 10
    for step in range(1, steps + 1):
        target = tmp_path / f"step{step}"
        new_vault(target)

        def work(target: Path = target, step: int = step) -> None:
            bring(there.place, Killing(LocalStorage(str(target)), step, after=step % 2 == 0))

        assert in_child(work) == -signal.SIGKILL
        open_vault(there.place).repository.locks.remove_stale()
        assert_sound(there, target, restic if step % 3 == 0 else None)


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("kind", [Faulty, Late])
def test_every_call_to_the_target_fails_in_turn(
    tmp_path: Path, kind: type[Faulty], lasting: bool, need: Callable[[str], str]
) -> None:
    restic = need("restic")
    there = Versions(tmp_path)
    new_vault(tmp_path / "count")
    counting = Faulty(LocalStorage(str(tmp_path / "count")))
    bring(there.place, open_vault(counting))
    for number in range(3, len(counting.calls) + 1):
        target = tmp_path / f"call{number}"
        new_vault(target)
        failing = kind(LocalStorage(str(target)), number, Unavailable("gone for a moment"), lasting=lasting)
        with contextlib.suppress(Unavailable):
            bring(there.place, failing)
        remove_own_locks(target)
        assert_sound(there, target, restic)


def test_every_call_to_the_source_fails_in_turn(tmp_path: Path) -> None:
    there = Versions(tmp_path)
    counting = Faulty(LocalStorage(str(there.place)))
    bring(counting, new_vault(tmp_path / "count"))
    for number in range(3, len(counting.calls) + 1):
        target = tmp_path / f"call{number}"
        new_vault(target)
        failing = Faulty(LocalStorage(str(there.place)), number, Unavailable("gone for a moment"))
        with contextlib.suppress(Unavailable):
            bring(failing, target)
        assert_sound(there, target, None)
