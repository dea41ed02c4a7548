"""``holdfast health`` and ``holdfast key export``: what they find, say, leave behind, and never do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
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


def test_the_age_is_told_by_the_vault_where_the_journal_is_new(cli, configured) -> None:
    configured()
    cli("backup", "docs")
    shutil.rmtree(cli.home / ".local/state/holdfast")
    assert results(cli("health", "--json"))["age:docs/home"] == "pass"


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


def test_a_broken_configuration_is_a_finding(cli, configured) -> None:
    configured()
    path = cli.home / ".config/holdfast/holdfast.yaml"
    path.write_text(path.read_text() + "nonsense: 3\n")
    done = cli("health", "--json")
    found = checks(done)
    assert done.code == 1 and found["config"]["result"] == "fail" and "nonsense" in found["config"]["message"]
    assert found["state"]["result"] == "pass" and status(cli)["ok"] is False


def test_a_damaged_database_is_found(cli, configured) -> None:
    configured()
    cli("backup", "docs")
    other = cli.home / ".local/state/holdfast/jobs.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("create table t(a)")
        database.executemany("insert into t values (?)", [("x" * 100,)] * 2000)
        database.execute("create index i on t(a)")
        database.commit()
    raw = bytearray(other.read_bytes())
    raw[8192:12288] = os.urandom(4096)
    other.write_bytes(raw)
    found = checks(cli("health", "--json", "--only", "databases"))
    assert found["databases"]["result"] == "fail" and "jobs.db is damaged" in found["databases"]["message"]


def test_a_damaged_journal_keeps_nothing_from_being_looked_at(cli, configured) -> None:
    configured()
    cli("backup", "docs")
    cli("health")
    state = cli.home / ".local/state/holdfast"
    for path in state.glob("journal.db*"):
        path.unlink()
    (state / "journal.db").write_bytes(b"this is no database, whatever it is called" * 300)
    done = cli("health", "--json")
    found = results(done)
    assert found["journal"] in ("warn", "fail") and found["vault:home"] == found["age:docs/home"] == "pass"


def test_a_journal_out_of_reach_is_told(cli, configured) -> None:
    configured()
    cli("backup", "docs")
    path = cli.home / ".config/holdfast/holdfast.yaml"
    path.write_text(path.read_text() + "journal: postgresql://127.0.0.1:1/none\n")
    done = cli("health", "--json")
    found = results(done)
    assert done.code == 1 and found["journal"] == "fail"
    assert found["vault:home"] == found["age:docs/home"] == "pass"  # the vault itself still tells


def test_what_cannot_be_kept_is_told(cli, configured) -> None:
    configured()
    cli("backup", "docs")
    cli("key", "export", cli.home / "sheet")
    place = cli.home / ".local/state/holdfast/status/health.json"
    place.mkdir(parents=True)
    done = cli("health")
    assert done.code == 1 and "could not be kept" in done.err


def test_a_status_file_that_cannot_be_read(cli, configured) -> None:
    configured()
    cli("backup", "docs")
    (cli.home / ".local/state/holdfast/status/other.json").write_text('{"half": ')
    found = checks(cli("health", "--json", "--only", "status"))
    assert found["status"]["result"] == "warn" and "other.json" in found["status"]["message"]


def test_own_commands(cli, configured) -> None:
    configured(
        "limit: 5s",
        "own:",
        "  good: echo 12 disks are well",
        "  soft: {run: 'exit 1', optional: true}",
        "  slow: {run: [sleep, '600'], timeout: 0.3s}",
        "  absent: [no-such-program]",
        "  secret: 'echo token=abcdefghijklmnop; exit 1'",
        "  child: {run: 'sleep 600 & exit 0', timeout: 20s}",
    )
    began = time.monotonic()
    found = checks(cli("health", "--json", "--only", "own"))
    assert time.monotonic() - began < 15
    assert found["own:good"]["message"] == "12 disks are well"
    expected = {"good": "pass", "soft": "warn", "slow": "fail", "absent": "fail", "secret": "fail", "child": "pass"}
    assert {name[4:]: check["result"] for name, check in found.items()} == expected
    assert "did not end within 0.3 s" in found["own:slow"]["message"]
    assert "cannot run no-such-program" in found["own:absent"]["message"]
    assert "abcdefgh" not in found["own:secret"]["message"]


def test_choosing_checks(cli, configured) -> None:
    configured("skip: [key, 'space:home']")
    cli("backup", "docs")
    whole = results(cli("health", "--json"))
    assert (whole["key:home"], whole["space:home"]) == ("skip", "skip")
    part = cli("health", "--json", "--only", "vault:home", "--only", "clock")
    assert set(results(part)) == {"vault:home", "clock"}
    # What was not looked at now stays as it was last seen: a dashboard does not take a part for the whole.
    assert {check["name"] for check in status(cli)["checks"]} == set(whole)
    assert "vault:home" not in results(cli("health", "--json", "--skip", "vault"))
    for words in (("--only", "valt"), ("--skip", "valt"), ("--only", "vault:other")):
        done = cli("health", *words)
        assert done.code == 2 and "there is no check" in done.err.lower() and "hint" in done.err


def test_nobody_is_asked_for_a_password(cli, documents: Path, tmp_path: Path) -> None:
    assert cli("init", tmp_path / "vault", HOLDFAST_PASSWORD=KEY).code == 0
    done = cli("health", "--json", HOLDFAST_VAULT=str(tmp_path / "vault"))
    (found,) = (check for name, check in checks(done).items() if name.startswith("vault:"))
    assert done.code in (0, 1) and found["result"] == "warn" and "without a person" in found["message"]


def test_a_wrong_password_is_critical(cli, configured) -> None:
    configured()
    cli("backup", "docs")
    (cli.home / "home.key").write_text(keyfile.generate(lambda count: b"x" * count).decode() + "\n")
    found = checks(cli("health", "--json", "--only", "vault"))
    assert (found["vault:home"]["result"], found["vault:home"]["severity"]) == ("fail", "critical")


def test_a_server_that_never_answers_holds_nothing_up(cli, configured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, says nothing
        port = server.getsockname()[1]
        remote = f'  far: {{location: "rest:http://127.0.0.1:{port}/x", password_file: {cli.home}/home.key}}\n'
        configured("limit: 2s", vaults=remote)
        cli("backup", "docs")
        began = time.monotonic()
        found = results(cli("health", "--json"))
        assert found["vault:far"] == "fail" and found["vault:home"] == "pass" and found["space:far"] == "skip"
        assert time.monotonic() - began < 60


@pytest.mark.parametrize("how", ["password_file: {home}/pipe", "password_command: sleep 600"])
def test_a_password_that_never_comes_holds_nothing_up(cli, configured, how: str) -> None:
    configured("limit: 1s")
    os.mkfifo(cli.home / "pipe")
    path = cli.home / ".config/holdfast/holdfast.yaml"
    path.write_text(path.read_text().replace(f"password_file: {cli.home}/home.key", how.format(home=cli.home)))
    found = results(cli("health", "--json", "--only", "vault", "--only", "space"))
    assert found == {"vault:home": "fail", "space:home": "pass"}


def test_without_a_state_folder_the_checks_are_made(cli, configured) -> None:
    configured()
    cli("backup", "docs")
    (cli.home / "file").touch()
    done = cli("health", "--json", HOLDFAST_STATE_DIR=str(cli.home / "file"))
    found = results(done)
    assert done.code == 1 and (found["state"], found["journal"]) == ("fail", "fail")
    assert found["vault:home"] == found["age:docs/home"] == "pass"
    assert any("could not be kept" in event.get("message", "") for event in done.events)


def test_a_key_file_that_is_open_to_others_or_gone(cli, configured) -> None:
    configured()
    cli("backup", "docs")
    (cli.home / "home.key").chmod(0o644)
    found = checks(cli("health", "--json", "--only", "key"))
    assert found["key:home"]["result"] == "warn" and found["key:home"]["action"].startswith("chmod 600")
    (cli.home / "home.key").unlink()
    found = checks(cli("health", "--json", "--only", "key"))
    assert (found["key:home"]["result"], found["key:home"]["severity"]) == ("fail", "critical")


def test_the_tracker_of_scripts(cli) -> None:
    assert results(cli("health", "--json", "--only", "tracker")) == {"tracker": "skip"}
    (cli.home / ".local/state/holdfast/tracker").mkdir()
    assert results(cli("health", "--json", "--only", "tracker")) == {"tracker": "pass"}
    assert not list((cli.home / ".local/state/holdfast/tracker").iterdir())


def test_git_work_trees(cli, configured, documents: Path, need) -> None:
    need("git")
    tree = documents / "project"
    tree.mkdir()
    subprocess.run(["git", "init", "-q", tree], check=True, env=cli.environ)
    configured("git: true")
    assert results(cli("health", "--json", "--only", "git"))["git:docs"] == "pass"
    (tree / "new.txt").write_text("not committed")
    found = checks(cli("health", "--json", "--only", "git"))["git:docs"]
    assert found["result"] == "warn" and found["message"].endswith(str(tree))


def test_a_path_that_is_gone(cli, configured, documents: Path) -> None:
    configured(plans=f"  more:\n    paths: [{documents}/gone]\n    to: [home]\n")
    found = checks(cli("health", "--json", "--only", "disk"))
    assert (found["disk:docs"]["result"], found["disk:more"]["result"]) == ("pass", "fail")


def test_too_little_room(cli, configured) -> None:
    configured()
    path = cli.home / ".config/holdfast/holdfast.yaml"
    path.write_text(path.read_text().replace("free: 1K", "free: 4000P"))
    found = checks(cli("health", "--json", "--only", "space", "--only", "disk", "--only", "state"))
    assert {check["result"] for check in found.values()} == {"warn"}
    assert all("free" in check["message"] for check in found.values())


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
    told = cli("key", "export", cli.home / "second", "--json")
    assert told.summary["file"] == str(cli.home / "second") and "hfk1-" not in told.out


def test_a_changed_key_is_to_be_exported_anew(cli, configured) -> None:
    configured()
    cli("backup", "docs")
    assert cli("key", "export", cli.home / "sheet").code == 0
    assert cli("key", "passwd", "--new-key-file", cli.home / "new.key").code == 0
    os.replace(cli.home / "new.key", cli.home / "home.key")
    found = checks(cli("health", "--json", "--only", "key"))["key:home"]
    assert found["result"] == "warn" and "changed" in found["message"]


def test_a_mirror_has_no_key_to_export(cli, tmp_path: Path) -> None:
    assert cli("init", tmp_path / "mirror", "--kind", "mirror").code == 0
    done = cli("key", "export", cli.home / "sheet", "--vault", tmp_path / "mirror")
    assert done.code == 1 and not (cli.home / "sheet").exists()


def test_health_is_a_run_and_a_fact(cli, configured) -> None:
    configured()
    cli("health")
    done = cli("history", "--json")
    runs = [event for event in done.events if event.get("operation") == "health"]
    assert runs and runs[0]["outcome"] == "failed"
