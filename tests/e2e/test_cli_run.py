"""``holdfast run``: what a command prints and how it ends goes through; what goes wrong silently does not."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Cli

PATIENCE = 60.0


def until(true: Callable[[], Any]) -> Any:
    """Wait until ``true()`` is so; what does not come within a minute never comes."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.02)
    pytest.fail("waited in vain")


def history(cli: Cli) -> list[dict[str, Any]]:
    """What was recorded of the ends of runs, newest first. As files: the journal has tests of its own."""
    files = (cli.home / ".local/state/holdfast/outbox").glob("*.jsonl")
    facts = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [fact for fact in reversed(facts) if fact["kind"] == "run.finished"]


@pytest.fixture
def start(cli: Cli) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the command without waiting for it."""
    begun: list[subprocess.Popen[bytes]] = []

    def run(*words: str, **more: Any) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        process = subprocess.Popen(
            [*cli.words, *words], env=cli.environ, cwd=cli.home, preexec_fn=_hear_signals, **pipes
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        process.kill()
        process.communicate()


def _hear_signals() -> None:
    """What the tests themselves were started to ignore (nohup, a job in the background) shall count again."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def alive(pid: int) -> bool:
    """Whether the process still does something (a dead one that nobody takes notice of does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
    except OSError:
        return True


def test_output_input_and_exit_code_go_through(cli: Cli) -> None:
    done = cli("run", "job", "--", "sh", "-c", "cat; echo wrong >&2; exit 7", stdin=b"given\n")
    assert (done.code, done.out) == (7, "given\n")
    assert done.err == "wrong\nholdfast: job failed with exit code 7\n"
    (run,) = history(cli)
    assert (run["operation"], run["plan"], run["data"]["outcome"]) == ("run", "job", "failed")
    assert run["data"]["exit_code"] == 7
    assert run["data"]["output_tail"] == "given\nwrong\n"
    shown = cli("history", run["run"]).out
    assert "name:       job" in shown and "command:    sh -c 'cat; echo wrong >&2; exit 7'" in shown
    assert "Its last words:\n  given\n  wrong\n" in shown


def test_a_command_that_ends_well_adds_nothing(cli: Cli) -> None:
    done = cli("run", "job", "--", "printf", "%s", "--flag -- x")
    assert (done.code, done.out, done.err) == (0, "--flag -- x", "")
    assert history(cli)[0]["data"]["outcome"] == "ok"


def test_quiet_on_success(cli: Cli) -> None:
    assert cli("run", "job", "--quiet-on-success", "--", "sh", "-c", "echo a; echo b >&2").out == ""
    done = cli("run", "job", "--quiet-on-success", "--", "sh", "-c", "echo a; echo b >&2; exit 1")
    assert (done.code, done.out) == (1, "a\n")
    assert done.err.startswith("b\nholdfast: job failed")


def test_very_much_output_is_bounded_when_held_back(cli: Cli) -> None:
    program = "import sys\nfor n in range(400_000): print(f'line {n:>40}')\nsys.exit(1)"
    done = cli("run", "job", "--quiet-on-success", "--", sys.executable, "-c", program)
    assert done.code == 1
    assert done.out.startswith(f"line {0:>40}\n") and done.out.endswith(f"line {399_999:>40}\n")
    assert "bytes left out" in done.err
    assert len(done.out) < 9 << 20
    assert len(history(cli)[0]["data"]["output_tail"]) <= 16 << 10


def test_a_reader_who_goes_away_does_not_stop_the_command(cli: Cli) -> None:
    line = f"{' '.join(cli.words)} run job -- sh -c 'seq 100000; touch {cli.home}/done' | head -n 1"
    subprocess.run(["sh", "-c", line], env=cli.environ, capture_output=True, timeout=PATIENCE, check=True)
    until((cli.home / "done").exists)


@pytest.mark.parametrize(
    "options", [["--expect-output"], ["--expect-output", "^[0-9]+ rows$"], ["--expect-file", "made"]]
)
def test_success_that_is_none(cli: Cli, options: list[str]) -> None:
    done = cli("run", "job", *options, "--", "true")
    assert done.code == 1
    assert done.err.startswith("holdfast: job said that it worked, but ")
    assert cli("run", "job", *options, "--", "sh", "-c", "echo x >made; echo 7 rows").code == 0


def test_a_time_limit_ends_the_command_and_what_it_started(cli: Cli) -> None:
    script = "trap '' TERM; sleep 3600 & echo $! >child; sleep 3600 & echo $! >>child; wait"
    done = cli("run", "job", "--timeout", "1s", "--", "sh", "-c", f"({script}); true")
    assert done.code == 124
    assert "longer than its limit of 1 s" in done.err
    for pid in (cli.home / "child").read_text().split():
        assert not alive(int(pid))
    assert history(cli)[0]["data"]["timed_out"] is True


def test_something_left_in_the_background_does_not_hold_the_run_up(cli: Cli) -> None:
    done = cli("run", "job", "--", "sh", "-c", "sleep 3600 & echo $! >child; echo started")
    pid = int((cli.home / "child").read_text())
    assert (done.code, done.out) == (0, "started\n")
    assert "something that it started still runs" in done.err
    assert alive(pid)  # it may be a service that was started on purpose
    os.kill(pid, signal.SIGKILL)


def test_one_at_a_time(cli: Cli, start: Callable[..., subprocess.Popen[bytes]]) -> None:
    first = start(
        "run", "job", "--", "sh", "-c", "touch began; while [ ! -e go ]; do sleep 0.05; done; echo first >>log"
    )
    until((cli.home / "began").exists)
    failed = cli("run", "job", "--", "sh", "-c", "echo second >>log")
    assert failed.code == 11
    assert f"job is still running: process {first.pid}, since " in failed.err and "touch began" in failed.err
    skipped = cli("run", "job", "--overlap", "skip", "--", "sh", "-c", "echo second >>log")
    assert skipped.code == 0 and "skipped" in skipped.err
    assert cli("run", "other", "--", "true").code == 0
    waiting = start("run", "job", "--overlap", "wait", "--", "sh", "-c", "echo third >>log")
    assert waiting.stderr is not None and b"waits for the run before it" in waiting.stderr.readline()
    (cli.home / "go").touch()
    assert (first.wait(PATIENCE), waiting.wait(PATIENCE)) == (0, 0)
    assert (cli.home / "log").read_text() == "first\nthird\n"
    outcomes = sorted(str(run["data"]["outcome"]) for run in history(cli) if run["plan"] == "job")
    assert outcomes == ["cancelled", "failed", "ok", "ok"]


def test_kill_9_frees_the_lock_ends_the_command_and_shows(
    cli: Cli, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    first = start("run", "job", "--", "sh", "-c", "echo $$ >pid; exec sleep 3600")
    child = int(until(lambda: (cli.home / "pid").exists() and (cli.home / "pid").read_text().strip()))
    first.kill()
    first.wait()
    if sys.platform.startswith("linux"):
        until(lambda: not alive(child))
    else:
        os.kill(child, signal.SIGKILL)
    assert cli("run", "job", "--", "true").code == 0
    cli("history")  # finds it
    done = cli("history", "--json", "--operation", "run")
    newest, died = [event for event in done.events if event["event"] == "run"]
    assert newest["outcome"] == "ok"
    assert died["outcome"] == "failed" and "without a word" in died["message"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_signals_are_passed_on(
    cli: Cli, start: Callable[..., subprocess.Popen[bytes]], number: signal.Signals, code: int
) -> None:
    process = start("run", "job", "--retries", "3", "--", "sh", "-c", "touch began; exec sleep 3600")
    until((cli.home / "began").exists)
    process.send_signal(number)
    assert process.wait(PATIENCE) == code
    (run,) = history(cli)
    assert (run["data"]["outcome"], run["message"]) == ("cancelled", f"job was cancelled by {number.name}")


def test_a_second_signal_kills(cli: Cli, start: Callable[..., subprocess.Popen[bytes]]) -> None:
    script = "trap 'touch heard' INT; touch began; while true; do sleep 0.05; done"
    process = start("run", "job", "--", "sh", "-c", script)
    until((cli.home / "began").exists)
    process.send_signal(signal.SIGINT)
    until((cli.home / "heard").exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 137


COUNTS = """
import os, signal, sys, time
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
with open("/dev/tty", "w") as terminal:
    print("ready", file=terminal, flush=True)
while not heard:
    time.sleep(0.01)
time.sleep(0.3)
with open("heard", "w") as file:
    file.write(str(len(heard)))
sys.exit(5)
"""


def test_ctrl_c_at_a_terminal_reaches_the_command_once(cli: Cli) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cli.home)
        os.execvpe(cli.words[0], [*cli.words, "run", "job", "--", sys.executable, "-c", COUNTS], cli.environ)
    try:
        said = b""
        while b"ready" not in said:
            said += os.read(terminal, 4096)
        os.write(terminal, b"\x03")
        with suppress(OSError):  # a terminal whose last program is gone answers with an error
            while os.read(terminal, 4096):
                pass
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 5
    assert (cli.home / "heard").read_text() == "1"


def test_a_command_can_read_from_the_terminal(cli: Cli) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cli.home)
        script = "read line; echo got $line >answer"
        os.execvpe(cli.words[0], [*cli.words, "run", "job", "--", "sh", "-c", script], cli.environ)
    try:
        os.write(terminal, b"words\n")
        with suppress(OSError):
            while os.read(terminal, 4096):
                pass
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (cli.home / "answer").read_text() == "got words\n"


def test_ctrl_z_and_fg(cli: Cli, need: Callable[[str], str]) -> None:
    shell = need("bash")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cli.home)
        os.execvpe(shell, [shell, "--norc", "--noprofile", "-i"], {**cli.environ, "TERM": "dumb"})
    said = bytearray()

    def heard(words: bytes) -> bool:
        said.extend(os.read(terminal, 4096))
        return words in said

    try:
        script = "touch began; while [ ! -e go ]; do sleep 0.05; done; touch finished"
        os.write(terminal, f"{' '.join(cli.words)} run job -- sh -c '{script}'\n".encode())
        until((cli.home / "began").exists)
        os.write(terminal, b"\x1a")
        until(lambda: heard(b"Stopped"))
        (cli.home / "go").touch()
        os.write(terminal, b"fg\n")
        until((cli.home / "finished").exists)
        os.write(terminal, b"exit 9\n")
        with suppress(OSError):
            while os.read(terminal, 4096):
                pass
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 9
    assert history(cli)[0]["data"]["outcome"] == "ok"


def test_json(cli: Cli) -> None:
    done = cli("run", "job", "--json", "--expect-output", "nothing like it", "--", "sh", "-c", "echo out; echo err >&2")
    assert done.code == 1
    assert "out\n" in done.err and "err\n" in done.err
    assert done.summary["outcome"] == "failed" and done.summary["exit_code"] == 1
    assert done.summary["silent"][0]["actual"] == "no line of its output matches"
    assert sorted(done.summary["output_tail"].split()) == ["err", "out"]


def test_a_monitor_inside_belongs_to_the_run(cli: Cli) -> None:
    program = "from holdfast.monitor import get_monitor\nget_monitor('inner').error('row 7 is odd')"
    done = cli("run", "job", "--json", "--", sys.executable, "-c", program)
    assert done.code == 0, done.err
    told = [json.loads(line) for line in cli("history", done.summary["run"], "--json").out.splitlines()]
    assert "row 7 is odd" in json.dumps(told)


def test_a_state_folder_that_cannot_be_written_stops_nothing(cli: Cli) -> None:
    (cli.home / ".local").write_text("in its place")
    done = cli("run", "job", "--", "echo", "works")
    assert (done.code, done.out) == (0, "works\n")
    assert "without a lock" in done.err and "cannot be recorded" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "a/b", "--", "true"],
        ["run", "job", "--timeout", "soon", "--", "true"],
    ],
)
def test_calls_that_make_no_sense(cli: Cli, words: list[str]) -> None:
    done = cli(*words)
    assert done.code == 2
    assert re.search("holdfast|Usage", done.err)
    assert history(cli) == []
