"""Repairs that are killed, or whose storage fails, at any step: nothing gets worse, and the next repair finishes."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.faults.faulty import Faulty, Killing, in_child
from tests.repairkit import WHOLE, Patient, flip, healthy_vault, patient_vault, rewrite_file  # noqa: F401

from holdfast.format.pack import BlobType
from holdfast.kernel.errors import HoldfastError, Unavailable
from holdfast.storage import LocalStorage, Storage
from holdfast.vaults.base import Outcome

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Mend = Callable[..., object]


def _bad_index(patient: Patient) -> None:
    first, second = sorted((patient.folder / "index").iterdir())[:2]
    rewrite_file(first, flip(30))
    second.unlink()
    patient.packs(BlobType.DATA)[-1].unlink()


def _bad_packs(patient: Patient) -> None:
    data = patient.packs(BlobType.DATA)
    data[0].unlink()
    rewrite_file(data[1], WHOLE["garbage behind"])
    rewrite_file(data[2], flip(20))
    rewrite_file(patient.packs(BlobType.TREE)[0], WHOLE["last byte"])


def _bad_snapshots(patient: Patient) -> None:
    packs = patient.packs(BlobType.DATA)
    for path in (packs[0], packs[-1], patient.packs(BlobType.TREE)[-1]):
        path.unlink()
    patient.mend_index()


def _no_snapshots(patient: Patient) -> None:
    for path in (patient.folder / "snapshots").iterdir():
        path.unlink()


def _heal(patient: Patient, **options: object) -> object:
    return patient.mend_packs(other=patient.folder.parent / "twin", **options)  # type: ignore[arg-type]


CASES: dict[str, tuple[Callable[[Patient], None], Mend]] = {
    "index": (_bad_index, Patient.mend_index),
    "packs": (_bad_packs, Patient.mend_packs),
    "heal": (_bad_packs, _heal),
    "snapshots": (_bad_snapshots, lambda patient, **options: patient.mend_snapshots(forget=True, **options)),
    "recover": (_no_snapshots, Patient.recover),
}


class Unheard(Faulty):
    """As ``Faulty``, but the change that fails has been made: only the answer is lost."""

    def write(self, name: str, data: ReadableBuffer) -> None:
        self._late("write", name, lambda: self._inner.write(name, data))

    def adopt(self, path: str, name: str) -> None:
        self._late("adopt", name, lambda: self._inner.adopt(path, name))

    def delete(self, name: str) -> None:
        self._late("delete", name, lambda: self._inner.delete(name))

    def _late(self, method: str, name: str, change: Callable[[], None]) -> None:
        if len(self.calls) + 1 == self._fail_at:
            change()
        self._count(method, name)
        change()


class Case:
    """A damaged vault, what is restorable of it, and the repair that is to be disturbed."""

    def __init__(self, name: str, healthy: Patient, root: Path) -> None:
        self.name = name
        self.root = root
        damage, self.mend = CASES[name]
        shutil.copytree(healthy.folder, root / "twin")
        self.damaged = healthy.copy(root / "damaged")
        damage(self.damaged)
        self.before = self.damaged.restorable()
        whole = self.damaged.copy(root / "whole")
        self.calls = Faulty(LocalStorage(str(whole.folder)))
        self.mend(whole, storage=self.calls)
        self.opening = Faulty(LocalStorage(str(whole.folder)))
        whole.open(self.opening)
        self.after = set(map(str, whole.restorable().values()))

    def attempt(self, number: int, storage: Callable[[LocalStorage], Storage]) -> tuple[Patient, Storage]:
        treated = self.damaged.copy(self.root / f"attempt {number}")
        return treated, storage(LocalStorage(str(treated.folder)))

    def assert_next_repair_finishes(self, treated: Patient) -> None:
        treated.assert_no_worse_than(self.before)
        for lock in (treated.folder / "locks").iterdir():  # of a process that is gone, or that could not delete it
            lock.unlink()
        self.mend(treated)
        treated.assert_no_worse_than(self.before)
        again = self.mend(treated)
        assert again.outcome is Outcome.OK or self.name == "packs"  # type: ignore[attr-defined]
        # As good as without the disturbance (recovered snapshots differ in their time, so in the root's name only).
        if self.name != "recover":
            assert set(map(str, treated.restorable().values())) == self.after
        shutil.rmtree(treated.folder)


@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_change(healthy: Patient, tmp_path: Path, need: Callable[[str], str], name: str) -> None:
    restic = need("restic")
    case = Case(name, healthy, tmp_path)
    steps = sum(method in ("write", "adopt", "delete", "prepare") for method, _ in case.calls.calls)
    assert steps >= 4
    for step in range(1, steps + 1):
        for after in (False, True):
            if after and step % 2:
                continue
            treated, storage = case.attempt(
                2 * step + after, lambda inner, step=step, after=after: Killing(inner, step, after=after)
            )
            assert (
                in_child(lambda treated=treated, storage=storage: case.mend(treated, storage=storage))
                == -signal.SIGKILL
            )
            if step == steps and not after and name in ("heal", "snapshots"):
                treated.open().locks.remove_stale()
                case.mend(treated)
                checked = treated.restic(restic, "check", "--read-data")
                assert checked.returncode == 0, checked.stderr
            case.assert_next_repair_finishes(treated)


@pytest.mark.parametrize("name", CASES)
def test_every_storage_call_fails_in_turn(healthy: Patient, tmp_path: Path, name: str) -> None:
    case = Case(name, healthy, tmp_path)
    first, last = len(case.opening.calls) + 1, len(case.calls.calls)
    changes = [at for at, call in enumerate(case.calls.calls, 1) if call[0] in ("write", "adopt", "delete")]
    ways: dict[str, Callable[[LocalStorage, int], Storage]] = {
        "for good": lambda inner, number: Faulty(inner, number, Unavailable("gone"), lasting=True),
        "once": lambda inner, number: Faulty(inner, number, Unavailable("gone for a moment")),
        "unheard": lambda inner, number: Unheard(inner, number, Unavailable("no answer")),
    }
    # Every change, and a sample of the reads: one read is like the next.
    for number in sorted({*changes, *range(first, last + 1, 1 + (last - first) // 12)}):
        for at, way in enumerate(ways.values()):
            if number < first or (at and number not in changes):
                continue
            treated, storage = case.attempt(
                len(ways) * number + at, lambda inner, way=way, number=number: way(inner, number)
            )
            with contextlib.suppress(HoldfastError):
                case.mend(treated, storage=storage)
            case.assert_next_repair_finishes(treated)


@pytest.mark.parametrize("name", CASES)
def test_a_place_that_goes_away_is_not_taken_for_damage(healthy: Patient, tmp_path: Path, name: str) -> None:
    """From any call on nothing answers: that is told as such, and nothing is given up for lost."""
    case = Case(name, healthy, tmp_path)
    first, last = len(case.opening.calls) + 1, len(case.calls.calls)
    for number in range(first, last, max(1, (last - first) // 8)):
        treated, storage = case.attempt(
            number, lambda inner, number=number: Faulty(inner, number, Unavailable("no answer"), lasting=True)
        )
        with pytest.raises(Unavailable):
            case.mend(treated, storage=storage)
        treated.assert_no_worse_than(case.before)
