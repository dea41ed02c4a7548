"""``holdfast prune`` as installed: what it says, frees, refuses, and with which exit code it ends."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from holdfast.kernel.secret import Secret
from holdfast.repository import Repository
from holdfast.storage import LocalStorage


@pytest.fixture
def vault(cli, tmp_path: Path) -> Path:
    """The default vault after two backups, of which the first was forgotten: half of it is waste."""
    source = tmp_path / "source"
    source.mkdir()
    for seed in (1, 2):
        (source / "same").write_bytes(random.Random(0).randbytes(200_000))
        (source / "changing").write_bytes(random.Random(seed).randbytes(300_000))
        assert cli("backup", source).code == 0
    (first, _) = cli("snapshots", "--json").events[:2]
    repository(cli).delete_unpacked("snapshots", bytes.fromhex(first["id"]))
    return cli.default_vault


def repository(cli) -> Repository:
    secret = Secret(cli.default_key.read_bytes().strip(), random=True)
    return Repository.open(LocalStorage(str(cli.default_vault)), secret)


def test_it_shows_first_and_frees_then(cli, vault: Path, snapshot_of) -> None:
    before = snapshot_of(vault)
    shown = cli("prune", "--dry-run")
    assert shown.code == 0 and shown.err == ""
    assert "Would free 29" in shown.out and "unused" in shown.out and "to write anew" in shown.out
    assert snapshot_of(vault) == before, "a dry run leaves no trace"
    done = cli("prune")
    assert done.code == 0 and done.err == ""
    assert "freed: " in done.out and "deleted" in done.out
    assert sum(map(len, snapshot_of(vault / "data").values())) < 520_000
    assert cli("check", "--read-data").code == 0
    assert cli("restore", "latest", "-t", "out").code == 0
    again = cli("prune")
    assert again.code == 0 and "Nothing to free" in again.out
    assert cli("prune", "-q").out == ""


def test_json(cli, vault: Path) -> None:
    summary = cli("prune", "--json", "--dry-run").summary
    assert summary["dry_run"] and summary["removed_packs"] == 0 and summary["plan"]["unused_bytes"] > 300_000
    events = cli("prune", "--json").events
    summary = events[-1]
    assert summary["event"] == "summary" and summary["outcome"] == "ok"
    assert summary["removed_packs"] == summary["plan"]["remove_packs"] + summary["plan"]["repack_packs"] > 0
    assert [event["kind"] for event in events if event["event"] == "fact"] == ["prune.deleted"]
    assert {"tick", "fact", "summary"} >= {event["event"] for event in events}


def test_how_much_waste_may_stay(cli, vault: Path) -> None:
    lenient = cli("prune", "--json", "-n", "--max-unused", "unlimited").summary["plan"]
    strict = cli("prune", "--json", "-n", "--max-unused", "0%").summary["plan"]
    sized = cli("prune", "--json", "-n", "--max-unused", "1G").summary["plan"]
    capped = cli("prune", "--json", "-n", "--max-unused", "0", "--max-repack-size", "1K").summary["plan"]
    assert strict["copied_bytes"] >= lenient["copied_bytes"] == sized["copied_bytes"]
    assert strict["left_bytes"] == 0 and capped["repack_packs"] == 0
    for wrong in ("a lot", "101%", "-3", "%"):
        refused = cli("prune", f"--max-unused={wrong}")
        assert refused.code == 2 and "is not an amount" in refused.err, wrong


def test_somebody_works_on_the_vault(cli, vault: Path, snapshot_of) -> None:
    with repository(cli).locks.hold(exclusive=True):
        refused = cli("prune")
        assert refused.code == 11 and f"process {os.getpid()}" in refused.err and "hint: " in refused.err
    packs = snapshot_of(vault / "data")
    with repository(cli).locks.hold(exclusive=False):
        waits = cli("prune", "--json")
        assert waits.code == 11
        error = waits.events[-1]
        assert error["event"] == "error" and error["context"]["waiting_packs"] > 0
        assert "ready to be deleted" in error["message"] and "--retry-lock" in error["hint"]
        assert packs.items() <= snapshot_of(vault / "data").items()
    assert cli("check", "--read-data").code == 0
    assert cli("prune").code == 0
    assert cli("check", "--read-data").code == 0


def test_damage_is_never_made_worse(cli, vault: Path, snapshot_of) -> None:
    index = next((vault / "index").iterdir())
    index.rename(vault.parent / "lost")
    before = snapshot_of(vault)
    refused = cli("prune")
    assert refused.code == 13 and "in no index" in refused.err and "hint: " in refused.err
    assert snapshot_of(vault) == before


def test_no_vault(cli) -> None:
    refused = cli("prune")
    assert refused.code == 10 and "hint: " in refused.err


def test_over_a_network(cli, rest_server, append_only_server, documents: Path, snapshot_of) -> None:
    where, environ = rest_server.location("prune"), {**rest_server.environ, "RESTIC_PASSWORD": "x"}
    environ = {name: value for name, value in environ.items() if name.startswith(("HOLDFAST", "RESTIC"))}
    assert cli("init", where, **environ).code == 0
    for turn in range(3):
        (documents / "changing").write_bytes(random.Random(turn).randbytes(300_000))
        assert cli("backup", documents, "--to", where, **environ).code == 0
    assert cli("forget", "--keep-last", "1", "--vault", where, **environ).code == 0

    before = snapshot_of(rest_server.folder / "prune")
    denied = cli("prune", "--max-unused", "0", "--vault", append_only_server.location("prune"), **environ)
    assert denied.code == 12 and "hint: " in denied.err
    assert snapshot_of(rest_server.folder / "prune") == before, "nothing was copied in vain"

    done = cli("prune", "--json", "--max-unused", "0", "--vault", where, **environ)
    assert done.code == 0 and done.summary["removed_packs"] > 2
    assert cli("check", "--read-data", "--vault", where, **environ).code == 0
    left = cli("prune", "--json", "-n", "--vault", where, **environ).summary["plan"]
    assert (left["unused_blobs"], left["orphans"], left["gone_packs"]) == (0, 0, 0)
