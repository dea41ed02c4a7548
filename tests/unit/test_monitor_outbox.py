"""Appending facts: whole lines by many at once, and never a word against the work that is recorded."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import resource
import threading
from pathlib import Path

import pytest
from tests.monitorkit import NOON, SetClock, item_failed, names, new_outbox

from holdfast.monitor.emptying import files
from holdfast.monitor.outbox import Outbox
from holdfast.monitor.record import Record


def lines(folder: Path) -> list[Record]:
    return [Record.from_line(line) for path in files(folder / "outbox") for line in path.read_bytes().splitlines()]


def test_a_fact_is_kept_with_its_circumstances(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path, role="web shop", host="box.lan", clock=SetClock())
    made = outbox.append(item_failed("/b"), run="R", operation="backup", plan="docs", vault="home", job="j1")
    assert made is not None
    assert lines(tmp_path) == [made]
    assert (made.at_ns, made.role, made.host, made.pid) == (NOON, "web shop", "box.lan", os.getpid())
    assert (made.run, made.operation, made.plan, made.vault, made.job) == ("R", "backup", "docs", "home", "j1")
    assert names(tmp_path / "outbox") == ["web_shop-box.lan-0.jsonl"]


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    new_outbox(tmp_path).append(item_failed())
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o700
    assert files(tmp_path / "outbox")[0].stat().st_mode & 0o777 == 0o600


def _append_many(folder: Path, name: str, count: int) -> None:
    outbox = new_outbox(folder)
    for number in range(count):
        outbox.append(item_failed(f"/{name}/{number}", filler="x" * (number * 37 % 3000)))


def test_many_processes_and_threads_lose_and_tear_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=_append_many, args=(tmp_path, f"p{n}", 200)) for n in range(8)]
    threads = [threading.Thread(target=_append_many, args=(tmp_path, f"t{n}", 200)) for n in range(4)]
    for each in (*workers, *threads):
        each.start()
    for each in (*workers, *threads):
        each.join()
    found = lines(tmp_path)
    wanted = {f"/{kind}{n}/{i}" for kind, many in (("p", 8), ("t", 4)) for n in range(many) for i in range(200)}
    assert {each.data["path"] for each in found} == wanted
    assert len({each.id for each in found}) == len(found) == len(wanted)


def test_a_child_goes_on_with_its_parents_outbox(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    outbox.append(item_failed("/parent"))
    pid = os.fork()
    if pid == 0:
        os.closerange(3, 64)  # as daemons do
        outbox.append(item_failed("/child"))
        os._exit(0)
    os.waitpid(pid, 0)
    outbox.append(item_failed("/again"))
    found = lines(tmp_path)
    assert [each.data["path"] for each in found] == ["/parent", "/child", "/again"]
    assert [each.pid for each in found] == [os.getpid(), pid, os.getpid()]


def test_a_clock_that_goes_backwards_is_no_matter(tmp_path: Path) -> None:
    clock = SetClock()
    outbox = new_outbox(tmp_path, clock=clock)
    outbox.append(item_failed("/1"))
    clock.now -= 10**15
    outbox.append(item_failed("/2"))
    clock.now = -(10**18)
    outbox.append(item_failed("/3"))
    assert [each.data["path"] for each in lines(tmp_path)] == ["/1", "/2", "/3"]


def test_a_folder_that_cannot_be_made_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[str] = []
    outbox = Outbox(tmp_path / "file" / "outbox", on_trouble=told.append)
    assert outbox.append(item_failed()) is None
    assert outbox.append(item_failed()) is None
    assert len(told) == 1 and "cannot be recorded" in told[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "outbox").mkdir(0o500)
    told: list[str] = []
    assert new_outbox(tmp_path, on_trouble=told.append).append(item_failed()) is None
    assert len(told) == 1 and os.strerror(errno.EACCES) in told[0]


def test_a_listener_that_fails_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def fails(_message: str) -> None:
        raise RuntimeError

    assert Outbox(tmp_path / "file" / "outbox", on_trouble=fails).append(item_failed()) is None


def test_a_full_disk_tears_a_line_at_most_and_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    outbox = new_outbox(tmp_path, on_trouble=told.append)
    kept = outbox.append(item_failed("/first"))
    assert kept is not None
    size = files(tmp_path / "outbox")[0].stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, hard))
    try:
        assert outbox.append(item_failed("/second")) is None
        assert outbox.append(item_failed("/third")) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(told) == 1
    assert files(tmp_path / "outbox")[0].read_bytes().startswith(kept.to_line())


@pytest.mark.parametrize("what", ["fifo", "link", "folder"])
def test_something_else_in_the_files_place_holds_nobody_up(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "outbox"
    folder.mkdir()
    place = folder / "holdfast-box-0.jsonl"
    victim = tmp_path / "victim"
    victim.write_text("mine")
    {"fifo": lambda: os.mkfifo(place), "link": lambda: place.symlink_to(victim), "folder": place.mkdir}[what]()
    told: list[str] = []
    assert new_outbox(tmp_path, host="box", on_trouble=told.append).append(item_failed()) is None
    assert len(told) == 1 and victim.read_text() == "mine"


def test_nobody_waits_for_who_takes_files_away(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    outbox.append(item_failed("/1"))
    with open(files(tmp_path / "outbox")[0], "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # and is stopped right then
        assert outbox.append(item_failed("/2")) is not None
    assert sorted(each.data["path"] for each in lines(tmp_path)) == ["/1", "/2"]
