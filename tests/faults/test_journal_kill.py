"""Killed anywhere between a fact and the journal, nothing is lost and nothing is there twice."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.monitorkit import item_failed, journal, names, new_outbox

from holdfast.kernel.errors import NoSpace, Unavailable
from holdfast.monitor.journal import Journal
from holdfast.monitor.salvage import open_sound

STEPS = {"execute", "executemany", "commit", "unlink", "flock", "rename", "close", "write"}
STRIDE = 4
"""Each case kills at every fourth step, from another one on: all of them together."""


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a process of its own that dies before its call number ``step`` into the database or the system.

    Returns whether it lived long enough to end.
    """
    child = os.fork()
    if child == 0:
        left = [step]

        def watch(_frame: object, event: str, function: object) -> None:
            if event == "c_call" and getattr(function, "__name__", "") in STEPS:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        try:
            sys.setprofile(watch)  # type: ignore[arg-type]
            work()
            sys.setprofile(None)
            os._exit(0)
        except BaseException:
            sys.setprofile(None)
            import traceback

            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), f"it failed by itself: {code}"
    return code == 0


def drain(folder: Path) -> None:
    with journal(folder) as found:
        found.drain(folder / "outbox")


def kept(folder: Path) -> list[str]:
    with journal(folder) as found:
        found.drain(folder / "outbox")
        return [each.data["path"] for each in found.facts(kinds=["item.failed"], newest_first=False)]


@pytest.mark.parametrize("first", range(STRIDE))
def test_a_drain_killed_at_any_step_is_made_up_for(tmp_path: Path, first: int) -> None:
    journal(tmp_path).close()
    outbox = new_outbox(tmp_path)
    sent: list[str] = []
    step = first
    while True:
        for _ in range(2):
            sent.append(f"/{len(sent)}")
            outbox.append(item_failed(sent[-1]))
        if killed_at(step, lambda: drain(tmp_path)):
            break
        step += STRIDE
    assert step > 8
    assert kept(tmp_path) == sent
    assert names(tmp_path / "outbox") == []


def test_a_journal_is_made_whole_or_made_later(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    outbox.append(item_failed("/1"))
    step = 0
    while not killed_at(step, lambda: drain(tmp_path)):
        step += 5
    assert step > 20
    assert kept(tmp_path) == ["/1"]


def test_setting_a_damaged_journal_aside_can_be_killed(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    for number in range(600):
        outbox.append(item_failed(f"/{number}"))
    drain(tmp_path)
    path = tmp_path / "journal.db"
    url = f"sqlite:///{path}"
    raw = path.read_bytes()
    for step in range(0, 40, 3):
        path.write_bytes(raw[:-4096] + b"\xaa" * 4096)
        (tmp_path / "journal.db.damaged").touch()
        killed_at(step, lambda: open_sound(url, tell=lambda _message: None).close())
        outbox.append(item_failed(f"/new{step}"))
        with open_sound(url, tell=lambda _message: None) as found:
            found.drain(tmp_path / "outbox")
            assert f"/new{step}" in {each.data["path"] for each in found.facts(kinds=["item.failed"])}
            # One page is lost; which facts were in it depends on where SQLite put them.
            assert len(found.facts(kinds=["item.failed"])) > 400
    assert not list(tmp_path.glob("journal.db.damaged-*"))
    assert list(tmp_path.glob("journal.db.aside-*"))  # nothing of what was damaged is thrown away


def _append(folder: Path, name: str, count: int) -> None:
    outbox = new_outbox(folder)
    for number in range(count):
        outbox.append(item_failed(f"/{name}/{number}"))


def _drain_until(folder: Path, done: Path) -> None:
    with Journal.open(f"sqlite:///{folder / 'journal.db'}") as found:
        while True:
            last = done.exists()
            found.drain(folder / "outbox")
            if last:
                break


def test_many_writers_beside_several_readers(tmp_path: Path) -> None:
    journal(tmp_path).close()
    fork = multiprocessing.get_context("fork")
    done = tmp_path / "done"
    writers = [fork.Process(target=_append, args=(tmp_path, str(n), 150)) for n in range(10)]
    readers = [fork.Process(target=_drain_until, args=(tmp_path, done)) for _ in range(3)]
    for each in (*readers, *writers):
        each.start()
    for each in writers:
        each.join()
    done.touch()
    for each in readers:
        each.join()
        assert each.exitcode == 0
    found = kept(tmp_path)
    assert len(found) == 1500
    assert set(found) == {f"/{n}/{i}" for n in range(10) for i in range(150)}


def test_a_disk_that_is_full_for_the_journal_loses_nothing(tmp_path: Path) -> None:
    journal(tmp_path).close()
    outbox = new_outbox(tmp_path)
    for number in range(500):
        outbox.append(item_failed(f"/{number}"))
    drained = killed_at(10**9, lambda: _drain_in_vain(tmp_path))
    assert drained
    assert kept(tmp_path) == [f"/{number}" for number in range(500)]


def _drain_in_vain(folder: Path) -> None:
    size = (folder / "journal.db").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, resource.RLIM_INFINITY))
    with pytest.raises((NoSpace, Unavailable)), journal(folder) as found:
        found.drain(folder / "outbox")
