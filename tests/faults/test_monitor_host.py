"""A program with a monitor in it goes on, and ends as it would, whatever happens to disk, terminal and notifier."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "src"


class Host:
    """Runs programs in a home of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / "state"
        self.environ = {
            "HOME": str(home),
            "HOLDFAST_STATE_DIR": str(self.state),
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(SOURCE),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def __call__(self, program: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run ``program``. It has a minute: what hangs in these tests hangs for an hour."""
        head = "from holdfast.monitor import FileTracker, get_monitor, monitored\nmonitor = get_monitor('host')\n"
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", head + textwrap.dedent(program)],
            capture_output=True,
            text=True,
            env={**self.environ, **environ},
            cwd=self.home,
            timeout=60,
            check=False,
        )

    def facts(self) -> list[dict[str, Any]]:
        """What is in the outbox."""
        files = sorted((self.state / "outbox").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    home = tmp_path / "home"
    home.mkdir()
    return Host(home)


USES_EVERYTHING = """
    tracker = FileTracker("files")
    for step in range(30):
        monitor.error("step", step=step)
        tracker.move("a", "b")
        try:
            with monitored("scope"):
                raise ValueError(step)
        except ValueError:
            pass
    monitor.critical("grave")
    print("went on")
"""


def _went_on(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_folder_that_cannot_be_made(host: Host) -> None:
    host.state.write_text("a file in its place")
    done = host(USES_EVERYTHING)
    _went_on(done)
    assert done.stderr.count("cannot be recorded") == 1
    assert done.stderr.count("file operations of files are not recorded") == 1
    assert "CRITICAL: host: grave\n  (NOT recorded)" in done.stderr


def test_a_full_disk(host: Host) -> None:
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    done = host(limited + textwrap.dedent(USES_EVERYTHING))
    _went_on(done)
    assert done.stderr.count("cannot be recorded") == 1


def test_a_fifo_in_the_place_of_an_outbox(host: Host) -> None:
    (host.state / "outbox").mkdir(parents=True)
    os.mkfifo(host.state / "outbox" / f"host-{os.uname().nodename}-0.jsonl")
    done = host(USES_EVERYTHING)
    _went_on(done)
    assert done.stderr.count("cannot be recorded") == 1


HANGING_DISK = """
    import os, time
    true_open, true_mkdir = os.open, os.mkdir
    def hang(path, *rest, **named):
        if "state" in os.fsdecode(path):
            time.sleep(3600)
        return true_open(path, *rest, **named)
    os.open = os.mkdir = hang
"""


def test_a_disk_that_hangs(host: Host) -> None:
    timed = """
        import time
        since = time.monotonic()
        monitor.error("first")
        assert time.monotonic() - since < 30
    """
    done = host(textwrap.dedent(HANGING_DISK) + textwrap.dedent(timed) + textwrap.dedent(USES_EVERYTHING))
    _went_on(done)
    assert done.stderr.count("does not answer") >= 1
    assert "CRITICAL: host: grave\n  (NOT recorded)" in done.stderr


def test_a_disk_that_hangs_for_a_while_loses_nothing(host: Host) -> None:
    program = """
        import os, threading, time
        go = threading.Event()
        true_open, written = os.open, []
        def slow(path, *rest, **named):
            if "outbox" in os.fsdecode(path):
                go.wait(50)
                written.append(path)
            return true_open(path, *rest, **named)
        os.open = slow
        for step in range(10):
            monitor.error("step", step=step)
        go.set()
        while len(written) < 10:
            time.sleep(0.01)
        monitor.error("after")
        time.sleep(0.5)
        print("went on")
    """
    _went_on(host(program))
    assert [fact["message"] for fact in host.facts()] == ["step"] * 10 + ["after"]


def test_a_terminal_that_takes_nothing(host: Host) -> None:
    program = """
        import os, sys
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        try:
            while True:
                os.write(writing, b"x" * 65536)
        except BlockingIOError:
            pass
        os.set_blocking(writing, True)
        os.dup2(writing, 2)
    """
    done = host(textwrap.dedent(program) + textwrap.dedent(USES_EVERYTHING).replace("range(30)", "range(3)"))
    _went_on(done)
    assert [fact["kind"] for fact in host.facts()].count("critical.recorded") == 1


@pytest.mark.parametrize("stream", ["sys.stderr = None", "sys.stderr.close()", "import os; os.close(2)"])
def test_no_standard_error_at_all(host: Host, stream: str) -> None:
    done = host(f"import sys\n{stream}\n" + textwrap.dedent(USES_EVERYTHING) + "import os; os._exit(0)\n")
    # Standard output is written by print at once only to a terminal: the way out above does not flush it.
    assert done.returncode == 0
    assert len(host.facts()) == 61


def test_forks_beside_threads(host: Host) -> None:
    program = """
        import os, threading
        stop = threading.Event()
        def chatter():
            while not stop.is_set():
                monitor.error("parent")
        thread = threading.Thread(target=chatter)
        thread.start()
        codes = []
        for number in range(8):
            child = os.fork()
            if not child:
                try:
                    with monitored("child"):
                        monitor.error("child", number=number)
                        raise ValueError
                except ValueError:
                    os._exit(7)
                os._exit(1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        thread.join()
        assert codes == [7] * 8, codes
        print("went on")
    """
    # Since 3.12 Python warns of forking beside threads: this host does, and not because of the monitor.
    done = host("import warnings; warnings.simplefilter('ignore')\n" + textwrap.dedent(program))
    _went_on(done)
    found = host.facts()
    assert sorted(fact["data"]["number"] for fact in found if fact["message"] == "child") == list(range(8))
    assert sum(fact["kind"] == "error.raised" for fact in found) == 8


def test_no_thread_is_left_that_a_fork_would_warn_of(host: Host) -> None:
    program = """
        import os, time
        monitor.critical("x")
        while os.path.isdir("/proc/self/task") and len(os.listdir("/proc/self/task")) > 1:
            time.sleep(0.001)
        print("went on")
    """
    _went_on(host(program))


def test_the_way_out_of_the_interpreter(host: Host) -> None:
    program = """
        import atexit, threading, time
        atexit.register(lambda: monitor.error("atexit"))
        class Late:
            def __del__(self, monitor=monitor):
                monitor.error("finalizer")
        late = Late()
        threading.Thread(target=lambda: (time.sleep(0.05), monitor.error("thread"))).start()
        print("went on")
    """
    done = host(program)
    _went_on(done)
    assert sorted(fact["message"] for fact in host.facts()) == ["atexit", "finalizer", "thread"]
    assert "Exception ignored" not in done.stderr


def test_daemon_threads_that_record_while_the_interpreter_ends(host: Host) -> None:
    program = """
        import atexit, threading
        atexit.register(lambda: monitor.error("atexit"))
        def daemon():
            while True:
                monitor.error("daemon")
        for _ in range(3):
            threading.Thread(target=daemon, daemon=True).start()
        monitor.error("main")
        print("went on")
    """
    _went_on(host(program))
    assert {fact["message"] for fact in host.facts()} == {"daemon", "main", "atexit"}


def test_a_signal_in_the_middle_of_recording(host: Host) -> None:
    program = """
        import os, signal
        def handler(number, frame):
            monitor.error("signal")
        signal.signal(signal.SIGALRM, handler)
        for step in range(100):
            signal.setitimer(signal.ITIMER_REAL, 0.00001 * step + 0.00001)
            monitor.error("step")
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("went on")
    """
    done = host(program)
    _went_on(done)
    assert [fact["message"] for fact in host.facts()].count("step") == 100
    assert "could not be recorded" not in done.stderr


def test_fatal_ends_the_process_from_any_thread(host: Host) -> None:
    assert host("import threading\nmonitor.fatal('x', exit_code=5)").returncode == 5
    threaded = """
        import threading, time
        print("said before", end="")
        threading.Thread(target=lambda: monitor.fatal("x", exit_code=6)).start()
        time.sleep(3600)
    """
    done = host(threaded)
    assert (done.returncode, done.stdout) == (6, "said before")
    assert [fact["kind"] for fact in host.facts()] == ["fatal.recorded"] * 2


def test_out_of_memory(host: Host) -> None:
    program = """
        import resource
        monitor.error("warm")
        limit = 400 << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            with monitored("hungry"):
                hoard = []
                while True:
                    hoard.append(bytearray(1 << 20))
        except MemoryError:
            del hoard
            print("went on")
    """
    done = host(program)
    _went_on(done)
    assert next(fact["message"] for fact in host.facts()) == "warm"


@pytest.fixture
def sleeper(host: Host, request: pytest.FixtureRequest) -> Path:
    """A program, called like Python, that notes how it was called and then hangs."""
    path = host.home / "python-that-hangs"
    going = host.home / "going"
    path.write_text(f'#!/bin/sh\n[ -e {going} ] || exit 0\necho "$$ $*" >>"{host.home}/called"\nexec sleep 3600\n')
    path.chmod(0o755)
    going.touch()

    def end() -> None:
        going.unlink()  # one that starts later ends at once
        with suppress(FileNotFoundError):
            for line in (host.home / "called").read_text().splitlines():
                with suppress(ProcessLookupError):
                    os.kill(int(line.split()[0]), signal.SIGKILL)

    request.addfinalizer(end)
    return path


def test_a_notifier_that_hangs(host: Host, sleeper: Path) -> None:
    (host.home / "holdfast.yaml").write_text("notify: {}\n")
    program = f"""
        import os, sys, time
        sys.executable = {str(sleeper)!r}
        for step in range(100):
            monitor.critical("grave")
        try:
            os.waitpid(-1, os.WNOHANG)
            raise SystemExit("the host has a child that it did not start")
        except ChildProcessError:
            pass
        while not os.path.exists("called"):
            time.sleep(0.01)
        print("went on")
    """
    done = host(program)
    _went_on(done)
    assert "notices are being sent" in done.stderr
    calls = (host.home / "called").read_text().splitlines()
    assert calls and all(line.endswith("-P -m holdfast notify send") for line in calls)
    assert len(calls) <= 4
    assert len(host.facts()) == 100


def test_without_a_configuration_nobody_is_started(host: Host, sleeper: Path) -> None:
    done = host(f"import sys\nsys.executable = {str(sleeper)!r}\nmonitor.critical('grave')\nprint('went on')")
    _went_on(done)
    assert not (host.home / "called").exists()


def test_it_imports_nothing_but_the_standard_library(host: Host) -> None:
    program = """
        import sys
        monitor.error("x")
        FileTracker("x").create("y")
        third = {"pydantic", "sqlalchemy", "alembic", "click", "orjson", "yaml", "cryptography", "zstandard"}
        assert not third & set(sys.modules), third & set(sys.modules)
        print("went on")
    """
    _went_on(host(program))
