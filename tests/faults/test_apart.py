"""A storage in a process of its own: used from forks and threads, killed, interrupted, and gone when its users are."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.clerks import OPENER, calls, eventually, is_running, pid_of
from tests.faults.faulty import in_child

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Denied, Internal, NotFound, Unavailable
from holdfast.storage import LocalStorage, Manner
from holdfast.storage import hiring as hiring_module
from holdfast.storage.apart import Apart

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _tests_can_be_imported_by_clerks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "src")]))


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def cancel() -> Cancel:
    return Cancel()


@pytest.fixture
def place(tmp_path: Path, told: list[str], cancel: Cancel) -> Iterator[Apart]:
    """An eventful folder behind a clerk; every call in it is tried again for up to a minute."""
    text = str(tmp_path / "vault")
    apart = Apart(
        text,
        Manner(patience=300.0, first_patience=300.0),
        LocalStorage(text),
        cancel=cancel,
        on_trouble=told.append,
        opener=OPENER,
    )
    apart.prepare(["data", "keys"])
    yield apart
    apart.close()


# -- who may use it ----------------------------------------------------------------------------------------------------


def test_nothing_runs_before_the_first_call(tmp_path: Path) -> None:
    apart = Apart(str(tmp_path / "v"), Manner(), LocalStorage(str(tmp_path / "v")))
    assert apart.staging() is None
    assert apart.traits.fork_safe
    apart.hear()
    apart.close()
    assert list(tmp_path.iterdir()) == []


def test_forked_children_and_threads_use_it_at_the_same_time(place: Apart) -> None:
    data = os.urandom(3_000_000)
    place.write("config", b"before the fork")

    def work(number: int) -> None:
        for step in range(5):
            name = f"data/{hashlib.sha256(b'%d/%d' % (number, step)).hexdigest()}"
            place.write(name, data[number:])
            assert place.read(name, 1000, 5) == data[number + 1000 : number + 1005]
            buffer = bytearray(len(data))
            assert place.read_into(name, buffer) == len(data) - number
            assert buffer[: len(data) - number] == data[number:]
        assert place.read("config") == b"before the fork"

    def work_in_threads(first: int) -> None:
        failed: list[BaseException] = []

        def run(number: int) -> None:
            try:
                work(number)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=(first + number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed

    clerk = pid_of(place)
    children = []
    for number in (10, 20):
        child = os.fork()
        if child == 0:
            outcome = 1
            try:
                work_in_threads(number)
                assert pid_of(place) == clerk, "children share the parent's clerk"
                outcome = 0
            finally:
                os._exit(outcome)
        children.append(child)
    work_in_threads(30)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert len(list(place.list("data"))) == 9 * 5


def test_a_listing_half_read_disturbs_nobody(place: Apart) -> None:
    for number in range(2500):
        Path(place.location, "keys", f"{number:064x}").touch()
    first = place.list("keys")
    seen = {next(first).name for _ in range(10)}
    assert len(list(place.list("keys"))) == 2500
    assert in_child(lambda: place.write("config", b"by the child")) == 0
    seen |= {info.name for info in first}
    assert len(seen) == 2500
    assert next(iter(place.list("keys"))).size == 0, "and dropping one is fine"
    assert place.read("config") == b"by the child"


def test_several_places_have_a_clerk_each(tmp_path: Path) -> None:
    texts = [str(tmp_path / name) for name in ("one", "two", "three")]
    aparts = [Apart(text, Manner(), LocalStorage(text), opener=OPENER) for text in texts]
    threads = [threading.Thread(target=apart.prepare, args=(["data"],)) for apart in aparts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pids = [pid_of(apart) for apart in aparts]
    assert len({*pids, os.getpid()}) == 4
    for apart, pid in zip(aparts, pids, strict=True):
        apart.close()
        assert not is_running(pid)


def test_lines_can_be_confirmed_as_macos_needs_it(place: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiring_module, "CONFIRMED", True)
    listing = place.list("")  # holds one line
    assert place.size("do/x") == 1
    assert list(listing)
    os.kill(pid_of(place), signal.SIGKILL)
    assert place.size("do/x") > 1


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors_arrive_as_they_were_raised(place: Apart) -> None:
    with pytest.raises(Denied, match="not you") as caught:
        place.size("do/refuse")
    assert caught.value.hint == "Ask for it."
    assert caught.value.context == {"name": "do/refuse", "odd": [1, 2.5, None, {"a": b"b"}]}
    with pytest.raises(Denied, match="odd") as caught:
        place.size("do/strange")
    assert caught.value.hint == "odd hint"
    with pytest.raises(NotFound):
        place.read("keys/none")
    assert place.size("do/x") > 1, "the line is still good"


def test_a_mistake_in_a_storage_is_told_as_one(place: Apart) -> None:
    with pytest.raises(Internal, match="ZeroDivisionError: oops") as caught:
        place.size("do/bug")
    assert "Traceback" in caught.value.context["traceback"]


def test_a_place_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    apart = Apart("s3:", Manner(), LocalStorage(str(tmp_path)), opener="holdfast.no_such_module:opener")
    with pytest.raises(Internal, match="no_such_module"):
        apart.size("config")
    apart.close()


# -- a clerk that dies -------------------------------------------------------------------------------------------------


def test_a_clerk_killed_between_two_calls_is_replaced(place: Apart, told: list[str]) -> None:
    before = pid_of(place)
    os.kill(before, signal.SIGKILL)
    place.write("config", b"after")
    assert place.read("config") == b"after"
    assert pid_of(place) != before
    assert len(told) == 1 and "SIGKILL" in told[0] and "a new one is started" in told[0]


def test_a_clerk_killed_during_a_call_is_replaced_once(place: Apart) -> None:
    assert place.size("do/dieonce") == 2
    with pytest.raises(Unavailable, match=r"died \(killed by SIGKILL\)") as caught:
        place.size("do/die")
    assert caught.value.hint and caught.value.context["location"] == place.location
    assert calls(place) == 4
    assert list(place.list("keys")) == [], "the next call has a new clerk"


def test_a_clerk_killed_in_a_listing_ends_it(place: Apart) -> None:
    listing = place.list("do")
    assert next(listing).name == "do/0"
    with pytest.raises(Unavailable, match="died"):
        list(listing)


def test_a_child_whose_clerk_died_gets_one_of_its_own(place: Apart) -> None:
    place.write("config", b"here")
    os.kill(pid_of(place), signal.SIGKILL)

    def work() -> None:
        assert place.read("config") == b"here"
        place.close()

    assert in_child(work) == 0
    assert place.read("config") == b"here"


# -- the end -----------------------------------------------------------------------------------------------------------


def test_signals_for_the_run_do_not_end_the_clerk(place: Apart) -> None:
    pid = pid_of(place)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
        assert pid_of(place) == pid


def test_it_lives_as_long_as_its_last_user(place: Apart) -> None:
    pid = pid_of(place)
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            os.close(writable)
            os.read(readable, 1)  # until the parent has closed
            assert pid_of(place) == pid
            outcome = 0
        finally:
            os._exit(outcome)
    os.close(readable)
    closing = threading.Thread(target=place.close)  # waits for a moment, and then lets the child go on
    closing.start()
    closing.join()
    assert is_running(pid)
    os.close(writable)
    assert os.waitpid(child, 0)[1] == 0
    assert eventually(lambda: not is_running(pid))


USER = """
import sys
from tests.faults.clerks import OPENER
from holdfast.storage import LocalStorage, Manner
from holdfast.storage.apart import Apart
text = sys.argv[1]
place = Apart(text, Manner(patience=600.0), LocalStorage(text), opener=OPENER)
place.prepare(["data"])
print(place.size("do/pid"), flush=True)
place.size("do/fail")
"""


def test_it_ends_when_its_user_is_killed_in_the_middle_of_a_call(tmp_path: Path) -> None:
    user = subprocess.Popen([sys.executable, "-c", USER, str(tmp_path / "v")], stdout=subprocess.PIPE)
    assert user.stdout is not None
    pid = int(user.stdout.readline())
    assert is_running(pid)
    user.kill()
    user.wait()
    user.stdout.close()
    assert eventually(lambda: not is_running(pid))


def test_nothing_is_left_after_close(place: Apart) -> None:
    before = set(os.listdir("/dev/fd"))
    text = place.location
    for _ in range(3):
        other = Apart(text, Manner(), LocalStorage(text), opener=OPENER)
        pid = pid_of(other)
        other.close()
        other.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert set(os.listdir("/dev/fd")) == before


# -- trying again ------------------------------------------------------------------------------------------------------


def test_what_fails_is_tried_again_in_the_clerk(place: Apart) -> None:
    assert place.size("do/failtwice") == 3


def test_a_run_that_is_to_end_does_not_wait_for_the_patience_to_run_out(place: Apart, cancel: Cancel) -> None:
    pressing = threading.Thread(target=lambda: (eventually(lambda: calls(place) > 0), cancel.cancel()))
    pressing.start()
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"the line is dead \(tried \d+ times"):
        place.size("do/fail")
    pressing.join()
    assert time.monotonic() - began < 200, "the patience would last for 300"
    assert list(place.list("keys")) == [], "the rest still works: an end wants to be made"


def test_a_server_gone_silent_does_not_hold_up_the_end(
    place: Apart, cancel: Cancel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hiring_module, "HANG_UP_SECONDS", 0.5)
    place.prepare(["keys"])
    cancel.cancel()
    with pytest.raises(Unavailable, match="did not answer"):
        place.size("do/nothing for long")
    assert list(place.list("keys")) == []


def test_who_hangs_up_ends_the_trying(place: Apart) -> None:
    child = os.fork()
    if child == 0:
        try:
            place.size("do/fail")
        finally:
            os._exit(0)
    assert eventually(lambda: calls(place) > 0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    def steady() -> bool:
        before = calls(place)
        time.sleep(2.0)
        return calls(place) == before

    assert eventually(steady, 120)


def test_the_person_hears_what_keeps_a_child_waiting(place: Apart, told: list[str], cancel: Cancel) -> None:
    child = os.fork()
    if child == 0:
        try:
            place.size("do/fail")
        finally:
            os._exit(0)

    def heard() -> bool:
        place.hear()
        return bool(told)

    assert eventually(heard, 120)
    assert "waiting for the storage" in told[0] and "the line is dead" in told[0]
    cancel.cancel()
    os.waitpid(child, 0)
    assert len(told) == 1, "not with every try"


# -- surroundings ------------------------------------------------------------------------------------------------------


def test_files_in_the_current_folder_are_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("socket", "struct", "pickle", "holdfast", "obstore"):
        (trap / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(trap)
    monkeypatch.setenv("PYTHONPATH", "")
    apart = Apart("vault", Manner(), LocalStorage("vault"))
    apart.prepare(["data"])
    apart.write("config", b"c")
    assert (trap / "vault" / "config").read_bytes() == b"c"
    apart.close()


def test_the_location_is_on_no_command_line(place: Apart) -> None:
    pid = pid_of(place)
    shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=True).stdout
    assert b"holdfast" in shown
    assert os.fsencode(place.location) not in shown


CLOSED = """
import os, sys
for number in (0, 1, 2):
    os.close(number)
from holdfast.storage import LocalStorage, Manner
from holdfast.storage.apart import Apart
place = Apart(sys.argv[1], Manner(), LocalStorage(sys.argv[1]))
place.prepare(["data"])
place.write("config", b"c")
place.close()
"""


def test_a_user_without_standard_streams(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CLOSED, str(tmp_path / "v")], check=False, timeout=60)
    assert (tmp_path / "v" / "config").read_bytes() == b"c"
