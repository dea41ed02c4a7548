"""``holdfast health`` and ``holdfast key export``: what they find, say, leave behind, and never do."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.config import keyfile

KEY = keyfile.generate(bytes).decode()


@pytest.fixture
def configured(cli, documents: Path, tmp_path: Path) -> Callable[..., None]:
    """Writes a configuration with the vault ``home`` and the plan ``docs``, and more lines; makes the vault."""

    def write(*health: str, vaults: str = "", plan: str = "expect: {every: 26h}", plans: str = "") -> None:
        path = cli.home / ".config/holdfast/holdfast.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"vaults:\n  home: {{location: {tmp_path}/vault, password_file: {cli.home}/home.key, default: true}}\n"
            f"{vaults}"
            f"plans:\n  docs:\n    paths: [{documents}]\n    to: [home]\n    {plan}\n{plans}"
            "health:\n  free: 1K\n" + "".join(f"  {line}\n" for line in health)
        )
        if not (tmp_path / "vault").exists():
            assert cli("init", "home").code == 0

    return write


def checks(done) -> dict[str, dict[str, Any]]:
    return {event["name"]: event for event in done.events if event["event"] == "check"}


def results(done) -> dict[str, str]:
    return {name: event["result"] for name, event in checks(done).items()}


def status(cli) -> dict[str, Any]:
    return json.loads((cli.home / ".local/state/holdfast/status/health.json").read_bytes())


def test_a_machine_with_nothing_on_it_is_well(cli) -> None:
    done = cli("health", "--json")
    assert (done.code, done.summary["outcome"], done.summary["failed"]) == (0, "ok", 0)
    assert results(done)["vault:default"] == "skip" and status(cli)["ok"] is True


def test_a_plan_from_nothing_to_well(cli, configured) -> None:
    configured()
    before = cli("health", "--json")
    assert before.code == 1
    found = checks(before)
    assert (found["age:docs/home"]["result"], found["age:docs/home"]["severity"]) == ("fail", "critical")
    assert found["age:docs/home"]["action"] == "holdfast backup docs"
    assert cli("backup", "docs").code == 0
    after = cli("health", "--json")
    found = results(after)
    assert (found["age:docs/home"], found["outcome:backup/docs/home"], found["vault:home"]) == ("pass",) * 3
    assert found["key:home"] == "warn"  # the key is where the documents are, and nowhere else
    assert cli("key", "export", cli.home / "sheet").code == 0
    last = cli("health", "--json")
    assert last.code == 0, last.out
    assert results(last)["key:home"] == "pass" and last.summary["warnings"] == 0
    runs = [event for event in cli("history", "--json").events if event.get("operation") == "health"]
    assert sorted(run["outcome"] for run in runs) == ["failed", "ok", "ok"]
    kept = status(cli)
    assert (kept["schema"], kept["ok"], kept["counts"]["warn"]) == (1, True, 0)
    assert {check["name"]: check["result"] for check in kept["checks"]} == results(last)


def test_what_is_wrong_comes_first_and_says_what_to_do(cli, configured, tmp_path: Path) -> None:
    configured("own: {raid: [sh, -c, 'echo one disk is gone; exit 2']}")
    cli("backup", "docs")
    shutil.move(tmp_path / "vault", tmp_path / "elsewhere")
    done = cli("health")
    lines = done.out.splitlines()
    assert done.code == 1 and lines[0].startswith("fail") and done.err == ""
    assert "the vault 'home' is not there" in done.out and "-> Is its disk mounted?" in done.out
    assert "exit code 2: one disk is gone" in done.out
    assert lines.index(next(line for line in lines if line.startswith("pass"))) > 4
    quiet = cli("health", "-q").out
    assert "pass " not in quiet and "fail " in quiet
    assert cli("health", "--only", "clock", "-q").out == ""
    mistyped = cli("health", "--only", "valt")
    assert mistyped.code == 2 and "there is no check named 'valt'" in mistyped.err and "hint" in mistyped.err


def test_an_old_backup_is_overdue(cli, configured, need) -> None:
    need("faketime")
    configured()
    cli("backup", "docs")
    later = subprocess.run(
        ["faketime", "-f", "+3d", *cli.words, "health", "--json", "--only", "age", "--only", "days"],
        env=cli.environ,
        capture_output=True,
        check=False,
    )
    events = [json.loads(line) for line in later.stdout.splitlines()]
    found = {event["name"]: event for event in events if event["event"] == "check"}
    assert later.returncode == 1 and found["age:docs/home"]["result"] == "fail"
    assert found["age:docs/home"]["message"].startswith("the last backup that worked was 3.0 days ago")
    assert found["days:docs/home"]["result"] == "fail" and "no snapshot of 2 days" in found["days:docs/home"]["message"]


def test_a_versioned_vault_has_no_snapshot_of_a_day_on_which_nothing_changed(
    cli, documents: Path, tmp_path: Path, need
) -> None:
    need("faketime")
    (cli.home / "holdfast.yaml").write_text(
        f"vaults: {{disk: {{location: {tmp_path}/versions, kind: versioned}}}}\n"
        f"plans: {{docs: {{paths: [{documents}], to: [disk], expect: {{every: 26h}}}}}}\nhealth: {{free: 1K}}\n"
    )

    def later(when: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        command = ["faketime", "-f", when, *cli.words, *words, "--config", str(cli.home / "holdfast.yaml")]
        return subprocess.run(command, env=cli.environ, cwd=cli.home, capture_output=True, check=False)

    assert cli("init", "disk", "--config", cli.home / "holdfast.yaml").code == 0
    for when in ("+0d", "+1d", "+2d"):
        assert later(when, "backup", "docs").returncode == 0
    assert b"1 snapshot" in later("+2d", "snapshots", "--vault", "disk").stdout
    done = later("+2d", "health", "--only", "days", "--only", "age")
    assert done.returncode == 0, done.stdout
    missed = later("+4d", "health", "--only", "days")
    assert missed.returncode == 1 and b"no snapshot of 1 day" in missed.stdout


def test_a_clock_that_went_back_is_told(cli, configured, need) -> None:
    need("faketime")
    configured()
    cli("backup", "docs")
    earlier = subprocess.run(
        ["faketime", "-f", "-2h", *cli.words, "health", "--only", "clock"],
        env=cli.environ,
        capture_output=True,
        check=False,
    )
    assert earlier.returncode == 1 and b"the journal has a fact from" in earlier.stdout


def test_a_failed_and_a_partial_run_are_told_with_their_hints(cli, configured, documents: Path) -> None:
    configured(plan="hooks: {before: ['exit 4']}")
    cli("backup", "docs")
    found = checks(cli("health", "--json"))
    name = next(name for name in found if name.startswith("outcome:backup/docs"))
    assert found[name]["result"] == "fail" and "failed with exit code 4" in found[name]["message"]
    assert found[name]["action"].startswith("Mend what it runs")
    configured(plans=f"  more:\n    paths: [{documents}, {cli.home}/missing]\n    to: [home]\n")
    assert cli("backup", "more").code == 3
    found = checks(cli("health", "--json"))["outcome:backup/more/home"]
    assert found["result"] == "warn" and "1 item could not be handled" in found["message"]
    assert found["action"].startswith("holdfast history ")


def test_nobody_is_asked_for_a_password(cli, documents: Path, tmp_path: Path) -> None:
    assert cli("init", tmp_path / "vault", HOLDFAST_PASSWORD=KEY).code == 0
    done = cli("health", "--json", HOLDFAST_VAULT=str(tmp_path / "vault"))
    (found,) = (check for name, check in checks(done).items() if name.startswith("vault:"))
    assert done.code in (0, 1) and found["result"] == "warn" and "without a person" in found["message"]


def test_the_key_is_exported_once_and_opens_the_vault(cli, configured, need, tmp_path: Path) -> None:
    configured()
    cli("backup", "docs")
    sheet = cli.home / "sheet.txt"
    done = cli("key", "export", sheet)
    assert done.code == 0 and str(sheet) in done.err and "hfk1-" not in done.out + done.err
    assert stat.S_IMODE(sheet.stat().st_mode) == 0o600
    written = sheet.read_text()
    (key,) = (line for line in written.splitlines() if line.startswith("hfk1-"))
    assert str(tmp_path / "vault") in written and "restic -r" in written
    again = cli("key", "export", sheet)
    assert again.code == 2 and sheet.read_text() == written
    note = json.loads((cli.home / ".local/state/holdfast/exported-keys.json").read_bytes())
    assert key not in json.dumps(note) and len(note["vaults"]) == 1
    recovered = tmp_path / "recovery.key"
    recovered.write_text(key)
    recovered.chmod(0o600)
    assert cli("snapshots", "--vault", tmp_path / "vault", "--password-file", recovered).code == 0
    printed = cli("key", "export", "-")
    assert printed.code == 0 and key in printed.out
    assert cli("key", "export", "-", "--json").code == 2
    assert cli("key", "passwd", "--new-key-file", cli.home / "new.key").code == 0
    os.replace(cli.home / "new.key", cli.home / "home.key")
    changed = checks(cli("health", "--json", "--only", "key"))["key:home"]
    assert changed["result"] == "warn" and "changed" in changed["message"]
    told = cli("key", "export", cli.home / "second", "--json")
    assert told.summary["file"] == str(cli.home / "second") and "hfk1-" not in told.out


def test_a_mirror_has_no_key_to_export(cli, tmp_path: Path) -> None:
    assert cli("init", tmp_path / "mirror", "--kind", "mirror").code == 0
    done = cli("key", "export", cli.home / "sheet", "--vault", tmp_path / "mirror")
    assert done.code == 1 and not (cli.home / "sheet").exists()
