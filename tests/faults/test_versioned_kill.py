"""A backup into a versioned vault, and a prune of one, killed before each of its changes to the disk in turn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.versionedkit import bring_back, check, new_vault, save, state

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import ignore
from holdfast.vaults.base import Outcome
from holdfast.vaults.versioned import VersionedVault, draft

CHANGING = ("rename", "unlink", "rmdir", "mkdir", "symlink", "fsync", "write", "pwrite", "fchmod", "utime")
STRIDE = 5
"""Every fifth step dies in one run of the suite, another fifth in each case: all of them together."""


@pytest.fixture(autouse=True)
def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extension's calls, which do in one what these tests break into."""
    monkeypatch.setattr("holdfast.files.small._native", None)


def killed_at(step: int, work: Callable[[], object], changing: Sequence[str] = CHANGING) -> bool:
    """Do ``work`` in a process of its own that dies without warning before its change number ``step``, which is a
    call of one of the functions ``changing`` of ``os``.

    Returns whether it lived long enough to end.
    """
    child = os.fork()
    if child == 0:
        left = [step]

        def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return function(*arguments, **named)

            return call

        try:
            for name in changing:
                setattr(os, name, deadly(getattr(os, name)))
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), f"the run failed by itself: {code}"
    return code == 0


def before(source: Path) -> None:
    (source / "sub/deep").mkdir(parents=True)
    (source / "text").write_text("".join(f"line {number}\n" for number in range(100)))
    (source / "sub/binary").write_bytes(bytes(range(256)))
    (source / "sub/deep/gone").write_text("gone\n")
    (source / "becomes").mkdir()
    (source / "becomes/inner").write_text("inner")
    (source / "became").write_text("a file")


def after(source: Path) -> None:
    (source / "text").write_text("".join(f"line {number}\n" for number in range(100) if number != 50))
    (source / "sub/binary").write_bytes(bytes(range(255, -1, -1)))
    shutil.rmtree(source / "sub/deep")
    shutil.rmtree(source / "becomes")
    (source / "becomes").write_text("a file now")
    (source / "became").unlink()
    (source / "became").mkdir()
    (source / "became/inside").write_text("inside")
    (source / "link").symlink_to("text")


@pytest.mark.parametrize("offset", range(STRIDE))
def test_a_killed_backup_leaves_the_old_state_or_the_new_one(tmp_path: Path, offset: int) -> None:
    source, pristine = tmp_path / "source", tmp_path / "pristine"
    source.mkdir()
    before(source)
    save(new_vault(pristine), source)
    first = state(source)
    after(source)
    second = state(source)
    step = offset
    ended = False
    while not ended:
        place = tmp_path / "vault"
        shutil.copytree(pristine, place, symlinks=True)
        vault = VersionedVault.open(os.fsencode(place))
        ended = killed_at(step, lambda: save(vault, source))  # noqa: B023
        snapshots = vault.snapshots()  # finishes what can be finished
        report = check(vault)
        assert report.outcome == Outcome.OK, (step, report.damage)
        here = state(str(place) + str(source))
        assert here == (second if len(snapshots) == 2 else first), step
        assert list((place / ".holdfast/staging").iterdir()) == []
        summary = save(vault, source)
        assert summary.outcome == Outcome.OK
        assert check(vault).damage == [], step
        for snapshot, wanted in zip(vault.snapshots(), (first, second), strict=True):
            out = tmp_path / "out"
            assert bring_back(vault, out, source, snapshot).problems == []
            assert state(out) == wanted, step
            shutil.rmtree(out)
        shutil.rmtree(place)
        step += STRIDE
    assert step > 8 * STRIDE, "too few steps were seen for this to mean anything"


def test_a_killed_backup_of_many_steps_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft, "MOST_CHANGES", 2)
    source, pristine = tmp_path / "source", tmp_path / "pristine"
    source.mkdir()
    before(source)
    save(new_vault(pristine), source)
    states = [state(source)]
    after(source)
    states.append(state(source))
    ended, step = False, 0
    while not ended:
        place = tmp_path / "vault"
        shutil.copytree(pristine, place, symlinks=True)
        vault = VersionedVault.open(os.fsencode(place))
        ended = killed_at(step, lambda: save(vault, source))  # noqa: B023
        assert check(vault).outcome == Outcome.OK, step
        assert save(vault, source).outcome == Outcome.OK
        assert check(vault).damage == [], step
        assert state(str(place) + str(source)) == states[1]
        for snapshot, wanted in zip(vault.snapshots(), states, strict=True):
            out = tmp_path / "out"
            assert bring_back(vault, out, source, snapshot).problems == []
            assert state(out) == wanted, step
            shutil.rmtree(out)
        shutil.rmtree(place)
        step += 3


def test_a_killed_first_backup_is_gone_on_with(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    before(source)
    ended, step = False, 0
    while not ended:
        vault = new_vault(tmp_path / f"vault{step}")
        ended = killed_at(step, lambda vault=vault: save(vault, source))  # type: ignore[misc]
        assert save(vault, source).outcome == Outcome.OK
        assert check(vault).damage == []
        assert state(vault.location + str(source)) == state(source)
        shutil.rmtree(vault.location)
        step += 7


@pytest.mark.parametrize("offset", range(2))
def test_a_killed_prune_loses_no_kept_state(tmp_path: Path, offset: int) -> None:
    source, pristine = tmp_path / "source", tmp_path / "pristine"
    source.mkdir()
    before(source)
    states = {}
    vault = new_vault(pristine)
    for change in (lambda: None, lambda: after(source), lambda: (source / "text").write_text("other\n")):
        change()
        newest = save(vault, source).snapshot
        assert newest is not None
        states[bytes(newest)] = state(source)
    middle = vault.snapshots()[1].id
    ended, step = False, offset
    while not ended:
        place = tmp_path / "vault"
        shutil.copytree(pristine, place, symlinks=True)
        opened = VersionedVault.open(os.fsencode(place))
        ended = killed_at(step, lambda: opened.forget([middle], emit=ignore, cancel=Cancel()))  # noqa: B023
        report = check(opened)
        assert report.outcome == Outcome.OK, (step, report.damage)
        for snapshot in opened.snapshots():
            out = tmp_path / "out"
            assert bring_back(opened, out, source, snapshot).problems == []
            assert state(out) == states[snapshot.id], step
            shutil.rmtree(out)
        opened.forget([middle], emit=ignore, cancel=Cancel())
        assert len(opened.snapshots()) == 2
        assert check(opened).damage == [], step
        shutil.rmtree(place)
        step += 2


def test_a_full_disk_ends_the_run_and_the_vault_stays_as_it_was(tmp_path: Path) -> None:
    import resource

    source = tmp_path / "source"
    source.mkdir()
    before(source)
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    first = state(source)
    (source / "big").write_bytes(bytes(1000) * 4000)
    child = os.fork()
    if child == 0:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # what a disk that fills up looks like
        from holdfast.kernel.errors import HoldfastError

        try:
            save(vault, source)
        except HoldfastError as error:
            os._exit(0 if error.hint else 2)
        except BaseException:
            os._exit(3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert state(vault.location + str(source)) == first
    assert check(vault).damage == []
    assert save(vault, source).files_new == 1
