"""``holdfast migrate``: a vault of restic's format version 1 becomes one of version 2."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Cli

PASSWORD = {"HOLDFAST_PASSWORD": "old but good"}


def restic(program: str, vault: Path, *words: str) -> str:
    done = subprocess.run(
        [program, "--no-cache", "-r", str(vault), *words],
        env={**os.environ, "RESTIC_PASSWORD": "old but good"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def old_vault(tmp_path: Path, documents: Path, need: Callable[[str], str]) -> Path:
    """A version 1 repository that restic made, with one snapshot."""
    vault = tmp_path / "vault"
    restic(need("restic"), vault, "init", "--repository-version", "1")
    restic(need("restic"), vault, "backup", str(documents))
    return vault


def test_a_version_1_vault_is_migrated_and_everything_still_opens(
    cli: Cli, old_vault: Path, documents: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    former = (old_vault / "config").read_bytes()
    done = cli("migrate", "--vault", old_vault, "--json", **PASSWORD)
    assert (done.code, done.summary["before"], done.summary["after"]) == (0, 1, 2)
    kept = Path(done.summary["kept"])
    assert kept.read_bytes() == former
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(restic(need("restic"), old_vault, "cat", "config"))["version"] == 2
    restic(need("restic"), old_vault, "check", "--read-data")

    (documents / "more.txt").write_text("compressible " * 1000)
    assert cli("backup", "--vault", old_vault, documents, **PASSWORD).code == 0
    restic(need("restic"), old_vault, "check", "--read-data")
    assert cli("restore", "latest", "--vault", old_vault, "--target", tmp_path / "back", **PASSWORD).code == 0
    assert (tmp_path / "back" / str(documents).lstrip("/") / "more.txt").read_text() == "compressible " * 1000


def test_a_second_time_there_is_nothing_to_do(cli: Cli, old_vault: Path) -> None:
    assert cli("migrate", "--vault", old_vault, **PASSWORD).code == 0
    done = cli("migrate", "--vault", old_vault, **PASSWORD)
    assert done.code == 0
    assert "Nothing to do" in done.out + done.err


def test_a_dry_run_changes_nothing(cli: Cli, old_vault: Path, snapshot_of: Any) -> None:
    before = snapshot_of(old_vault)
    done = cli("migrate", "--dry-run", "--vault", old_vault, **PASSWORD)
    assert done.code == 0
    assert "would go from format version 1 to 2" in done.out + done.err
    assert snapshot_of(old_vault) == before


def test_a_damaged_vault_is_left_as_it_is(cli: Cli, old_vault: Path, snapshot_of: Any) -> None:
    pack = next(path for path in (old_vault / "data").rglob("*") if path.is_file())
    pack.unlink()
    before = snapshot_of(old_vault)
    done = cli("migrate", "--vault", old_vault, **PASSWORD)
    assert done.code == 13
    assert "left as it is" in done.err
    assert snapshot_of(old_vault) == before


def test_nothing_is_changed_where_the_former_configuration_cannot_be_kept(
    cli: Cli, old_vault: Path, snapshot_of: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    before = snapshot_of(old_vault)
    done = cli("migrate", "--vault", old_vault, HOLDFAST_STATE_DIR=str(tmp_path / "file"), **PASSWORD)
    assert done.code == 12
    assert "Nothing was changed" in done.err
    assert snapshot_of(old_vault) == before


def test_a_vault_in_use_is_left_alone(cli: Cli, old_vault: Path, need: Callable[[str], str]) -> None:
    from holdfast.kernel.secret import Secret
    from holdfast.repository import Repository
    from holdfast.storage import LocalStorage

    other = Repository.open(LocalStorage(str(old_vault)), Secret(b"old but good"))
    with other.locks.hold(exclusive=False):
        done = cli("migrate", "--vault", old_vault, **PASSWORD)
    assert done.code == 11
    assert json.loads(restic(need("restic"), old_vault, "cat", "config"))["version"] == 1
