"""forget, tag, hold and unlock as people use them: what is told, what goes, what stays, and the exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.conftest import Cli

MAKE_LOCK = """
import sys
from holdfast.repository import Repository
from holdfast.storage import LocalStorage
from holdfast.kernel.secret import Secret
key = open(sys.argv[2], "rb").read().strip()
repository = Repository.open(LocalStorage(sys.argv[1]), Secret(key, random=True))
repository.locks._write(True)
print("locked", flush=True)
if len(sys.argv) > 3:
    sys.stdin.read()
    repository.locks.remove_stale()
    for lock in repository.locks.held():
        repository.locks.remove(lock.id)
"""


def lock_words(cli: Cli, *more: str) -> list[str]:
    return [sys.executable, "-c", MAKE_LOCK, str(cli.default_vault), str(cli.default_key), *more]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def vault(cli: Cli, documents: Path) -> Cli:
    """A default vault with three snapshots of the same folder, the middle one tagged ``release``."""
    for number in range(3):
        (documents / "notes.txt").write_text(f"version {number}\n")
        assert cli("backup", documents, *(["--tag", "release"] if number == 1 else [])).code == 0
    return cli


def ids(cli: Cli) -> list[str]:
    return [event["id"] for event in cli("snapshots", "--json").events if event["event"] == "snapshot"]


def test_a_policy_is_shown_with_reasons_before_anything_goes(vault: Cli) -> None:
    before = ids(vault)
    dry = vault("forget", "--keep-last", "1", "--keep-tag", "release", "--dry-run")
    assert dry.code == 0
    assert "2 kept" in dry.out
    assert "1 snapshot would be forgotten" in dry.out
    rows = {line.split()[1]: line for line in dry.out.splitlines() if line.startswith(("keep", "remove"))}
    assert rows[before[0][:8]].startswith("remove")
    assert rows[before[1][:8]].endswith("has tags [release]")
    assert rows[before[2][:8]].endswith("last snapshot")
    assert ids(vault) == before

    done = vault("forget", "--keep-last", "1", "--keep-tag", "release")
    assert done.code == 0
    assert "1 snapshot forgotten, 2 kept" in done.out
    assert ids(vault) == before[1:]
    assert os.listdir(vault.default_vault / "locks") == []


def test_json_tells_every_decision_and_every_deletion(vault: Cli) -> None:
    before = ids(vault)
    done = vault("forget", "--keep-last", "1", "--json", "--host", os.uname().nodename)
    decisions = [event for event in done.events if event["event"] == "decision"]
    assert [(event["id"], event["action"], event["reasons"]) for event in decisions] == [
        (before[0], "remove", []),
        (before[1], "remove", []),
        (before[2], "keep", ["last snapshot"]),
    ]
    assert decisions[0]["group"]["host"] == os.uname().nodename
    facts = [event["data"]["snapshot"] for event in done.events if event["event"] == "fact"]
    assert facts == before[:2]
    assert done.summary["removed"] == 2
    assert done.summary["kept"] == 1
    assert done.summary["dry_run"] is False


def test_named_snapshots_go_and_unknown_ones_are_told(vault: Cli) -> None:
    before = ids(vault)
    assert vault("forget", before[0][:10], "latest").code == 0
    assert ids(vault) == before[1:2]
    missing = vault("forget", before[0][:10])
    assert missing.code == 10
    assert "no snapshot has an id that begins with" in missing.err


def test_a_whole_group_goes_only_by_force(vault: Cli) -> None:
    before = ids(vault)
    for words in (("--keep-tag", "nothing-has-it"), tuple(before)):
        refused = vault("forget", *words)
        assert refused.code == 2
        assert "every snapshot of host" in refused.err
        assert "--force" in refused.err
        assert ids(vault) == before
    # Told already by a dry run, with the same exit code.
    assert vault("forget", "--keep-tag", "nothing-has-it", "--dry-run").code == 2
    assert vault("forget", "--keep-tag", "nothing-has-it", "--force").code == 0
    assert ids(vault) == []


def test_what_is_meant_has_to_be_said(vault: Cli) -> None:
    before = ids(vault)
    nothing = vault("forget")
    assert nothing.code == 2
    assert "nothing was said about what to keep" in nothing.err
    assert "--keep-daily" in nothing.err
    assert vault("forget", "--force").code == 2
    both = vault("forget", before[0], "--keep-last", "1")
    assert both.code == 2
    assert "both" in both.err
    for words in (("--keep-last", "-1"), ("--keep-daily", "many"), ("--keep-within", "5"), ("--keep-within", "1d1d"),
                  ("--keep-within-weekly", "-3d"), ("--group-by", "colour")):  # fmt: skip
        bad = vault("forget", *words)
        assert bad.code == 2, words
        assert "Write" in bad.err or "none of" in bad.err
    assert ids(vault) == before
    # With a filter, force alone retires what it fits; a policy of everything keeps everything.
    assert vault("forget", "--keep-last", "unlimited").code == 0
    assert vault("forget", "--tag", "release", "--force").code == 0
    assert ids(vault) == [before[0], before[2]]


def test_snapshots_of_the_future_stop_a_policy_but_not_a_name(vault: Cli, documents: Path) -> None:
    script = "import sys, time; time.time_ns = lambda: 4_000_000_000_000_000_000; " \
             "from holdfast.cli import main; sys.argv[0] = 'holdfast'; main()"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script, "backup", str(documents)],
        env={**environment(), "HOME": str(vault.home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before = ids(vault)
    refused = vault("forget", "--keep-last", "1")
    assert refused.code == 2
    assert "future" in refused.err
    assert before[-1][:8] in refused.err
    assert ids(vault) == before
    assert vault("forget", before[-1]).code == 0
    assert vault("forget", "--keep-last", "1").code == 0
    assert ids(vault) == before[2:3]


def test_a_damaged_snapshot_is_told_and_goes_only_by_name_and_force(vault: Cli) -> None:
    before = ids(vault)
    damaged = vault.default_vault / "snapshots" / before[0]
    damaged.chmod(0o600)
    damaged.write_bytes(b"not what was written" * 20)
    done = vault("forget", "--keep-last", "1")
    assert done.code == 13
    assert before[0][:8] in done.err
    assert damaged.exists()
    assert ids(vault) == before[2:]
    named = vault("forget", before[0])
    assert named.code == 13
    assert "--force" in named.err
    assert damaged.exists()
    vault("forget", before[0], "--force")
    assert not damaged.exists()


def test_a_held_snapshot_stays_until_it_is_released(vault: Cli) -> None:
    first = ids(vault)[0]
    dry = vault("hold", first, "--dry-run")
    assert "would be changed" in dry.err
    assert first in ids(vault)
    held = vault("hold", first, "--until", "2999-01-01", "--json")
    (event,) = (event for event in held.events if event["event"] == "tagged")
    now = event["id"]
    assert event["before"] == first
    assert now in ids(vault)
    assert first not in ids(vault)
    assert "2999-01-01" in vault("hold", "--list").out
    (listed,) = (e for e in vault("hold", "--list", "--json").events if e["event"] == "hold")
    assert listed["held"] == "2999-01-01"
    shown = {e["id"]: e["held"] for e in vault("snapshots", "--json").events if e["event"] == "snapshot"}
    assert [shown[identifier] for identifier in ids(vault)].count("2999-01-01") == 1

    denied = vault("forget", now, "--force")
    assert denied.code == 12
    assert "held until 2999-01-01" in denied.err
    assert "hold --release" in denied.err
    assert vault("forget", "--keep-last", "1").code == 0
    assert len(ids(vault)) == 2
    assert "held until 2999-01-01" in vault("forget", "--keep-last", "1", "--dry-run").out

    # The id that the snapshot had when it was made still names it.
    assert vault("hold", "--release", first).code == 0
    assert "0 snapshots held" in vault("hold", "--list").out
    assert vault("forget", "--keep-last", "1").code == 0
    assert len(ids(vault)) == 1
    again = vault("forget", first)
    assert again.code == 10


def test_holds_are_set_with_sense(vault: Cli) -> None:
    first = ids(vault)[0]
    for words in ((first, "--until", "2001-01-01"), (first, "--until", "soon"), (), ("--list", first),
                  (first, "--release", "--until", "2999-01-01")):  # fmt: skip
        refused = vault("hold", *words)
        assert refused.code == 2, words
    assert ids(vault)[0] == first
    for words in (("--add", "hold"), ("--remove", "hold-until:2999-01-01"), ("--set", "hold")):
        refused = vault("tag", first, *words)
        assert refused.code == 2
        assert "holdfast hold" in refused.err


def test_tags_change_and_a_hold_is_not_lost_by_it(vault: Cli) -> None:
    first = ids(vault)[0]
    assert vault("hold", first).code == 0
    done = vault("tag", first, "--set", "a,b")
    assert done.code == 0
    assert "1 snapshot changed, 0 already so." in done.err
    done = vault("tag", "--tag", "a", "--add", "c", "--remove", "b", "--json")
    (event,) = (event for event in done.events if event["event"] == "tagged")
    assert event["tags"] == ["a", "c", "hold"]
    assert vault("tag", first, "--add", "c").err.startswith("0 snapshots changed, 1 already so.")
    dry = vault("tag", first, "--set", "", "--dry-run")
    assert "a,c,hold -> hold" in dry.out
    assert len(ids(vault)) == 3
    for words in ((), ("--add", "x"), (first,), (first, "--set", "x", "--add", "y")):
        assert vault("tag", *words).code == 2
    assert vault("restore", f"{first}", "--target", vault.home / "back").code == 0


def test_a_vault_in_use_is_waited_for(vault: Cli) -> None:
    holder = subprocess.Popen(
        lock_words(vault, "wait"), env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdin is not None
    holder.stdout.readline()
    refused = vault("forget", "--keep-last", "1")
    assert refused.code == 11
    assert f"process {holder.pid}" in refused.err
    assert "--retry-lock" in refused.err
    # It is really being held: unlock leaves it, and says so.
    kept = vault("unlock")
    assert "stays: exclusive lock" in kept.out
    assert "running on this machine" in kept.out
    assert "0 locks removed, 1 lock left." in kept.err
    waiting = subprocess.Popen(
        [*vault.words, "forget", "--keep-last", "1", "--retry-lock", "2min"],
        env=vault.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert waiting.stderr is not None
    told = waiting.stderr.readline()
    assert "Waiting for it, up to 120 s" in told
    holder.communicate()
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert "2 snapshots forgotten" in out


def test_locks_of_the_dead_go_by_themselves_and_are_told(vault: Cli) -> None:
    subprocess.run(lock_words(vault), env=environment(), check=True, stdout=subprocess.DEVNULL)
    done = vault("forget", "--keep-last", "1", "--json")
    assert done.code == 0
    (fact,) = (e for e in done.events if e["event"] == "fact" and e["kind"] == "lock.removed")
    assert fact["data"]["host"] == os.uname().nodename
    assert os.listdir(vault.default_vault / "locks") == []


def test_unlock_explains_what_it_removes(vault: Cli) -> None:
    subprocess.run(lock_words(vault), env=environment(), check=True, stdout=subprocess.DEVNULL)
    (vault.default_vault / "locks" / ("cd" * 32)).write_bytes(b"half of a lock")
    dry = vault("unlock", "--dry-run")
    assert "would be removed: exclusive lock" in dry.out
    assert "its process on this machine is gone" in dry.out
    assert "stays: lock cdcdcdcd, which cannot be read" in dry.out
    assert len(os.listdir(vault.default_vault / "locks")) == 2
    found = vault("unlock", "--json")
    (event,) = (e for e in found.events if e["event"] == "lock" and not e.get("damaged"))
    assert (event["process"], event["outcome"], event["exclusive"]) == ("gone", "removed", True)
    assert found.summary == {"event": "summary", "outcome": "ok", "removed": 1, "left": 1, "dry_run": False}
    blocked = vault("forget", "--keep-last", "1")
    assert blocked.code == 13
    assert "unlock --all" in blocked.err
    assert vault("unlock", "--all").code == 0
    assert vault("forget", "--keep-last", "1").code == 0


def test_prune_follows_where_snapshots_went(vault: Cli, documents: Path) -> None:
    (documents / "big").write_bytes(os.urandom(3_000_000))
    assert vault("backup", documents).code == 0
    (documents / "big").unlink()
    assert vault("backup", documents).code == 0
    size = sum(path.stat().st_size for path in (vault.default_vault / "data").rglob("*") if path.is_file())
    assert size > 3_000_000
    dry = vault("forget", "--keep-last", "1", "--prune", "--dry-run")
    assert dry.code == 0
    assert "holdfast prune --dry-run" in dry.err
    done = vault("forget", "--keep-last", "1", "--prune", "--json")
    assert done.code == 0, done.err
    first, second = (event for event in done.events if event["event"] == "summary")
    assert first["removed"] == 4
    assert second["removed_packs"] > 0
    assert sum(path.stat().st_size for path in (vault.default_vault / "data").rglob("*") if path.is_file()) < 100_000
    # Nothing more to forget: nothing to prune, and only one summary.
    again = vault("forget", "--keep-last", "1", "--prune", "--json")
    assert [event["event"] for event in again.events][-2:] == ["decision", "summary"]
    assert vault("check", "--read-data").code == 0
