"""What runs leave behind: ``holdfast history``, ``status``, ``manifest``, status files; none of it stops work."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.monitorkit import must_not
from tests.servers.postgres import Postgres

from holdfast.config import keyfile
from holdfast.kernel.events import Fact
from holdfast.monitor.outbox import Outbox
from holdfast.monitor.record import new_id

# A key, which unlike a password opens a vault without half a second of derivation.
PASSWORD = {"HOLDFAST_PASSWORD": keyfile.generate(bytes).decode()}


HOLDER = """
import os, sys
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.secret import Secret
from holdfast.repository import Repository
from holdfast.storage import open_location

with open(sys.argv[2], "rb") as file:
    secret = Secret(file.read().strip(), random=True)
repository = Repository.open(open_location(sys.argv[1]), secret, clock=SystemClock(), random=os.urandom)
with repository.locks.hold(exclusive=True):
    print("held", flush=True)
    sys.stdin.read()
"""
"""Holds a vault's lock until its standard input is closed."""


@pytest.fixture
def plan(cli, documents: Path, tmp_path: Path) -> Callable[..., None]:
    """Writes a configuration with the vaults ``one`` and ``two``, made, and a plan ``docs`` with more lines in it."""

    def write(*lines: str, more: str = "", paths: str = "") -> None:
        path = cli.home / ".config/holdfast/holdfast.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"vaults:\n  one: {{location: {tmp_path}/one}}\n  two: {{location: {tmp_path}/two}}\n"
            f"plans:\n  docs:\n    paths: {paths or f'[{documents}]'}\n    to: [one, two]\n"
            + "".join(f"    {line}\n" for line in lines)
            + more
        )
        for name in ("one", "two"):
            if not (tmp_path / name).exists():
                assert cli("init", name, **PASSWORD).code == 0

    return write


def runs(cli, *words: str) -> list[dict[str, Any]]:
    done = cli("history", "--json", *words, **PASSWORD)
    assert done.code == 0, done.err
    return [event for event in done.events if event["event"] == "run"]


def state(cli) -> Path:
    return cli.home / ".local/state/holdfast"


def test_a_plan_leaves_a_run_of_its_own_and_one_for_each_vault(cli, plan) -> None:
    plan("keep: {last: 1}")
    assert cli("backup", "docs", **PASSWORD).code == 0
    assert cli("backup", "docs", **PASSWORD).code == 0

    found = runs(cli, "--plan", "docs")
    parents = [run for run in found if not run["parent"]]
    assert [(run["operation"], run["vault"], run["outcome"]) for run in parents] == [("backup", "", "ok")] * 2
    inner = [run for run in found if run["parent"] == parents[0]["id"]]
    assert {(run["operation"], run["vault"]) for run in inner} == {
        (operation, vault) for operation in ("backup", "forget") for vault in ("one", "two")
    }
    saved = next(run for run in inner if run["operation"] == "backup")
    assert saved["data"]["total_files"] == 3 and len(saved["data"]["snapshot"]) == 64
    assert {run["vault"] for run in runs(cli, "--vault", "two", "--operation", "forget")} == {"two"}


def test_all_work_is_recorded(cli, documents: Path) -> None:
    cli("backup", documents)
    work = [
        ["check"],
        ["restore", "latest", "--target", "back"],
        ["tag", "latest", "--add", "x"],
        ["hold", "latest"],
        ["unlock"],
        ["repair", "index"],
        ["recover"],
        ["rewrite", "--exclude", "bob.txt"],
        ["migrate"],
        ["key", "add", "--new-key-file", "second.key"],
        ["forget", "--keep-last", "1"],
        ["prune"],
    ]
    for words in work:
        done = cli(*words)
        assert done.code == 0, done.err
    found = runs(cli)[: len(work)]
    assert [run["operation"] for run in found] == [words[0] for words in reversed(work)]
    for run in found:
        assert (run["outcome"], run["vault"]) == ("ok", str(cli.default_vault))
        assert run["message"] and run["finished"]


def test_looking_and_trying_and_mistakes_leave_nothing(cli, documents: Path) -> None:
    cli("backup", documents)
    before = len(runs(cli))
    for words in (
        ["snapshots"],
        ["ls", "latest"],
        ["backup", documents, "--dry-run"],
        ["prune", "--dry-run"],
        ["forget", "--keep-last", "1", "-n"],
        ["backup", "--nonsense"],
        ["restore", "not-an-id", "--target", "x"],
    ):
        cli(*words)
    assert len(runs(cli)) == before


def test_a_run_in_full_tells_what_failed(cli, plan, documents: Path, tmp_path: Path) -> None:
    plan(paths=f"[{documents}, {tmp_path}/gone]")
    assert cli("backup", "docs", **PASSWORD).code == 3
    whole = next(run for run in runs(cli) if run["plan"] == "docs" and not run["parent"])
    assert (whole["outcome"], whole["data"]["problems"]) == ("partial", 2)
    done = cli("history", whole["id"], "--json")
    facts = [event for event in done.events if event["event"] == "fact"]
    assert [fact["data"]["path"] for fact in facts if fact["kind"] == "item.failed"] == [f"{tmp_path}/gone"] * 2
    assert {fact["vault"] for fact in facts if fact["kind"] == "vault.space"} == {"one", "two"}
    shown = cli("history", whole["id"][:14]).out
    assert f"{tmp_path}/gone" in shown and "partial" in shown and "Inside of it:" in shown
    assert cli("history", "01ZZZ").code == 10
    assert cli("history", "0").code == 2


def test_a_failure_tells_why(cli, documents: Path, tmp_path: Path) -> None:
    cli("backup", documents)
    assert cli("check", HOLDFAST_PASSWORD="wrong").code == 12
    last = runs(cli, "--outcome", "failed")[0]
    assert last["operation"] == "check" and last["data"]["error"]["code"] == "wrong_password"
    assert last["data"]["error"]["hint"]
    assert "wrong" not in json.dumps({**last, "data": {**last["data"], "error": {}}, "message": ""})


def test_damage_is_a_fact(cli, documents: Path) -> None:
    cli("backup", documents)
    pack = next(path for path in (cli.default_vault / "data").rglob("*") if path.is_file())
    pack.unlink()
    assert cli("check").code == 13
    last = runs(cli, "--operation", "check")[0]
    assert last["outcome"] == "failed" and last["data"]["damage"] >= 1
    facts = [event for event in cli("history", last["id"], "--json").events if event["event"] == "fact"]
    assert any(fact["kind"] == "damage.found" and fact["level"] == "error" for fact in facts)


def test_a_lock_in_the_way_is_a_fact(cli, documents: Path) -> None:
    cli("backup", documents)
    words = [sys.executable, "-c", HOLDER, cli.default_vault, cli.default_key]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert cli("check").code == 11
        assert holder.stdin is not None
        holder.stdin.close()
    last = runs(cli)[0]
    assert (last["outcome"], last["data"]["error"]["code"]) == ("failed", "locked")
    facts = [event for event in cli("history", last["id"], "--json").events if event["event"] == "fact"]
    (stuck,) = [fact for fact in facts if fact["kind"] == "lock.stuck"]
    assert stuck["data"]["pid"] == holder.pid and stuck["data"]["age_seconds"] >= 0


def _start_waiting(cli, plan) -> subprocess.Popen[bytes]:
    """A backup that waits in its hook."""
    plan("hooks: {before: ['touch began; sleep 60']}")
    process = subprocess.Popen(
        [*cli.words, "backup", "docs"],
        cwd=cli.home,
        env={**cli.environ, **PASSWORD},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while not (cli.home / "began").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    return process


def test_a_killed_run_is_shown_as_died(cli, plan) -> None:
    process = _start_waiting(cli, plan)
    assert [run["outcome"] for run in runs(cli, "--plan", "docs")] == [""]
    assert len(runs(cli, "--outcome", "running")) == 1
    process.kill()
    process.wait()
    (run,) = runs(cli, "--plan", "docs")
    assert (run["outcome"], run["message"]) == ("failed", "the process ended without a word")
    assert "ended without a word" in cli("status").out


def test_a_cancelled_run_says_so(cli, plan) -> None:
    process = _start_waiting(cli, plan)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    (run,) = runs(cli, "--plan", "docs")
    assert run["outcome"] == "cancelled" and "SIGTERM" in run["message"]


@pytest.mark.parametrize("trouble", ["file", "fifo", "damaged", "read-only", "full"])
def test_recording_in_trouble_stops_no_backup(cli, documents: Path, trouble: str) -> None:
    folder = state(cli)
    folder.parent.mkdir(parents=True)
    warned = True
    if trouble == "file":
        folder.write_text("not a folder")
    elif trouble == "fifo":
        (folder / "outbox").mkdir(parents=True)
        os.mkfifo(folder / "outbox" / f"holdfast-{os.uname().nodename.replace('-', '_')}-0.jsonl")
        os.mkfifo(folder / "journal.db")
    elif trouble == "damaged":
        folder.mkdir()
        (folder / "journal.db").write_bytes(b"x" * 8192)
        warned = False
    elif trouble == "full":
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")
        folder.symlink_to("/dev/full")
    else:
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        folder.mkdir(mode=0o500)
    done = cli("backup", documents)
    assert done.code == 0, done.err
    assert "saved: 3 files" in done.out
    assert ("warning: " in done.err) == warned and done.err.count("cannot be recorded in") == int(warned)
    assert cli("check").code == 0


def test_a_damaged_journal_is_replaced_when_it_is_read(cli, documents: Path) -> None:
    cli("backup", documents)
    assert len(runs(cli)) == 2
    journal = state(cli) / "journal.db"
    journal.write_bytes(journal.read_bytes()[:4096] + b"\xaa" * 20_000)
    cli("check")
    done = cli("history", "--json")
    assert done.code == 0
    assert "check" in {event.get("operation") for event in done.events}
    assert any(
        "journal was damaged" in event.get("message", "") for event in done.events if event["event"] == "warning"
    )
    assert list(state(cli).glob("journal.db.aside-*"))
    assert "warning" not in cli("history").err


def test_a_large_outbox_goes_into_the_journal_by_itself(cli, documents: Path) -> None:
    cli("backup", documents)
    (outbox,) = (state(cli) / "outbox").iterdir()
    filler = json.dumps({"id": "x", "filler": "y" * 60_000}).encode() + b"\n"
    outbox.write_bytes(outbox.read_bytes() + filler * 20)
    assert outbox.stat().st_size > 1 << 20
    assert cli("check").code == 0
    assert not list((state(cli) / "outbox").iterdir())
    assert (state(cli) / "journal.db").exists()
    assert [run["operation"] for run in runs(cli)] == ["check", "init", "backup"]


def test_status_shows_problems_first(cli, plan, documents: Path, tmp_path: Path) -> None:
    plan("expect: {every: 26h}", "schedule: '10 2 * * *'", more="  later:\n    paths: [/nowhere]\n    to: [one]\n")
    assert "was never backed up" in cli("status").out
    cli("backup", "docs", **PASSWORD)
    cli("backup", documents, "--to", tmp_path / "two", **PASSWORD)
    done = cli("status")
    assert done.code == 0
    assert done.out.index("later") < done.out.index("docs") and "1 needs attention, 2 in order" in done.out
    told = {(event["plan"] or event["vaults"][0]): event for event in cli("status", "--json").events[:-1]}
    assert told["docs"]["expected_every_seconds"] == 26 * 3600 and told["docs"]["problems"] == []
    assert told["docs"]["age_seconds"] < 3600
    # A schedule that nothing is installed to start is no promise.
    assert told["docs"]["schedule"] == "10 2 * * *" and told["docs"]["next"] is None
    assert "nothing starts it" in done.out and "holdfast schedule install" in done.out
    assert told["docs"]["sizes"] == [told["docs"]["sizes"][0]] and told["docs"]["sizes"][0] > 0
    assert told[str(tmp_path / "two")]["last"]["outcome"] == "ok"
    (tmp_path / "one" / "config").unlink()
    assert cli("backup", "docs", **PASSWORD).code == 10
    failed = {event["plan"]: event for event in cli("status", "--json").events[:-1]}["docs"]
    assert failed["last"]["outcome"] == "failed" and "one" in failed["problems"][0]
    assert failed["last_success"]["outcome"] == "ok"


def test_status_says_what_a_backup_left_out(cli, documents: Path, tmp_path: Path) -> None:
    (cli.home / "holdfast.yaml").write_text(
        f"vaults: {{disk: {{location: {tmp_path}/mirror, kind: mirror}}}}\n"
        f"plans: {{docs: {{paths: [{documents}, {tmp_path}/nowhere], to: [disk]}}}}\n"
    )
    for words, code in ((("init", "disk"), 0), (("backup", "docs"), 3)):
        assert cli(*words, "--config", "holdfast.yaml").code == code
    shown = cli("status", "--config", "holdfast.yaml").out
    assert "the last backup is not whole: 1 item could not be saved; 3 files kept" in shown
    assert "last good   less than a minute ago (" in shown and ", not whole)" in shown
    [whole] = [run for run in runs(cli, "--config", "holdfast.yaml", "--plan", "docs") if not run["vault"]]
    assert whole["message"] == "saved into 1 of 1 vault; 1 item could not be saved"


def test_status_shows_this_machine_and_watched_commands(cli, plan) -> None:
    plan()
    for host, name, operation, outcome in (
        ("", "nightly", "run", "failed"),
        ("elsewhere", "docs", "backup", "ok"),
        ("elsewhere", "other", "run", "ok"),
    ):
        outbox = Outbox(state(cli) / "outbox", host=host, on_trouble=must_not)
        finished = Fact("run.finished", "exit code 3", "info", {"outcome": outcome, "seconds": 1.0})
        outbox.append(finished, run=new_id(time.time_ns(), os.urandom), operation=operation, plan=name)
    done = cli("status")
    assert "nightly  (command)" in done.out and "the last run failed: exit code 3" in done.out
    assert "it was never backed up" in done.out and "other" not in done.out
    assert {run["host"] for run in runs(cli, "--host", "elsewhere")} == {"elsewhere"}
    assert "elsewhere" in cli("history").out


def test_status_of_nothing(cli) -> None:
    done = cli("status")
    assert done.code == 0 and "Nothing was backed up here yet" in done.out
    assert "Nothing was done here yet" in cli("history").out
    assert "Nobody had to be told" in cli("history", "--notices").out


def test_status_files_tell_the_last_word(cli, plan, documents: Path, tmp_path: Path) -> None:
    plan()
    cli("backup", "docs", **PASSWORD)
    told = {path.name: json.loads(path.read_text()) for path in (state(cli) / "status").glob("backup-*.json")}
    by_vault = {each["vault"]: each for each in told.values() if each["operation"] == "backup"}
    assert set(by_vault) == {"", "one", "two"}
    one = by_vault["one"]
    assert (one["schema"], one["plan"], one["outcome"], one["data"]["total_files"]) == (1, "docs", "ok", 3)
    (tmp_path / "one" / "config").unlink()
    cli("backup", "docs", **PASSWORD)
    again = {path.name: json.loads(path.read_text()) for path in (state(cli) / "status").glob("backup-*.json")}
    assert set(again) == set(told)
    now = next(each for each in again.values() if each["vault"] == "one")
    assert now["outcome"] == "failed" and now["last_success"]["run"] == one["run"]
    assert now["data"]["error"]["code"] == "not_found"


def test_a_manifest_is_one_document(cli, documents: Path) -> None:
    (documents / os.fsdecode(b"odd\xff")).write_text("odd")
    cli("backup", documents, documents.parent / "nowhere")
    done = cli("manifest", "latest", "--hashes")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    files = {item["path"]: item for item in told["items"] if item["kind"] == "file"}
    ada = files[f"{documents}/letters/ada.txt"]
    assert ada["sha256"] == hashlib.sha256(b"Dear Ada\n").hexdigest() and len(ada["blobs"]) == 1
    assert ada["size"] == 9
    assert any("path_base64" in item for item in files.values())
    assert told["totals"]["files"] == len(files) == 4
    assert told["run"]["outcome"] == "partial" and told["run"]["data"]["snapshot"] == told["snapshot"]["id"]
    sources = {source["path"]: source for source in told["sources"]}
    assert (sources[str(documents)]["files"], sources[str(documents)]["outcome"]) == (4, "ok")
    assert sources[str(documents.parent / "nowhere")]["outcome"] == "failed"
    assert "sha256" not in json.loads(cli("manifest", "latest").out)["items"][-1]
    assert cli("manifest", "deadbeef").code == 10


@pytest.mark.parametrize("kind", ["mirror", "versioned"])
def test_a_manifest_of_plain_files(cli, documents: Path, tmp_path: Path, kind: str) -> None:
    cli("init", tmp_path / "plain", "--kind", kind)
    assert cli("backup", documents, "--to", tmp_path / "plain").code == 0
    told = json.loads(cli("manifest", "latest", "--vault", tmp_path / "plain", "--hashes").out)
    assert told["kind"] == kind and told["run"]["outcome"] == "ok"
    hashes = {item["path"].rpartition("/")[2]: item.get("sha256") for item in told["items"] if item["kind"] == "file"}
    assert hashes["bob.txt"] == hashlib.sha256(b"Dear Bob\n").hexdigest()
    assert [source["outcome"] for source in told["sources"]] == ["ok"]


def test_the_journal_may_be_elsewhere(cli, plan, documents: Path, tmp_path: Path) -> None:
    plan(more=f"journal: {tmp_path}/shared/history.db\n")
    cli("backup", "docs", **PASSWORD)
    assert [run["plan"] for run in runs(cli, "--plan", "docs") if not run["parent"]] == ["docs"]
    assert (tmp_path / "shared/history.db").exists() and not (state(cli) / "journal.db").exists()
    plan(more="journal: mysql://somewhere/x\n")
    done = cli("history")
    assert done.code == 2 and "journal" in done.err and "postgresql://" in done.err


def test_the_journal_may_be_a_server(cli, plan, postgres: Postgres) -> None:
    postgres.sql("CREATE DATABASE history")
    plan(more=f"journal: {postgres.url('history')}\n")
    assert cli("backup", "docs", **PASSWORD).code == 0
    assert [run["outcome"] for run in runs(cli, "--plan", "docs") if not run["parent"]] == ["ok"]
    plan(more="journal: postgresql://127.0.0.1:9/history\n")
    assert cli("backup", "docs", **PASSWORD).code == 0
    done = cli("history")
    assert done.code == 75 and "does not answer" in done.err


def test_a_password_in_a_location_is_in_no_record(cli, documents: Path) -> None:
    cli("backup", documents, "--to", "rest:http://someone:s3cret@127.0.0.1:9/x", "--retry-for", "0s", **PASSWORD)
    everything = b"".join(path.read_bytes() for path in state(cli).rglob("*") if path.is_file())
    assert b"127.0.0.1:9/x" in everything
    assert b"s3cret" not in everything and b"s3cret" not in json.dumps(runs(cli)).encode()
