"""``restore`` and ``check`` as people use them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def saved(cli, documents: Path) -> Path:
    """The folder, saved once."""
    assert cli("backup", documents, "--tag", "first").code == 0
    return documents


def test_a_folder_comes_back_right_into_the_target(cli, saved: Path, tmp_path: Path, snapshot_of) -> None:
    done = cli("restore", f"latest:{saved}", "--target", tmp_path / "back")
    assert done.code == 0, done.err
    assert snapshot_of(tmp_path / "back") == snapshot_of(saved)
    assert os.readlink(tmp_path / "back" / "link") == "notes.txt"
    assert "Restored 3 files" in done.out and "from snapshot" in done.out


def test_everything_comes_back_beneath_the_target(cli, saved: Path, tmp_path: Path, snapshot_of) -> None:
    assert cli("restore", "latest", "--target", tmp_path / "back").code == 0
    assert snapshot_of(Path(f"{tmp_path}/back{saved}")) == snapshot_of(saved)


def test_a_single_file(cli, saved: Path, tmp_path: Path) -> None:
    assert cli("restore", f"latest:{saved}/letters/ada.txt", "-t", tmp_path / "back").code == 0
    assert (tmp_path / "back" / "ada.txt").read_text() == "Dear Ada\n"


def test_in_place_brings_back_what_was_lost(cli, saved: Path, snapshot_of) -> None:
    before = snapshot_of(saved)
    (saved / "notes.txt").write_text("overwritten by mistake")
    (saved / "letters" / "ada.txt").unlink()
    assert cli("restore", "latest", "--in-place").code == 0
    assert snapshot_of(saved) == before


def test_a_dry_run_shows_the_plan_and_writes_nothing(cli, saved: Path, tmp_path: Path) -> None:
    done = cli("restore", f"latest:{saved}", "--target", tmp_path / "back", "--dry-run")
    assert done.code == 0
    assert "notes.txt" in done.out and "Would restore 3 files" in done.out
    assert not (tmp_path / "back").exists()
    events = cli("restore", f"latest:{saved}", "--target", tmp_path / "back", "-n", "--json").events
    assert any(event["event"] == "action" and "notes.txt" in event["path"] for event in events)


def test_include_exclude_overwrite_and_delete(cli, saved: Path, tmp_path: Path) -> None:
    back = tmp_path / "back"
    assert cli("restore", f"latest:{saved}", "-t", back, "--include", "*.txt", "--exclude", "bob.txt").code == 0
    assert sorted(path.name for path in back.rglob("*.txt")) == ["ada.txt", "notes.txt"]
    assert not (back / "link").is_symlink()
    (back / "notes.txt").write_text("mine")
    (back / "stranger").write_text("mine")
    assert cli("restore", f"latest:{saved}", "-t", back, "--overwrite", "never").code == 0
    assert (back / "notes.txt").read_text() == "mine" and (back / "stranger").exists()
    assert cli("restore", f"latest:{saved}", "-t", back, "--delete", "--verify").code == 0
    assert (back / "notes.txt").read_text() == "first line\nsecond line\n" and not (back / "stranger").exists()


def test_latest_by_host_tag_and_path(cli, saved: Path, tmp_path: Path) -> None:
    (saved / "notes.txt").write_text("second version")
    cli("backup", saved, "--tag", "second", "--host", "other")
    where = f"latest:{saved}/notes.txt"
    assert cli("restore", where, "-t", tmp_path / "1", "--tag", "first").code == 0
    assert (tmp_path / "1" / "notes.txt").read_text().startswith("first line")
    assert cli("restore", where, "-t", tmp_path / "2", "--host", "other", "--path", saved).code == 0
    assert (tmp_path / "2" / "notes.txt").read_text() == "second version"
    assert cli("restore", where, "-t", tmp_path / "3", "--tag", "third").code == 10
    assert not (tmp_path / "3").exists()


def test_json(cli, saved: Path, tmp_path: Path) -> None:
    done = cli("restore", f"latest:{saved}", "-t", tmp_path / "back", "--json")
    assert done.summary["outcome"] == "ok" and done.summary["files_restored"] == 3 and done.err == ""


def test_what_is_not_there(cli, saved: Path, tmp_path: Path) -> None:
    for what in (f"latest:{saved}/nowhere", "ffff"):
        done = cli("restore", what, "--target", tmp_path / "back")
        assert done.code == 10 and "hint: " in done.err


def test_a_sound_vault_checks(cli, saved: Path) -> None:
    for words in ([], ["--read-data"], ["--read-data=1/1"], ["--read-data=100%"]):
        done = cli("check", *words)
        assert done.code == 0, done
        assert "No damage found" in done.out and "1 snapshot" in done.out
    done = cli("check", "--read-data", "--json")
    assert done.summary["outcome"] == "ok" and done.summary["packs_read"] == done.summary["packs"] > 0
    assert cli("check", "-q").out == ""


def test_damage_is_found_named_and_never_restored_in_silence(cli, saved: Path, tmp_path: Path) -> None:
    packs = [path for path in (cli.default_vault / "data").rglob("*") if path.is_file()]
    for pack in packs:
        pack.chmod(0o600)
        data = bytearray(pack.read_bytes())
        data[20] ^= 1
        pack.write_bytes(data)
    done = cli("check", "--read-data")
    assert done.code == 13
    assert "damage: " in done.out and "found" in done.out
    events = cli("check", "--read-data", "--json").events
    damage = [event for event in events if event["event"] == "damage"]
    assert damage and any(event["snapshots"] for event in damage)
    restored = cli("restore", f"latest:{saved}", "--target", tmp_path / "back")
    assert restored.code == 13, restored


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_target_that_may_not_be_written_to(cli, saved: Path, tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o500)
    done = cli("restore", "latest", "--target", shut / "back")
    assert done.code == 12 and "hint: " in done.err
