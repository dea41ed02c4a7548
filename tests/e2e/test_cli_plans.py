"""``holdfast backup PLAN``: several vaults, hooks, keeping, and how each of them can fail."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast.config import keyfile

# A key, which unlike a password opens a vault without half a second of derivation.
PASSWORD = {"HOLDFAST_PASSWORD": keyfile.generate(bytes).decode()}


@pytest.fixture
def plan(cli, documents: Path, tmp_path: Path) -> Callable[..., None]:
    """Writes a configuration with the vaults ``one`` and ``two``, made, and a plan ``docs`` with more lines in it."""

    def write(*lines: str, to: str = "[one, two]", paths: str = "", more: str = "") -> None:
        path = cli.home / ".config/holdfast/holdfast.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"vaults:\n  one: {{location: {tmp_path}/one}}\n  two: {{location: {tmp_path}/two}}\n"
            f"plans:\n  docs:\n    paths: {paths or f'[{documents}]'}\n    to: {to}\n"
            + "".join(f"    {line}\n" for line in lines)
            + more
        )
        for name in ("one", "two"):
            if not (tmp_path / name).exists():
                assert cli("init", name, **PASSWORD).code == 0

    return write


def snapshots(cli, vault: str) -> list[dict[str, Any]]:
    done = cli("snapshots", "--vault", vault, "--json", **PASSWORD)
    assert done.code == 0, done.err
    return [event for event in done.events if event["event"] == "snapshot"]


def test_a_plan_saves_into_all_its_vaults(cli, plan, documents: Path) -> None:
    plan("exclude: [bob.txt]", "tags: [papers]", "host: desk", "note: nightly")
    done = cli("backup", "docs", **PASSWORD)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("saved: 2 files") == 2 and "Plan docs" in done.out and "Into two:" in done.out
    for vault in ("one", "two"):
        (saved,) = snapshots(cli, vault)
        assert saved["tags"] == ["plan:docs", "papers"]
        assert (saved["host"], saved["note"], saved["paths"]) == ("desk", "nightly", [str(documents)])
    assert cli("backup", "docs", "--note", "by hand", "--tag", "extra", "--to", "two", **PASSWORD).code == 0
    assert len(snapshots(cli, "one")) == 1
    assert (snapshots(cli, "two")[1]["note"], snapshots(cli, "two")[1]["tags"][2:]) == ("by hand", ["extra"])


def test_one_broken_vault_does_not_keep_the_other_from_its_snapshot(cli, plan, tmp_path: Path) -> None:
    plan()
    (tmp_path / "one/config").chmod(0o600)  # nobody may write to it, but root
    (tmp_path / "one/config").write_bytes(b"broken")
    done = cli("backup", "docs", "--json", **PASSWORD)
    assert done.code == 13
    error, *_, last = [event for event in done.events if event["event"] in ("error", "summary")]
    assert (error["event"], error["context"]["vault"], error["exit_code"]) == ("error", "one", 13)
    assert (last["plan"], last["outcome"], last["exit_code"]) == ("docs", "failed", 13)
    one, two = last["vaults"]
    assert (one["outcome"], one["snapshot"], two["outcome"]) == ("failed", None, "ok")
    assert [snapshot["id"] for snapshot in snapshots(cli, "two")] == [two["snapshot"]]
    told = cli("backup", "docs", **PASSWORD)
    assert "plan docs, vault one: " in told.err and "Into two:\nSnapshot " in told.out


def test_the_gravest_exit_code_wins(cli, plan, documents: Path, tmp_path: Path) -> None:
    plan(paths=f"[{documents}, {tmp_path}/missing]")
    assert cli("backup", "docs", **PASSWORD).code == 3
    assert len(snapshots(cli, "one")) == 1
    plan(paths=f"[{documents}, {tmp_path}/missing]", to="[one, two]")
    (tmp_path / "two").rename(tmp_path / "away")
    done = cli("backup", "docs", **PASSWORD)
    assert done.code == 10 and "the vault 'two' is not there" in done.err
    nothing = cli("config", "check")
    assert nothing.code == 0


def test_all_plans_run_though_one_fails(cli, plan, documents: Path, tmp_path: Path) -> None:
    gone = f"  gone: {{paths: [{tmp_path}/nothing], to: [one]}}\n"
    plan(more=f"{gone}  last: {{paths: [{documents}/letters], to: [two]}}\n")
    done = cli("backup", "--all", "--json", **PASSWORD)
    assert done.code == 10
    ends = [event for event in done.events if event["event"] == "summary" and "vaults" in event]
    assert [(end["plan"], end["outcome"]) for end in ends] == [("docs", "ok"), ("gone", "failed"), ("last", "ok")]
    assert [snapshot["tags"] for snapshot in snapshots(cli, "two")] == [["plan:docs"], ["plan:last"]]


def test_keep_forgets_only_what_is_the_plans_own(cli, plan, documents: Path) -> None:
    plan("keep: {last: 2}", to="[one]")
    assert cli("backup", documents, "--to", "one", **PASSWORD).code == 0
    assert cli("backup", documents, "--to", "one", "--tag", "plan:docs", "--host", "other", **PASSWORD).code == 0
    for _ in range(3):
        assert cli("backup", "docs", **PASSWORD).code == 0
    done = cli("backup", "docs", "--json", **PASSWORD)
    summary = next(event for event in done.events if event["event"] == "summary")
    assert (summary["forgotten"], summary["kept"]) == (1, 2)
    left = snapshots(cli, "one")
    assert len(left) == 4 and sum(snapshot["tags"] == ["plan:docs"] for snapshot in left) == 3
    assert "1 old snapshot forgotten, 2 kept" in cli("backup", "docs", **PASSWORD).out


def test_a_dry_run_changes_nothing_and_runs_no_hooks(cli, plan, tmp_path: Path, snapshot_of) -> None:
    plan("keep: {last: 1}", f"hooks: {{before: [touch {tmp_path}/ran], after: [touch {tmp_path}/ran]}}")
    before = snapshot_of(tmp_path / "one")
    done = cli("backup", "docs", "--dry-run", **PASSWORD)
    assert done.code == 0 and done.out.count("Would save 3 files") == 2 and "no hooks" in done.err
    assert not (tmp_path / "ran").exists()
    after = {name: data for name, data in snapshot_of(tmp_path / "one").items() if not name.startswith("locks/")}
    assert after == before


def hooks(tmp_path: Path, before: str = "true") -> str:
    log = tmp_path / "log"
    return (
        f"hooks: {{before: ['echo before $HOLDFAST_PLAN >> {log}', '{before}'],"
        f" after: ['echo after $HOLDFAST_OUTCOME >> {log}'], on_failure: ['echo sorry >> {log}']}}"
    )


def test_hooks_around_a_backup(cli, plan, tmp_path: Path) -> None:
    plan(hooks(tmp_path))
    assert cli("backup", "docs", **PASSWORD).code == 0
    assert (tmp_path / "log").read_text() == "before docs\nafter ok\n"


def test_a_failing_hook_before_fails_the_run(cli, plan, tmp_path: Path) -> None:
    plan(hooks(tmp_path, "exit 7"))
    done = cli("backup", "docs", **PASSWORD)
    assert done.code == 1
    assert "plan docs: the hook 2 before the backup failed with exit code 7; nothing was backed up" in done.err
    assert "optional: true" in done.err
    assert (tmp_path / "log").read_text() == "before docs\nafter failed\nsorry\n"
    assert snapshots(cli, "one") == []


def test_an_optional_hook_and_a_failing_one_afterwards(cli, plan) -> None:
    plan("hooks: {before: [{run: exit 1, optional: true}], after: [exit 2]}")
    done = cli("backup", "docs", "--json", **PASSWORD)
    assert done.code == 1
    facts = [event for event in done.events if event["event"] == "fact" and event["kind"] == "hook.failed"]
    assert [fact["level"] for fact in facts] == ["warning", "error"]
    assert (done.summary["hooks_failed"], done.summary["outcome"]) == (1, "failed")
    assert len(snapshots(cli, "one")) == 1


def test_a_hook_that_never_ends(cli, plan) -> None:
    plan("hooks: {before: [{run: sleep 600, timeout: 1s}]}")
    done = cli("backup", "docs", **PASSWORD)
    assert done.code == 1 and "did not end within 1 s" in done.err


def test_interrupted_in_a_hook_the_hooks_after_still_run(cli, plan, tmp_path: Path) -> None:
    started, ended = tmp_path / "started", tmp_path / "ended"
    plan(f"hooks: {{before: ['touch {started}; sleep 600'], after: ['echo $HOLDFAST_OUTCOME > {ended}']}}")
    process = subprocess.Popen(
        [*cli.words, "backup", "docs"], env={**cli.environ, **PASSWORD}, cwd=cli.home, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if started.exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert ended.read_text() == "cancelled\n"
    assert snapshots(cli, "one") == []


def test_words_that_could_be_plans(cli, plan, documents: Path) -> None:
    plan()
    near = cli("backup", "dosc", **PASSWORD)
    assert near.code == 10 and "Did you mean the plan 'docs'?" in near.err
    (cli.home / "docs").mkdir()
    (cli.home / "docs/file").write_text("x")
    both = cli("backup", "docs", **PASSWORD)
    assert both.code == 2 and "--plan docs" in both.err and "./docs" in both.err
    assert cli("backup", "--plan", "docs", **PASSWORD).code == 0
    assert cli("backup", "./docs", "--to", "two", **PASSWORD).code == 0
    assert [len(snapshots(cli, vault)) for vault in ("one", "two")] == [1, 2]
    assert cli("backup", "--plan", "dogs", **PASSWORD).code == 10
    mixed = cli("backup", "docs", documents, cwd=documents, **PASSWORD)
    assert mixed.code == 2 and "given together" in mixed.err
    for words in (["--exclude", "x"], ["--host", "y"], ["--files-from", "/dev/null", "--parent", "latest"]):
        refused = cli("backup", "--plan", "docs", *words, **PASSWORD)
        assert refused.code == 2 and "does not go with a plan" in refused.err


def test_vaults_of_every_kind_in_one_plan(cli, plan, tmp_path: Path) -> None:
    plan(to="[one]")
    path = cli.home / ".config/holdfast/holdfast.yaml"
    text = path.read_text().replace("to: [one]", "to: [plain, history, one]")
    kinds = "".join(
        f"  {name}: {{kind: {kind}, location: {tmp_path}/{name}}}\n"
        for name, kind in (("plain", "mirror"), ("history", "versioned"))
    )
    path.write_text(text.replace("vaults:\n", f"vaults:\n{kinds}"))
    assert cli("config", "check").code == 0
    for vault in ("plain", "history"):
        assert cli("init", vault).code == 0
    done = cli("backup", "docs", **PASSWORD)
    assert done.code == 0, done
    for vault in ("plain", "history", "one"):
        assert len(snapshots(cli, vault)) == 1


def test_the_databases_of_a_plan(cli, plan, documents: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(documents / "app.db")) as database, database:
        database.execute("create table t (a)")
    plan("databases: [{sqlite: auto}, {command: {name: hello, run: echo hi}}]", to="[one]")
    done = cli("backup", "docs", "--json", **PASSWORD)
    assert done.code == 0, done
    saved = next(event for event in done.events if event["event"] == "summary" and "databases" in event)
    assert saved["databases"] == 2
    dumped = cli("dump", "latest:/.holdfast/databases/command/hello", "--vault", "one", **PASSWORD)
    assert dumped.out == "hi\n"

    path = cli.home / ".config/holdfast/holdfast.yaml"
    text = path.read_text().replace("to: [one]", "to: [plain, one]")
    path.write_text(text.replace("vaults:\n", f"vaults:\n  plain: {{kind: mirror, location: {tmp_path}/plain}}\n"))
    assert cli("init", "plain").code == 0
    done = cli("backup", "docs", **PASSWORD)
    assert done.code == 0 and "the plan's dumps are not in it" in done.err


def test_the_copies_of_a_plan(cli, plan, documents: Path) -> None:
    plan("copy: [{to: two, keep: {last: 1}}]", to="[one]")
    assert cli("backup", documents, "--to", "one", **PASSWORD).code == 0
    assert cli("backup", documents, "--to", "two", **PASSWORD).code == 0
    for _ in range(2):
        assert cli("backup", "docs", **PASSWORD).code == 0
    done = cli("copy", "--plan", "docs", "--json", **PASSWORD)
    assert done.code == 0, done.err
    assert (len(done.summary["copied"]), done.summary["unwanted"], done.summary["forgotten"]) == (1, 1, [])
    assert (done.summary["plan"], done.summary["vault"]) == ("docs", "two")
    assert cli("backup", "docs", **PASSWORD).code == 0
    again = cli("copy", "--plan", "docs", "--json", **PASSWORD)
    assert (len(again.summary["copied"]), len(again.summary["forgotten"])) == (1, 1)
    assert [snapshot["tags"] for snapshot in snapshots(cli, "two")] == [[], ["plan:docs"]]
    assert cli("copy", "--plan", "docs", "--from", "one", **PASSWORD).code == 2
    assert cli("copy", **PASSWORD).code == 2


def test_a_password_is_asked_for_by_its_own_command_once(cli, documents: Path, tmp_path: Path) -> None:
    count = tmp_path / "count"
    program = tmp_path / "password"
    program.write_text(f"#!/bin/sh\necho once >> {count}\necho secret\n")
    program.chmod(0o755)
    path = cli.home / ".config/holdfast/holdfast.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        f"vaults: {{v: {{location: {tmp_path}/v, password_command: {program}}}}}\n"
        f"plans: {{p: {{paths: [{documents}], keep: {{last: 1}}}}}}\n"
    )
    assert cli("init", "v").code == 0
    os.unlink(count)
    assert cli("backup", "p").code == 0
    assert count.read_text() == "once\n"


def test_a_plan_into_an_archive_and_a_mirror(cli, plan, documents: Path, tmp_path: Path) -> None:
    plan("keep: {last: 1}", to="[one]")
    path = cli.home / ".config/holdfast/holdfast.yaml"
    text = path.read_text().replace("to: [one]", "to: [plain, one]")
    plain = tmp_path / "plain"
    path.write_text(text.replace("vaults:\n", f"vaults:\n  plain: {{kind: mirror, location: {plain}}}\n"))
    missing = cli("backup", "docs", **PASSWORD)
    assert missing.code == 10 and "the vault 'plain' is not there" in missing.err
    assert cli("init", "plain").code == 0
    done = cli("backup", "docs", "--json", **PASSWORD)
    assert done.code == 0, done.err
    mirror, archive = (event for event in done.events if event["event"] == "summary" and "vaults" not in event)
    assert (mirror["kind"], mirror["forgotten"]) == ("mirror", None)
    assert (archive["kind"], archive["forgotten"], archive["kept"]) == ("archive", 1, 1)
    assert (plain / str(documents / "notes.txt").lstrip("/")).read_text() == "first line\nsecond line\n"
    assert "notes.txt" in cli("ls", "-R", "latest", "--vault", "plain").out
    path.write_text(path.read_text().replace("kind: mirror", "kind: archive"))
    wrong = cli("snapshots", "--vault", "plain")
    assert wrong.code == 2 and "is of the kind mirror, and not archive" in wrong.err
    path.write_text(path.read_text().replace("kind: archive, location", "kind: mirror, protect: true, location", 1))
    changed = cli("backup", "docs", **PASSWORD)
    assert changed.code == 2 and "was made with protect: false" in changed.err
