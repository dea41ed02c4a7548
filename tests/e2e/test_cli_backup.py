"""``holdfast backup`` and ``snapshots`` as people use them: the first run, what is told, and every way it can end."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.e2e.conftest import read_terminal


def test_the_first_backup_makes_a_vault_and_a_private_key_and_says_so(cli, documents: Path) -> None:
    done = cli("backup", documents)
    assert done.code == 0, done.err
    assert f"New vault: {cli.default_vault}" in done.out
    assert f"Its key:   {cli.default_key}" in done.out
    assert "Keep a copy of the key somewhere safe" in done.out
    assert "saved: 3 files (" in done.out and "all new" in done.out
    assert stat.S_IMODE(cli.default_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(cli.default_vault.stat().st_mode) == 0o700
    again = cli("backup", documents)
    assert again.code == 0 and "New vault" not in again.out
    assert "0 new, 0 changed, 3 unchanged" in again.out
    assert cli("snapshots").out.count(str(documents)) == 2


def test_a_vault_whose_key_is_gone_is_not_replaced(cli, documents: Path, snapshot_of) -> None:
    cli("backup", documents)
    cli.default_key.unlink()
    before = snapshot_of(cli.default_vault)
    done = cli("backup", documents)
    assert done.code == 2
    assert "no password for the vault" in done.err and "--password-file" in done.err
    assert snapshot_of(cli.default_vault) == before
    assert not cli.default_key.exists()


def test_a_vault_elsewhere_with_a_password_from_each_source(cli, documents: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    vault = tmp_path / "vault"
    made = cli("init", vault, "--password-file", secret)
    assert made.code == 0 and f"New vault: {vault}" in made.out and "Remember the password" in made.out
    assert cli("backup", documents, "--to", vault, "--password-file", secret).code == 0
    assert cli("--vault", vault, "--password-command", f"cat {secret}", "backup", documents).code == 0
    assert cli("backup", documents, HOLDFAST_VAULT=str(vault), HOLDFAST_PASSWORD="correct horse").code == 0
    done = cli("snapshots", "--vault", vault, "--json", RESTIC_PASSWORD_FILE=str(secret))
    assert done.summary == {"event": "summary", "snapshots": 3}
    assert not cli.default_vault.exists()


def test_a_wrong_password_names_the_keys_that_were_tried(cli, documents: Path, tmp_path: Path, snapshot_of) -> None:
    vault = tmp_path / "vault"
    cli("init", vault, HOLDFAST_PASSWORD="right")
    before = snapshot_of(vault)
    key = os.listdir(vault / "keys")[0][:8]
    for words in (["backup", documents, "--to", vault], ["snapshots", "--vault", vault], ["check", "--vault", vault]):
        done = cli(*words, HOLDFAST_PASSWORD="wrong")
        assert done.code == 12
        assert key in done.err and "HOLDFAST_PASSWORD" in done.err and "hint: " in done.err
        assert "wrong" not in done.err.replace("wrong password", "")
    assert snapshot_of(vault) == before


def test_no_vault_there(cli, documents: Path, tmp_path: Path) -> None:
    for words in (["backup", documents, "--to"], ["snapshots", "--vault"], ["check", "--vault"]):
        done = cli(*words, tmp_path / "nothing", HOLDFAST_PASSWORD="x")
        assert done.code == 10
        assert str(tmp_path / "nothing") in done.err and "holdfast init" in done.err
    assert not (tmp_path / "nothing").exists()


def test_a_folder_that_is_no_vault_is_left_alone(cli, documents: Path, snapshot_of) -> None:
    before = snapshot_of(documents)
    done = cli("init", documents, HOLDFAST_PASSWORD="x")
    assert done.code == 2 and "not empty" in done.err
    done = cli("snapshots", "--vault", documents, HOLDFAST_PASSWORD="x")
    assert done.code == 10 and "no vault" in done.err
    assert snapshot_of(documents) == before


def test_a_second_init_refuses_and_makes_no_key(cli, tmp_path: Path, snapshot_of) -> None:
    vault = tmp_path / "vault"
    assert cli("init", vault, "--new-key-file", tmp_path / "key").code == 0
    before = snapshot_of(vault)
    done = cli("init", vault, "--new-key-file", tmp_path / "key2")
    assert done.code == 2 and "already a vault" in done.err
    assert snapshot_of(vault) == before and not (tmp_path / "key2").exists()


def test_init_with_several_keys(cli, documents: Path, tmp_path: Path) -> None:
    (tmp_path / "second").write_text("second")
    (tmp_path / "second").chmod(0o600)
    vault = tmp_path / "vault"
    done = cli("init", vault, "--new-key-file", tmp_path / "key", "--also-password-file", tmp_path / "second", "--json")
    assert done.code == 0 and len(done.summary["keys"]) == 2 and done.summary["key_file"] == str(tmp_path / "key")
    for file in ("key", "second"):
        assert cli("snapshots", "--vault", vault, "--password-file", tmp_path / file).code == 0


def test_a_place_of_a_later_version_says_so(cli, documents: Path) -> None:
    done = cli("backup", documents, "--to", "gdrive:folder", HOLDFAST_PASSWORD="x")
    assert done.code == 1 and "later version" in done.err and "hint: " in done.err


def test_a_missing_path_makes_it_partial_and_the_others_are_saved(cli, documents: Path) -> None:
    done = cli("backup", documents / "letters", documents / "missing")
    assert done.code == 3
    assert "1 problem:" in done.err and str(documents / "missing") in done.err
    assert "2 files" in done.out and "1 item could not be saved" in done.out


def test_when_every_path_is_missing_nothing_is_made(cli, tmp_path: Path) -> None:
    done = cli("backup", tmp_path / "a", tmp_path / "b")
    assert done.code == 10
    assert str(tmp_path / "a") in done.err and "hint: " in done.err
    assert not cli.default_vault.exists() and not cli.default_key.exists()


def test_an_optional_path_may_be_missing(cli, documents: Path, tmp_path: Path) -> None:
    done = cli("backup", documents, "--optional", tmp_path / "camera")
    assert done.code == 0
    assert "warning: " in done.err and str(tmp_path / "camera") in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_makes_it_partial_and_is_listed(cli, documents: Path) -> None:
    (documents / "notes.txt").chmod(0)
    done = cli("backup", documents)
    assert done.code == 3
    assert str(documents / "notes.txt") in done.err and "Permission denied" in done.err


def test_a_dry_run_writes_nothing(cli, documents: Path, tmp_path: Path, snapshot_of) -> None:
    done = cli("backup", documents, "--dry-run", "-v")
    assert done.code == 0, done.err
    assert "Would save 3 files" in done.out and f"new       {documents}/notes.txt" in done.out
    assert not cli.default_vault.exists() and not cli.default_key.exists()
    cli("backup", documents)
    before = snapshot_of(cli.default_vault)
    (documents / "notes.txt").write_text("other")
    done = cli("backup", documents, "-n")
    assert done.code == 0 and "1 changed" in done.out
    assert snapshot_of(cli.default_vault) == before


def test_verbose_tells_every_file_and_why(cli, documents: Path) -> None:
    cli("backup", documents)
    (documents / "notes.txt").write_text("changed\n")
    (documents / "new.txt").write_text("new\n")
    done = cli("backup", documents, "-v")
    assert f"new       {documents}/new.txt" in done.out
    assert f"changed   {documents}/notes.txt" in done.out
    assert "1 new, 1 changed, 2 unchanged" in done.out


def test_verbose_tells_what_is_left_out_and_why(cli, documents: Path) -> None:
    (documents / "junk.tmp").write_text("x")
    (documents / "node_modules").mkdir()
    done = cli("backup", documents, "-v", "-e", "*.tmp")
    assert f"excluded  {documents}/junk.tmp" in done.out and "*.tmp" in done.out
    assert f"excluded  {documents}/node_modules" in done.out


def test_quiet_is_quiet(cli, documents: Path) -> None:
    done = cli("backup", documents, "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_nothing_of_a_terminal_in_a_pipe(cli, documents: Path) -> None:
    done = cli("backup", documents, "-v")
    assert "\x1b" not in done.out + done.err and "\r" not in done.out + done.err


@pytest.mark.skipif(os.uname().sysname == "Darwin", reason="macOS takes no such names")
def test_names_can_neither_act_on_the_terminal_nor_get_lost_in_json(cli, documents: Path) -> None:
    evil = os.fsencode(documents) + b"/evil\x1b[2J\xff"
    Path(os.fsdecode(evil)).write_text("x")
    done = cli("backup", documents, "-v", "-n")
    assert f"{documents}/evil\\x1b[2J\\xff" in done.out and "\x1b" not in done.out
    facts = cli("backup", documents, "-v", "-n", "--json").events
    (data,) = [event["data"] for event in facts if "evil" in str(event.get("data"))]
    assert base64.b64decode(data["path_base64"]) == evil
    assert data["path"] == f"{documents}/evil\x1b[2J\ufffd"


def test_json_is_a_stream_with_one_summary_last(cli, documents: Path) -> None:
    done = cli("backup", documents, "/no/such/path", "--json", "--note", "n", "--tag", "a,b")
    assert done.code == 3
    assert [event["event"] for event in done.events].count("summary") == 1
    summary = done.summary
    assert summary["outcome"] == "partial" and summary["total_files"] == 3 and summary["files_new"] == 3
    assert summary["vault_created"] is True and summary["key_file"] == str(cli.default_key)
    assert len(summary["snapshot"]) == 64 and summary["problems"] == 1
    (problem,) = [event for event in done.events if event["event"] == "problem"]
    assert problem["path"] == "/no/such/path"
    (snapshot,) = [event for event in cli("snapshots", "--json").events if event["event"] == "snapshot"]
    assert snapshot["id"] == summary["snapshot"]
    assert (snapshot["note"], snapshot["tags"]) == ("n", ["a", "b"])


def test_lists_of_paths_and_patterns(cli, documents: Path) -> None:
    patterns = documents / "patterns"
    patterns.write_text("# comment\n*.txt\n!ada.txt\n")
    done = cli(
        "backup", "--files-from", "-", "--exclude-file", patterns, "--json", stdin=os.fsencode(documents) + b"\n"
    )
    assert done.summary["total_files"] == 2  # ada.txt and the list itself
    nul = cli("backup", "--files-from", "-", "--json", stdin=os.fsencode(documents / "letters") + b"\0")
    assert nul.summary["total_files"] == 2
    for option in ("--files-from", "--exclude-file"):
        missing = cli("backup", documents, option, documents / "nowhere")
        assert missing.code == 10 and "no such file" in missing.err


def test_large_files_and_default_excludes(cli, documents: Path) -> None:
    (documents / "big").write_bytes(bytes(11 << 10))
    (documents / "__pycache__").mkdir()
    (documents / "__pycache__" / "x.pyc").write_text("x")
    assert cli("backup", documents, "--exclude-larger-than", "10K", "--json").summary["total_files"] == 3
    assert cli("backup", documents, "--json").summary["total_files"] == 4
    assert cli("backup", documents, "--no-default-excludes", "--json").summary["total_files"] == 5


def test_several_vaults_one_of_which_fails(cli, documents: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    cli("init", good, HOLDFAST_PASSWORD="x")
    done = cli("backup", documents, "--to", tmp_path / "missing", "--to", good, HOLDFAST_PASSWORD="x")
    assert done.code == 10
    assert "no vault" in done.err.lower() and "saved: 3 files" in done.out


def test_snapshots_filters_and_groups(cli, documents: Path) -> None:
    cli("backup", documents, "--host", "one", "--tag", "a,b")
    cli("backup", documents, "--host", "one", "--tag", "a")
    cli("backup", documents / "letters", "--host", "two", "--note", "before the move")

    def hosts(*words: str | Path) -> list[str]:
        return [event["host"] for event in cli("snapshots", "--json", *words).events if event["event"] == "snapshot"]

    assert hosts() == ["one", "one", "two"]
    assert hosts("--host", "two") == ["two"]
    assert hosts("--tag", "a,b") == ["one"]
    assert hosts("--tag", "a", "--host", "two") == []
    assert hosts("--path", documents) == ["one", "one"]
    assert hosts("--latest", "1") == ["one", "two"]
    shown = cli("snapshots", "--group-by", "host").out
    assert "host one:" in shown and "host two:" in shown and "3 snapshots" in shown
    assert "before the move" in shown


def test_keys_can_be_added_changed_and_removed(cli, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    for name in ("first", "second", "third"):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o600)
    access = ("--vault", vault, "--password-file")
    cli("init", vault, "--password-file", tmp_path / "first")
    added = cli("key", "add", *access, tmp_path / "first", "--new-password-file", tmp_path / "second", "--json")
    assert added.code == 0
    new = added.summary["added"]
    keys = [
        event for event in cli("key", "list", *access, tmp_path / "second", "--json").events if event["event"] == "key"
    ]
    assert len(keys) == 2 and [key["id"] for key in keys if key["current"]] == [new]
    own = cli("key", "remove", new[:8], *access, tmp_path / "second")
    assert own.code == 2 and "opened the vault" in own.err
    changed = cli("key", "passwd", *access, tmp_path / "second", "--new-password-file", tmp_path / "third")
    assert changed.code == 0 and new[:8] in changed.err
    assert cli("key", "list", *access, tmp_path / "second").code == 12
    listed = cli("key", "list", *access, tmp_path / "third").out
    assert listed.count("*") == 1
    first = next(line.split()[0] for line in listed.splitlines()[2:] if not line.startswith("*"))
    assert cli("key", "remove", first, *access, tmp_path / "third").code == 0
    assert cli("key", "list", *access, tmp_path / "first").code == 12
    assert cli("key", "remove", "ffffffffff", *access, tmp_path / "third").code == 10
    assert cli("key", "add", *access, tmp_path / "third").code == 2, "nobody can be asked for the new password"


LOCK = """
import os, sys
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.secret import Secret
from holdfast.repository import Repository
from holdfast.storage import LocalStorage
vault, key = sys.argv[1:]
repository = Repository.open(LocalStorage(vault), Secret(open(key, "rb").read().strip()), clock=SystemClock())
with repository.locks.hold(exclusive=True):
    print("locked", flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), 9)
"""


def test_a_lock_of_somebody_else_is_respected_and_one_of_a_dead_process_can_be_removed(cli, documents: Path) -> None:
    cli("backup", documents)
    source = str(Path(__file__).parents[2] / "src")
    holder = subprocess.Popen(
        [sys.executable, "-c", LOCK, cli.default_vault, cli.default_key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**cli.environ, "PYTHONPATH": source},
    )
    assert holder.stdin is not None and holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    done = cli("backup", documents)
    assert done.code == 11
    assert f"process {holder.pid}" in done.err and "Wait until it has finished" in done.err
    assert cli("ls", "latest", "--no-lock").code == 0
    assert "1 lock left" in cli("unlock").err, "a lock that is held stays"
    holder.stdin.close()
    holder.wait()
    holder.stdout.close()
    assert "would be removed" in cli("unlock", "--dry-run").out
    assert "1 lock removed, 0 locks left." in cli("unlock").err
    assert cli("backup", documents).code == 0


def test_progress_is_drawn_on_a_terminal_and_taken_away(cli, documents: Path) -> None:
    controller, terminal = os.openpty()
    process = subprocess.Popen([*cli.words, "backup", documents], stdout=terminal, stderr=terminal, env=cli.environ)
    os.close(terminal)
    shown = read_terminal(controller)
    assert process.wait() == 0
    assert b"\r\x1b[K" in shown and b"items" in shown
    assert shown.rstrip().split(b"\n")[-1].startswith((b"Snapshot", b"\r\x1b[KSnapshot"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_interrupt_ends_cleanly_and_keeps_what_was_stored(cli, documents: Path, number: signal.Signals) -> None:
    for which in range(3000):
        (documents / f"file {which}").write_text(f"{which}" * 100)
    process = subprocess.Popen(
        [*cli.words, "backup", documents, "--json", "-v"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**cli.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    _out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the backup was faster than the signal")
    assert process.returncode == 130, err
    assert b"Traceback" not in err and b"cancelled" in err
    locks = cli.default_vault / "locks"
    deadline = time.monotonic() + 10
    while os.listdir(locks) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert os.listdir(locks) == []
    assert cli("backup", documents).code == 0


def test_the_vault_is_deleted_in_the_middle(cli, documents: Path) -> None:
    cli("backup", documents)
    shutil.rmtree(cli.default_vault / "data")
    shutil.rmtree(cli.default_vault / "index")
    done = cli("check")
    assert done.code in (10, 13) and done.err + done.out


@pytest.mark.parametrize("damage", ["config", "keys"])
def test_damage_is_told_and_nothing_is_made_worse(cli, documents: Path, damage: str, snapshot_of) -> None:
    cli("backup", documents)
    file = cli.default_vault / damage
    if damage == "keys":
        file = next(iter(file.iterdir()))
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-7])
    before = snapshot_of(cli.default_vault)
    for words in (["backup", documents], ["snapshots"], ["check"]):
        done = cli(*words)
        assert done.code == 13, (words, done)
        assert "damaged" in done.err or "can be read" in done.err
        assert "hint: " in done.err
    assert snapshot_of(cli.default_vault) == before
