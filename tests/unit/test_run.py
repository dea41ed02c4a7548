"""Monitored runs, without the command line: exit codes, promises, retries, and what is recorded of them."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.app.context import Context
from holdfast.app.promises import Promises
from holdfast.app.run import Command, Result, run_command
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Invalid, Locked
from holdfast.kernel.events import ignore
from holdfast.runners.output import Held, Search, Tail


class Here:
    """Runs commands in a folder of their own; ``warned`` and ``heard`` are what was told and printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warned: list[str] = []
        self.heard: list[tuple[int, bytes]] = []
        environ = {"HOME": str(folder), "HOLDFAST_STATE_DIR": str(folder / "state"), "PATH": os.environ["PATH"]}
        self.context = Context(emit=ignore, cancel=Cancel(), warn=self.warned.append, environ=environ)

    def __call__(self, script: str | tuple[str, ...], promises: Promises | None = None, **how: Any) -> Result:
        argv = ("sh", "-c", script) if isinstance(script, str) else script
        command = Command("job", argv, cwd=str(self.folder), onto=(None, None), promises=promises or Promises())
        return run_command(
            self.context, replace(command, **how), lambda stream, data: self.heard.append((stream, data))
        )

    def facts(self, kind: str) -> list[dict[str, Any]]:
        """The facts of a kind in the outbox."""
        lines = [line for file in self.folder.glob("state/outbox/*.jsonl") for line in file.read_text().splitlines()]
        return [fact for fact in map(json.loads, lines) if fact["kind"] == kind]


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_a_run_is_recorded_with_what_it_printed(here: Here) -> None:
    result = here("echo out; sleep 0.05; echo err >&2; exit 7")
    assert (result.outcome, result.exit_code, result.message) == ("failed", 7, "job failed with exit code 7")
    assert here.heard == [(1, b"out\n"), (2, b"err\n")]
    (started,), (finished,) = here.facts("run.started"), here.facts("run.finished")
    assert started["data"]["command"].startswith("sh -c 'echo out")
    assert (finished["run"], finished["operation"], finished["plan"]) == (result.run, "run", "job")
    data = finished["data"]
    assert (data["outcome"], data["exit_code"], data["output_tail"]) == ("failed", 7, "out\nerr\n")
    assert data["output_bytes"] == 8 and data["error"]["message"] == "job failed with exit code 7"


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("no-such-program",), 127, "command not found"),
        (("./plain",), 126, "Permission denied"),
        (("./orphan",), 127, "command not found"),
        (("sh", "-c", "kill -KILL $$"), 137, "was killed by SIGKILL"),
        (("sh", "-c", "exit 255"), 255, "exit code 255"),
    ],
)
def test_exit_codes_are_those_of_a_shell(here: Here, argv: tuple[str, ...], code: int, said: str) -> None:
    (here.folder / "plain").write_text("x")
    (here.folder / "orphan").write_text("#!/no/such/interpreter\n")
    (here.folder / "orphan").chmod(0o755)
    result = here(argv)
    assert result.exit_code == code and said in result.message
    assert bool(result.hint) == (code in (126, 127))
    if argv == ("./orphan",):
        assert "the program named in its first line" in result.hint


def test_what_cannot_be_started_is_not_tried_again(here: Here) -> None:
    assert len(here(("no-such-program",), retries=3, retry_delay=0.0).attempts) == 1


@pytest.mark.parametrize(
    ("promises", "script", "said"),
    [
        (Promises(output=""), "true", "it printed nothing"),
        (Promises(output=""), "echo; printf '  '", "it printed nothing"),
        (Promises(output="^[0-9]+ rows$"), "echo no rows", "no line of its output matches"),
        (Promises(files=("made",)), "true", "made is not there"),
        (Promises(files=("made",)), ": >made", "made is empty"),
        (Promises(files=("there",)), "true", "there was not changed"),
        (Promises(least=3600.0), "true", "it took only"),
    ],
)
def test_success_that_is_none(here: Here, promises: Promises, script: str, said: str) -> None:
    (here.folder / "there").write_text("old\n")
    os.utime(here.folder / "there", (1e9, 1e9))
    result = here(script, promises)
    assert (result.outcome, result.exit_code) == ("failed", 1)
    assert result.message.startswith(f"job said that it worked, but {said}")
    assert [fact["level"] for fact in here.facts("silent.failure")] == ["error"]
    assert here.facts("run.finished")[0]["data"]["silent"]


@pytest.mark.parametrize(
    ("promises", "script"),
    [
        (Promises(output=""), "echo x >&2"),
        (Promises(output="^[0-9]+ rows$"), "echo begin; printf '17 rows'"),
        (Promises(files=("made", "there")), "echo x >made; echo old >there"),
        (Promises(files=("there",)), "cp there made; mv made there"),
        (Promises(files=("folder",)), "mkdir folder"),
        (Promises(least=0.0, most=3600.0), "true"),
    ],
)
def test_success_that_is_one(here: Here, promises: Promises, script: str) -> None:
    (here.folder / "there").write_text("old\n")
    assert here(script, promises).outcome == "ok"
    assert here.facts("silent.failure") == []


def test_a_failure_is_not_a_silent_one(here: Here) -> None:
    assert here("exit 4", Promises(output="")).exit_code == 4
    assert here.facts("silent.failure") == []


def test_a_slow_command_is_a_warning(here: Here) -> None:
    assert here("sleep 0.05", Promises(most=0.01)).outcome == "ok"
    assert [fact["level"] for fact in here.facts("expectation.failed")] == ["warning"]


def test_retries_until_it_works(here: Here) -> None:
    result = here("n=$(cat tries 2>/dev/null | wc -c); printf x >>tries; [ $n -ge 2 ]", retries=5, retry_delay=0.01)
    assert (result.outcome, [attempt.exit_code for attempt in result.attempts]) == ("ok", [1, 1, 0])
    assert (here.folder / "tries").read_text() == "xxx"
    assert here.warned[0].endswith("attempt 2 begins in 0.01 s") and here.warned[1].endswith("in 0.02 s")


def test_retries_come_to_an_end(here: Here) -> None:
    result = here("printf x >>tries; exit 9", retries=2, retry_delay=0.01)
    assert (result.exit_code, result.message) == (9, "job failed with exit code 9 (attempt 3 of 3)")
    assert (here.folder / "tries").read_text() == "xxx"
    assert len(here.facts("run.finished")[0]["data"]["attempts"]) == 3


def test_a_silent_failure_is_tried_again_too(here: Here) -> None:
    assert here("[ -e once ] && echo x; touch once", Promises(output=""), retries=1, retry_delay=0.0).outcome == "ok"


def test_secrets_are_recorded_nowhere(here: Here) -> None:
    environ = {**here.context.environ, "SERVICE_TOKEN": "tok-1234567890"}
    here.context = replace(here.context, environ=environ)
    argv = ("sh", "-c", "echo password=hunter2-hunter2; echo $SERVICE_TOKEN", "--password", "hunter2-hunter2")
    assert "***" in here(argv).tail
    kept = b"".join(path.read_bytes() for path in (here.folder / "state").rglob("*") if path.is_file())
    assert b"hunter2" not in kept and b"tok-1234567890" not in kept


def test_an_inner_run_of_the_same_name_is_refused_and_of_another_is_not(here: Here) -> None:
    from holdfast.app.overlap import alone
    from holdfast.runners.signals import caught

    with caught() as signals:
        lock = alone(here.folder / "state/runs", "job", "sleep 9", signals, wait=False, warn=here.warned.append)
        with lock:
            with pytest.raises(Locked, match=f"process {os.getpid()}, since .* \\(sleep 9\\)"):
                here("true")
            skipped = here("touch ran", overlap="skip")
            assert (skipped.outcome, skipped.exit_code, skipped.skipped) == ("cancelled", 0, True)
            assert here("true", name="other").outcome == "ok"
    assert here("true").outcome == "ok"
    assert not (here.folder / "ran").exists()
    assert [fact["data"]["outcome"] for fact in here.facts("run.finished")] == ["failed", "cancelled", "ok", "ok"]


@pytest.mark.parametrize(
    "wrong", [{"name": "a/b"}, {"name": "-x"}, {"cwd": "/no/such"}, {"promises": Promises(output="(")}]
)
def test_a_call_that_makes_no_sense_leaves_no_run(here: Here, wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        here("true", **{"promises": Promises(), **wrong}) if "promises" not in wrong else here(
            "true", wrong["promises"]
        )
    assert here.facts("run.started") == []


def test_the_tail_begins_at_a_line_so_that_no_half_of_a_secret_stands_there() -> None:
    tail = Tail(limit=20)
    tail.add(b"password=" + b"s" * 15 + b"\nthe end\n")
    assert tail.text() == "the end\n"
    long = Tail(limit=20)
    long.add(b"x" * 50)
    assert long.text() == "" and long.total == 50


def test_held_output_keeps_order_beginning_and_end() -> None:
    held = Held(limit=10)
    for number in range(20):
        held.add(1 + number % 2, b"%02d\n" % number)
    pieces = list(held.pieces())
    assert pieces[:3] == [(1, b"00\n"), (2, b"01\n"), (1, b"02\n")] and pieces[-1] == (2, b"19\n")
    assert b"42 bytes left out" in b"".join(data for _, data in pieces)


def test_a_line_is_found_however_it_is_cut_into_pieces() -> None:
    for size in (1, 3, 100):
        search = Search(re.compile(rb"^17 rows$"))
        text = b"begin\n17 rows\nend"
        for place in range(0, len(text), size):
            search.add(1, text[place : place + size])
        assert search.end()
    apart = Search(re.compile(rb"^17 rows$"))
    apart.add(1, b"17 ")
    apart.add(2, b"rows\n")
    assert not apart.end()


def test_very_much_output_takes_little_memory(here: Here) -> None:
    result = here((sys.executable, "-c", "print('x' * 999 + '\\n', end='', flush=True)\nprint('y' * 5_000_000)"))
    assert result.bytes_printed == 5_001_001 and len(result.tail) <= 16 << 10
