"""What counts as a failed run, and what was only a mistake of the person who sits at the terminal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.e2e.conftest import Cli, Done, read_terminal

from holdfast.config import keyfile

KEY = {"HOLDFAST_PASSWORD": keyfile.generate(bytes).decode()}


def at_a_terminal(cli: Cli, *words: str | Path) -> Done:
    """The command with a person in front of it; what it says there is in ``err``."""
    controller, terminal = os.openpty()
    process = subprocess.Popen(
        [*cli.words, *map(os.fspath, words)],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**cli.environ, **KEY},
        cwd=cli.home,
    )
    os.close(terminal)
    said = read_terminal(controller)
    out, _ = process.communicate(timeout=60)
    return Done(process.returncode, out.decode(), said.decode())


def outcomes(cli: Cli, *words: str) -> list[tuple[str, str]]:
    events = cli("history", "--json", *words).events
    return [(event["operation"], event["outcome"]) for event in events if event["event"] == "run"]


def test_a_vault_that_is_there_already_is_no_failed_run(cli: Cli, tmp_path: Path) -> None:
    assert cli("init", tmp_path / "vault", **KEY).code == 0
    assert cli("init", tmp_path / "vault", **KEY).code == 2
    assert outcomes(cli) == [("init", "ok")]
    assert outcomes(cli, "--outcome", "refused") == [("init", "refused")]
    assert cli("report", "--json").summary["report"]["lines"][0]["runs"] == 1
    counted = [line for line in cli("metrics").out.splitlines() if line.startswith("holdfast_runs_total{")]
    assert {line.rpartition(" ")[2] for line in counted if 'outcome="ok"' not in line} == {"0.0"}
    [run] = [event for event in cli("history", "--json", "--outcome", "refused").events if event["event"] == "run"]
    assert "there is already a vault" in cli("history", run["id"]).out


@pytest.mark.parametrize(
    "words",
    [
        ("backup", "no/such/folder", "--vault", "vault"),
        ("backup", "papers", "--vault", "valt"),
        ("check", "--vault", "valt"),
        ("prune", "--vault", "mirror"),
        ("forget", "0123456789", "--vault", "vault"),
    ],
)
def test_a_mistake_at_the_terminal_changes_nothing_that_is_told_of_the_vault(cli: Cli, words: tuple[str, ...]) -> None:
    (cli.home / "papers").mkdir()
    (cli.home / "papers" / "letter").write_text("Dear reader")
    assert cli("init", "vault", **KEY).code == 0
    assert cli("init", "mirror", "--kind", "mirror").code == 0
    assert cli("backup", "papers", "--vault", "vault", **KEY).code == 0
    status = cli.home / ".local/state/holdfast/status"
    before = {path.name: path.read_bytes() for path in status.iterdir()}
    done = at_a_terminal(cli, *words)
    assert done.code in (1, 2, 10) and "holdfast: " in done.err
    assert ("failed" in done.out, "Traceback" in done.err) == (False, False)
    assert {path.name: path.read_bytes() for path in status.iterdir()} == before
    assert {outcome for _, outcome in outcomes(cli)} == {"ok"}
    shown = cli("status")
    assert "All in order" in shown.out and "valt" not in shown.out


def test_the_same_from_a_timer_is_a_failure_that_is_told(cli: Cli) -> None:
    """``check`` of a vault whose disk is away: nobody sits there, and nothing else would tell."""
    (cli.home / "papers").mkdir()
    (cli.home / "papers" / "letter").write_text("Dear reader")
    (cli.home / "holdfast.yaml").write_text(
        "vaults: {home: {location: vault}}\nplans: {docs: {paths: [papers], to: [home], check: {schedule: '@daily'}}}\n"
        "notify: {channels: {hook: 'http://127.0.0.1:1/'}}\n"
    )
    assert cli("init", "home", **KEY).code == 0
    assert cli("backup", "docs", **KEY).code == 0
    shutil.move(cli.home / "vault", cli.home / "away")
    cli("schedule", "fire", "check:docs", **KEY)
    assert outcomes(cli, "--operation", "check") == [("check", "failed")]
    listed = [event for event in cli("notify", "list", "--json").events if event["event"] == "notice"]
    assert [each["title"] for each in listed if each["rule"] == "failed"] == ["Check (home) failed"]
    assert at_a_terminal(cli, "check", "--vault", "home").code == 10
    assert len(outcomes(cli, "--operation", "check")) == 1
    before = outcomes(cli)
    typo = at_a_terminal(cli, "backup", "docs", "--to", "hom")
    assert (typo.code, "names no vault 'hom'" in typo.err) == (10, True)
    assert outcomes(cli) == before
    # A plan of which nothing could be saved is a failure, whoever looks on.
    assert at_a_terminal(cli, "backup", "docs").code == 10
    last = json.loads(cli("history", "--json", "--plan", "docs", "--limit", "1").out.splitlines()[0])
    assert last["outcome"] == "failed"
