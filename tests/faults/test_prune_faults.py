"""A prune that is killed, failed or cancelled at any step loses nothing, and the next one finishes its work."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.faults.faulty import Faulty, Killing, Late, in_child
from tests.prunekit import THOROUGH, Used, run, used_vault

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, HoldfastError, Internal, Locked
from holdfast.storage import LocalStorage

CHANGES = ("write", "adopt", "delete")


def calls_of(used: Used, place: Path) -> list[str]:
    """The methods that a whole prune calls, in order."""
    counting = Faulty(LocalStorage(str(used.copy(place).place)))
    run(counting)
    return [method for method, _ in counting.calls]


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Used:
    return used_vault(tmp_path_factory.mktemp("used"))


def remove_own_locks(broken: Used) -> None:
    """This very process could not remove them; that it lives on protects them."""
    for lock in (broken.place / "locks").iterdir():
        lock.unlink()


def finish(broken: Used, restic: str) -> None:
    """What must hold after any accident."""
    broken.assert_whole(restic)
    run(broken.place)
    broken.assert_whole(None)
    broken.assert_clean()


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_change(used: Used, after: bool, tmp_path: Path, need: Callable[[str], str]) -> None:
    restic = need("restic")
    steps = sum(method in CHANGES for method in calls_of(used, tmp_path / "count"))
    assert steps > 15
    for step in range(1, steps + 1):
        broken = used.copy(tmp_path / "broken")

        def work(step: int = step, broken: Used = broken) -> None:
            run(Killing(LocalStorage(str(broken.place)), step, after=after))

        assert in_child(work) == -signal.SIGKILL, step
        finish(broken, restic)


@pytest.mark.parametrize("kind", [Faulty, Late])
def test_every_call_fails_in_turn(used: Used, kind: type[Faulty], tmp_path: Path, need: Callable[[str], str]) -> None:
    restic = need("restic")
    methods = calls_of(used, tmp_path / "count")
    for number, method in enumerate(methods, 1):
        if kind is Late and method not in CHANGES:
            continue
        broken = used.copy(tmp_path / "broken")
        storage = kind(LocalStorage(str(broken.place)), number)
        try:
            run(storage)
        except Locked:
            assert storage.calls[number - 1][1].startswith("locks/")  # its own lock could not be removed
        except HoldfastError as error:
            assert error.message == "the storage failed on purpose", (number, method)
        remove_own_locks(broken)
        finish(broken, restic)


def test_a_storage_that_goes_away_for_good(used: Used, tmp_path: Path, need: Callable[[str], str]) -> None:
    restic = need("restic")
    for number in range(1, len(calls_of(used, tmp_path / "count")) + 1, 3):
        broken = used.copy(tmp_path / "broken")
        with contextlib.suppress(HoldfastError):  # at the very end only the lock stays
            run(Faulty(LocalStorage(str(broken.place)), number, lasting=True))
        remove_own_locks(broken)
        finish(broken, restic)


def test_cancelled_at_any_moment(used: Used, tmp_path: Path, need: Callable[[str], str]) -> None:
    restic = need("restic")
    done = moment = 0
    while not done:
        moment += 1
        broken = used.copy(tmp_path / "broken")
        cancel = Cancel()

        class Stop(list[object]):
            def append(self, event: object, cancel: Cancel = cancel, moment: int = moment) -> None:
                super().append(event)
                if len(self) == moment:
                    cancel.cancel("enough")

        try:
            run(broken.place, events=Stop(), cancel=cancel)  # type: ignore[arg-type]
            done = 1
        except Cancelled as error:
            assert str(error) == "enough"
        finish(broken, restic)
    assert moment > 8


class KillingWorkers(Killing):
    """Kills the processes that a prune forks, not the one that prunes."""

    def _change(self, make: Callable[..., None], *arguments: Any) -> None:
        if os.getpid() == owner:
            make(*arguments)
        else:
            super()._change(make, *arguments)


owner = os.getpid()


def test_a_worker_that_is_killed_costs_nothing(
    used: Used, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, need: Callable[[str], str]
) -> None:
    monkeypatch.setattr("holdfast.repository.packer.TARGET_SIZE", 2000)
    broken = used.copy(tmp_path / "broken")
    with pytest.raises(Internal, match="worker process died"):
        run(KillingWorkers(LocalStorage(str(broken.place)), 1), replace(THOROUGH, workers=2))
    finish(broken, need("restic"))
