"""``holdfast logs``: every run has its lines, which can be found again and followed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Cli


def lines(cli: Cli, *words: str) -> list[dict[str, Any]]:
    done = cli("logs", "--json", "-n", "0", *words)
    assert done.code == 0, done.err
    *found, summary = done.events
    assert summary["event"] == "summary" and summary["lines"] == len(found)
    return found


def test_a_backup_leaves_lines_that_can_be_found_by_run_and_level(cli: Cli, documents: Path) -> None:
    none = cli("logs")
    assert none.code == 10 and "no log yet" in none.err
    assert cli("backup", documents).code == 0
    assert cli("backup", documents, "/nowhere").code == 3
    everything = lines(cli)
    assert {line["logger"] for line in everything} >= {"holdfast.backup", "holdfast.init"}
    ends = [line for line in everything if line.get("kind") == "run.finished" and line["operation"] == "backup"]
    assert [end["data"]["outcome"] for end in ends] == ["ok", "partial"]
    of_run = lines(cli, "--run", ends[1]["run"][:12].lower())
    assert {line["run"] for line in of_run} == {ends[1]["run"]} and of_run[0]["kind"] == "run.started"
    grave = lines(cli, "--level", "warning")
    assert grave and {line["level"] for line in grave} <= {"warning", "error"}
    assert lines(cli, "--grep", "NOWHERE") and not lines(cli, "--grep", "no such text anywhere")
    assert lines(cli, "--since", "1h") == everything and not lines(cli, "--until", "1h")
    shown = cli("logs", "-n", "1")
    assert len(shown.out.splitlines()) == 1 and "holdfast.backup" in shown.out and "-n 0" in shown.err


def test_mistakes_are_told(cli: Cli, documents: Path) -> None:
    assert cli("backup", documents).code == 0
    missing = cli("logs", "--role", "nightly")
    assert missing.code == 10 and "There are logs of holdfast" in missing.err
    assert cli("logs", "--grep", "(").code == 2
    assert "none of debug" in cli("check", HOLDFAST_LOG="loud").err


def test_the_log_is_shown_to_who_asks(cli: Cli, documents: Path) -> None:
    assert "holdfast.backup" not in cli("backup", documents).err
    shown = cli("backup", documents, HOLDFAST_LOG="info")
    assert "info     holdfast.backup: " in shown.err and shown.code == 0


def test_a_log_that_cannot_be_written_stops_nothing(cli: Cli, documents: Path) -> None:
    state = cli.home / ".local/state/holdfast"
    state.mkdir(parents=True)
    (state / "logs").write_text("in the way")
    done = cli("backup", documents)
    assert done.code == 0
    assert done.err.count("the log ") == 1 and "goes on without it" in done.err


def test_an_unforeseen_error_leaves_its_traceback(cli: Cli, documents: Path) -> None:
    assert cli("backup", documents).code == 0
    # The command itself, with something in it broken in a way that nobody foresees.
    script = (
        "import sys; from holdfast.app import check; from holdfast.cli.root import run\n"
        "def broken(*words, **named): raise RuntimeError('never thought of')\n"
        "check.check = broken\n"
        "run(['check'])\n"
    )
    python = cli.words[0] if cli.words[0].endswith("python") else os.path.join(os.path.dirname(cli.words[0]), "python")
    done = subprocess.run([python, "-c", script], env=cli.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "never thought of" in done.stderr
    (line,) = lines(cli, "--grep", "never thought of", "--level", "error")[-1:]
    assert line["exception"]["type"] == "RuntimeError" and "in broken" in line["exception"]["traceback"]


def test_following_shows_what_comes_and_ends_with_ctrl_c(cli: Cli, documents: Path) -> None:
    follower = subprocess.Popen(
        [*cli.words, "logs", "-f", "--json", "--grep", "saved|kept"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=cli.environ,
    )
    try:
        assert cli("backup", documents).code == 0
        assert follower.stdout is not None
        # Whether it was ready before the backup ended or not: the line comes, from the past or as it is written.
        line = json.loads(follower.stdout.readline())
        assert line["event"] == "log" and line["operation"] == "backup"
        follower.send_signal(signal.SIGINT)
        _, errors = follower.communicate(timeout=60)
        assert follower.returncode == 130 and b"Traceback" not in errors
    finally:
        follower.kill()
        follower.communicate()
