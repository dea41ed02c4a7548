"""``holdfast copy`` and ``init --cut-like``: a second vault with the same versions."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Cli

ONE = {"HOLDFAST_PASSWORD": "of the target", "HOLDFAST_FROM_PASSWORD": "of the source"}


@pytest.fixture
def source(cli: Cli, documents: Path, tmp_path: Path) -> Path:
    """A vault with two snapshots."""
    vault = tmp_path / "source"
    assert cli("init", vault, HOLDFAST_PASSWORD="of the source").code == 0
    for text in ("first", "second"):
        (documents / "draft.txt").write_text(text)
        assert cli("backup", documents, "--to", vault, "--tag", text, HOLDFAST_PASSWORD="of the source").code == 0
    return vault


@pytest.fixture
def target(cli: Cli, source: Path, tmp_path: Path) -> Path:
    """An empty vault that cuts like the source."""
    vault = tmp_path / "target"
    assert cli("init", vault, "--cut-like", source, **ONE).code == 0
    return vault


def test_copy_all_then_only_what_is_new(cli: Cli, source: Path, target: Path, documents: Path, tmp_path: Path) -> None:
    done = cli("copy", "--from", source, "--to", target, **ONE)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("2 snapshots copied, 0 already there: ")
    assert "cut files in different places" not in done.out
    (documents / "draft.txt").write_text("third")
    assert cli("backup", documents, "--to", source, HOLDFAST_PASSWORD="of the source").code == 0
    again = cli("copy", "--from", source, "--to", target, "--json", **ONE)
    assert (again.code, len(again.summary["copied"]), again.summary["already"]) == (0, 1, 2)
    assert again.summary["same_cutting"] is True
    back = tmp_path / "back"
    assert cli("restore", "latest", "--vault", target, "--target", back, **ONE).code == 0
    assert (back / str(documents).lstrip("/") / "draft.txt").read_text() == "third"


def test_stock_restic_agrees(cli: Cli, source: Path, target: Path, need: Callable[[str], str]) -> None:
    restic = need("restic")
    assert cli("copy", "--from", source, "--to", target, **ONE).code == 0
    environ = {**os.environ, "RESTIC_PASSWORD": "of the target"}

    def run(*words: str) -> str:
        done = subprocess.run([restic, "--no-cache", "-r", str(target), *words], env=environ, capture_output=True,
                              text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("check", "--read-data")
    assert run("snapshots").count("second") == 1


def test_from_a_vault_that_may_not_be_written_to(cli: Cli, source: Path, target: Path, snapshot_of: Any) -> None:
    before = snapshot_of(source)
    done = cli("copy", "--no-lock", "--from", source, "--to", target, **ONE)
    assert done.code == 0, done.err
    assert snapshot_of(source) == before


def test_one_snapshot_or_those_that_fit(cli: Cli, source: Path, target: Path) -> None:
    done = cli("copy", "latest", "--from", source, "--to", target, "--json", **ONE)
    assert (done.code, len(done.summary["copied"])) == (0, 1)
    done = cli("copy", "--tag", "first", "--from", source, "--to", target, "--json", **ONE)
    assert (done.code, len(done.summary["copied"]), done.summary["already"]) == (0, 1, 0)


def test_a_dry_run_changes_nothing(cli: Cli, source: Path, target: Path, snapshot_of: Any) -> None:
    before = snapshot_of(target)
    done = cli("copy", "--dry-run", "--from", source, "--to", target, **ONE)
    assert done.code == 0
    assert done.out.startswith("2 snapshots would be copied, 0 already there")
    after = {name: data for name, data in snapshot_of(target).items() if not name.startswith("locks/")}
    assert after == before


def test_from_the_default_vault_with_its_key_file(cli: Cli, documents: Path, tmp_path: Path) -> None:
    assert cli("backup", documents).code == 0
    target = tmp_path / "target"
    assert cli("init", target, HOLDFAST_PASSWORD="other").code == 0
    done = cli("copy", "--from", cli.default_vault, "--to", target, HOLDFAST_PASSWORD="other")
    assert done.code == 0, done.err
    assert "cut files in different places" in done.out


def test_what_can_be_wrong(cli: Cli, source: Path, target: Path, tmp_path: Path) -> None:
    wrong = cli("copy", "--from", source, "--to", target, **{**ONE, "HOLDFAST_FROM_PASSWORD": "no"})
    assert wrong.code == 12
    assert "opens none of the vault's keys" in wrong.err
    missing = cli("copy", "--from", tmp_path / "nowhere", "--to", target, **ONE)
    assert missing.code == 10
    empty = cli("copy", "--from", source, "--to", tmp_path / "nowhere", **ONE)
    assert empty.code == 10
    assert "--cut-like" in empty.err
    itself = cli("copy", "--from", source, "--to", source, HOLDFAST_PASSWORD="of the source")
    assert itself.code == 2
    unknown = cli("copy", "abcdef12", "--from", source, "--to", target, **ONE)
    assert unknown.code == 10
    assert cli("copy", "--to", target, **ONE).code == 2
    assert cli("init", tmp_path / "new", "--from-password-file", "x", **ONE).code == 2


def test_damage_in_the_source_is_said_and_the_rest_comes(cli: Cli, source: Path, target: Path) -> None:
    packs = sorted(
        (path for path in (source / "data").rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime
    )
    packs[-1].unlink()
    done = cli("copy", "--from", source, "--to", target, **ONE)
    assert done.code == 13
    assert "damaged in the source" in done.err
    listed = cli("snapshots", "--vault", target, "--json", **ONE)
    assert listed.code == 0
    assert cli("check", "--read-data", "--vault", target, **ONE).code == 0


def test_the_target_keeps_by_a_policy_of_its_own(cli: Cli, source: Path, target: Path, documents: Path) -> None:
    done = cli("copy", "--from", source, "--to", target, "--keep-last", "1", "--json", **ONE)
    assert (done.code, len(done.summary["copied"]), done.summary["unwanted"], done.summary["forgotten"]) == (
        0,
        1,
        1,
        [],
    )
    (first,) = done.summary["copied"]
    (documents / "draft.txt").write_text("third")
    assert cli("backup", documents, "--to", source, HOLDFAST_PASSWORD="of the source").code == 0
    planned = cli("copy", "--from", source, "--to", target, "--keep-last", "1", "--dry-run", **ONE)
    assert "By the target's policy: 1 not copied, 1 snapshot would be forgotten there" in planned.out
    done = cli("copy", "--from", source, "--to", target, "--keep-last", "1", "--json", **ONE)
    assert done.summary["forgotten"] == [first["to"]]
    left = [
        event for event in cli("snapshots", "--vault", target, "--json", **ONE).events if event["event"] == "snapshot"
    ]
    assert [event["id"] for event in left] == [done.summary["copied"][0]["to"]]
    # What is held stays.
    assert cli("hold", "latest", "--vault", target, **ONE).code == 0
    assert cli("backup", documents, "--to", source, HOLDFAST_PASSWORD="of the source").code == 0
    done = cli("copy", "--from", source, "--to", target, "--keep-last", "1", "--json", **ONE)
    assert done.summary["forgotten"] == []
