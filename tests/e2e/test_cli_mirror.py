"""A mirror as people use it: made, filled, looked into, checked, restored; and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest


@pytest.fixture
def mirror(cli, tmp_path: Path) -> Path:
    place = tmp_path / "mirror"
    done = cli("init", place, "--kind", "mirror")
    assert done.code == 0, done.err
    assert f"New mirror: {place}" in done.out and "not encrypted" in done.out
    return place


def test_backup_into_a_mirror_needs_no_password_and_leaves_plain_files(cli, documents: Path, mirror: Path) -> None:
    done = cli("backup", documents, "--to", mirror)
    assert done.code == 0, done.err
    assert "Mirrored 3 files" in done.out and "3 new, 0 changed, 0 removed, 0 unchanged" in done.out
    copy = Path(f"{mirror}{documents}")
    assert (copy / "letters" / "ada.txt").read_text() == "Dear Ada\n"
    assert os.readlink(copy / "link") == "notes.txt"
    (documents / "notes.txt").write_text("changed\n")
    (documents / "letters" / "bob.txt").unlink()
    done = cli("backup", documents, "--to", mirror, "--json")
    summary = done.summary
    assert summary["kind"] == "mirror" and summary["outcome"] == "ok"
    assert [summary[name] for name in ("files_new", "files_changed", "files_removed", "files_unmodified")] == [
        *(0, 1, 1, 1)
    ]
    assert not (copy / "letters" / "bob.txt").exists()
    assert not cli.default_vault.exists()


def test_dry_run_lists_every_change_with_its_path_and_changes_nothing(
    cli, documents: Path, mirror: Path, snapshot_of
) -> None:
    cli("backup", documents, "--to", mirror)
    (documents / "notes.txt").write_text("changed\n")
    (documents / "letters" / "bob.txt").unlink()
    before = snapshot_of(mirror)
    done = cli("backup", documents, "--to", mirror, "--dry-run")
    assert done.code == 0
    *lines, last = done.out.splitlines()
    assert lines == [f"changed   {documents}/notes.txt", f"removed   {documents}/letters/bob.txt"]
    assert last.startswith("Would mirror 2 files") and "0 new, 1 changed, 1 removed, 1 unchanged" in last
    assert snapshot_of(mirror) == before
    assert len(cli("backup", documents, "--to", mirror, "-n", "-q").out) == 0


def test_looking_into_a_mirror(cli, documents: Path, mirror: Path) -> None:
    cli("backup", documents, "--to", mirror, "--note", "before the move")
    at = ("--vault", mirror)
    (event, _) = cli("snapshots", *at, "--json").events
    assert event["paths"] == [str(documents)] and event["note"] == "before the move"
    assert event["summary"]["total_files_processed"] == 3
    assert f"{documents}/letters/" in cli("ls", "latest", *at).out
    assert f"{documents}/letters/ada.txt" in cli("find", "ada*", *at).out
    assert cli("dump", f"latest:{documents}/notes.txt", *at).out == "first line\nsecond line\n"
    assert "No differences" in cli("diff", "latest", *at).out
    (documents / "notes.txt").write_text("first line\nother line\n")
    assert f"M  {documents}/notes.txt" in cli("diff", "latest", *at).out
    assert "+other line" in cli("diff", "latest", "--text", documents / "notes.txt", *at).out
    assert "+other line" in cli("diff", documents / "notes.txt", "--from", "latest", *at).out
    missing = cli("ls", f"latest:{documents}/nothing", *at)
    assert missing.code == 10 and "nearest folder" in missing.err


def test_restore_from_a_mirror(cli, documents: Path, mirror: Path, tmp_path: Path) -> None:
    cli("backup", documents, "--to", mirror)
    target = tmp_path / "target"
    done = cli("restore", f"latest:{documents}", "--target", target, "--vault", mirror, "--verify")
    assert done.code == 0 and "Restored 3 files" in done.out
    assert (target / "letters" / "ada.txt").read_text() == "Dear Ada\n"
    shutil.rmtree(documents)
    documents.mkdir()
    assert cli("restore", "latest", "--in-place", "--vault", mirror).code == 0
    assert (documents / "notes.txt").read_text() == "first line\nsecond line\n"
    plan = cli("restore", f"latest:{documents}", "--target", tmp_path / "other", "--vault", mirror, "-n")
    assert f"restore    {tmp_path}/other/notes.txt" in plan.out and not (tmp_path / "other").exists()


def test_check_names_bit_rot_and_a_checksum_run_heals_it(cli, documents: Path, mirror: Path, tmp_path: Path) -> None:
    cli("backup", documents, "--to", mirror)
    assert cli("check", "--vault", mirror).code == 0
    copy = Path(f"{mirror}{documents}/notes.txt")
    st = copy.stat()
    copy.write_text("first line\nsecond lime\n")
    os.utime(copy, ns=(st.st_atime_ns, st.st_mtime_ns))
    done = cli("check", "--vault", mirror)
    assert done.code == 13 and f"{documents}/notes.txt" in done.out and "--checksum" in done.out
    events = cli("check", "--vault", mirror, "--json").events
    assert next(event["kind"] for event in events if event["event"] == "damage") == "file.corrupt"
    bad = cli("restore", f"latest:{documents}", "--target", tmp_path / "t", "--vault", mirror)
    assert bad.code == 13 and not (tmp_path / "t" / "notes.txt").exists()
    assert cli("backup", documents, "--to", mirror, "--checksum").code == 0
    assert cli("check", "--vault", mirror).code == 0
    assert copy.read_text() == "first line\nsecond line\n"


def test_the_state_index_is_rebuilt_on_request(cli, documents: Path, mirror: Path) -> None:
    cli("backup", documents, "--to", mirror)
    (mirror / ".holdfast" / "state.db").unlink()
    done = cli("check", "--vault", mirror)
    assert done.code == 13 and "--rebuild" in done.out
    assert cli("check", "--rebuild", "--vault", mirror).code == 0
    again = cli("backup", documents, "--to", mirror)
    assert "0 new, 0 changed, 0 removed, 3 unchanged" in again.out


def test_a_source_that_is_suddenly_empty(cli, documents: Path, mirror: Path) -> None:
    cli("backup", documents, "--to", mirror)
    shutil.rmtree(documents)
    documents.mkdir()
    done = cli("backup", documents, "--to", mirror)
    assert done.code == 3 and "mounted" in done.err and "--allow-empty" in done.err
    assert Path(f"{mirror}{documents}/notes.txt").exists()
    shutil.rmtree(documents)
    assert cli("backup", documents, "--to", mirror).code == 10
    documents.mkdir()
    assert cli("backup", documents, "--to", mirror, "--allow-empty").code == 0
    assert not Path(f"{mirror}{documents}/notes.txt").exists()


def test_a_mirror_of_several_plans_says_how_old_each_ones_data_is(
    cli, documents: Path, tmp_path: Path, mirror: Path
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    (music / "song").write_text("la la la")
    (cli.home / "holdfast.yaml").write_text(
        f"vaults: {{disk: {{location: {mirror}, kind: mirror}}}}\n"
        f"plans:\n  docs: {{paths: [{documents}], to: [disk], expect: {{every: 26h}}}}\n"
        f"  tunes: {{paths: [{music}], to: [disk], note: tapes}}\n"
        "health: {free: 1K}\n"
    )
    assert at(cli, "backup", "docs").code == 0
    [alone] = [event for event in at(cli, "snapshots", "--json").events if event["event"] == "snapshot"]
    assert "parts" not in alone
    assert at(cli, "backup", "tunes").code == 0
    [both] = [event for event in at(cli, "snapshots", "--json").events if event["event"] == "snapshot"]
    assert both["paths"] == sorted([str(documents), str(music)]) and both["tags"] == ["plan:tunes"]
    assert [(part["paths"], part["tags"], part["note"]) for part in both["parts"]] == [
        ([str(music)], ["plan:tunes"], "tapes"),
        ([str(documents)], ["plan:docs"], ""),
    ]
    assert both["parts"][0]["time"] == both["time"] and both["parts"][1]["time"] == alone["time"]
    shown = at(cli, "snapshots").out.splitlines()
    assert "plan:tunes" in shown[2] and str(music) in shown[2] and both["short_id"] in shown[2]
    assert "plan:docs" in shown[3] and str(documents) in shown[3] and both["short_id"] not in shown[3]
    assert at(cli, "snapshots", "--tag", "plan:docs", "--json").summary["snapshots"] == 1
    assert at(cli, "snapshots", "--tag", "plan:other", "--json").summary["snapshots"] == 0
    refused = at(cli, "restore", "latest", "--tag", "plan:docs", "--target", tmp_path / "back")
    assert refused.code == 10 and f"What fits is {documents}: name it with latest:PATH" in refused.err
    assert not (tmp_path / "back").exists()
    assert at(cli, "restore", f"latest:{documents}", "--target", tmp_path / "back").code == 0
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == sorted(os.listdir(documents))
    shutil.rmtree(cli.home / ".local/state/holdfast")  # without a journal the vault itself tells how old it is
    found = {event["name"]: event for event in at(cli, "health", "--only", "age", "--json").events if "name" in event}
    assert {event["result"] for event in found.values()} == {"pass"} and len(found) == 2


def at(cli, *words: str | Path):
    return cli(
        *words, *(("--vault", "disk") if words[0] in ("snapshots", "restore") else ()), "--config", "holdfast.yaml"
    )


def test_a_protected_mirror(cli, documents: Path, tmp_path: Path) -> None:
    place = tmp_path / "protected"
    assert cli("init", place, "--kind", "mirror", "--protect").code == 0
    for text in ("one\n", "two\n"):
        (documents / "notes.txt").write_text(text)
        assert cli("backup", documents, "--to", place).code == 0
    copy = Path(f"{place}{documents}")
    assert (copy / "notes.txt").read_text() == "two\n"
    for path in (copy, copy / "notes.txt", copy / "letters"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0
    cli("restore", f"latest:{documents}", "--target", tmp_path / "t", "--vault", place)
    assert stat.S_IMODE((tmp_path / "t" / "notes.txt").stat().st_mode) & 0o200


@pytest.mark.parametrize(
    "words",
    [["prune"], ["forget", "--keep-last", "1"], ["key", "list"], ["stats"], ["unlock"], ["repair", "index"], ["tag",
     "--add", "x", "latest"], ["migrate"], ["recover"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_what_only_archives_can_is_refused_in_words(cli, documents: Path, mirror: Path, words: list[str]) -> None:
    cli("backup", documents, "--to", mirror)
    done = cli(*words, "--vault", mirror)
    assert done.code == 1, (done.out, done.err)
    assert "is a mirror" in done.err and "hint: " in done.err


def test_what_cannot_be_made(cli, documents: Path, mirror: Path, tmp_path: Path) -> None:
    assert cli("init", "--kind", "mirror").code == 2
    again = cli("init", mirror, "--kind", "mirror")
    assert again.code == 2 and "already a vault" in again.err
    assert cli("init", mirror, HOLDFAST_PASSWORD="x").code == 2
    full = cli("init", documents, "--kind", "mirror")
    assert full.code == 2 and "not empty" in full.err
    assert cli("init", tmp_path / "x", "--protect", HOLDFAST_PASSWORD="x").code == 2
    assert cli("init", tmp_path / "x", "--kind", "mirror", "--new-key-file", tmp_path / "k").code == 2
    assert cli("init", "memory:x", "--kind", "mirror").code == 1
    assert not (tmp_path / "x").exists()
    assert cli("backup", mirror, "--to", mirror).code == 2
    vault = tmp_path / "archive"
    cli("init", vault, HOLDFAST_PASSWORD="x")
    assert cli("backup", documents, "--allow-empty", "--to", vault, HOLDFAST_PASSWORD="x").code == 2
    assert cli("check", "--rebuild", "--vault", vault, HOLDFAST_PASSWORD="x").code == 2


def test_an_archive_and_a_mirror_in_one_call(cli, documents: Path, mirror: Path, tmp_path: Path) -> None:
    vault = tmp_path / "archive"
    cli("init", vault, HOLDFAST_PASSWORD="x")
    done = cli("backup", documents, "--to", vault, "--to", mirror, "--json", HOLDFAST_PASSWORD="x")
    assert done.code == 0
    assert [event["kind"] for event in done.events if event["event"] == "summary"] == ["archive", "mirror"]


def test_names_that_are_not_text_in_the_output(cli, documents: Path, mirror: Path) -> None:
    with open(os.path.join(os.fsencode(documents), b"caf\xe9"), "wb") as file:
        file.write(b"x")
    done = cli("backup", documents, "--to", mirror, "--json", "-v")
    new = [event["data"] for event in done.events if event.get("kind") == "item.new"]
    assert any("path_base64" in data for data in new)
    assert json.loads(done.out.splitlines()[-1])["files_new"] == 4


def test_a_mirror_that_nothing_was_saved_into_is_not_damaged(cli, mirror: Path) -> None:
    done = cli("check", "--vault", mirror)
    assert done.code == 0 and "No damage found" in done.out, done
    (mirror / "file").write_text("what nobody knows the hash of")
    assert cli("check", "--vault", mirror).code == 13


@pytest.mark.parametrize("kind", ["mirror", "versioned", "archive"])
def test_a_comparison_with_the_disk_makes_nothing_in_the_vault(cli, documents: Path, tmp_path: Path, kind: str) -> None:
    place, words = documents / "the vault", ["--password-command", "echo secret"]
    assert cli("init", place, "--kind", kind, *words).code == 0
    assert cli("backup", documents, "--to", place, *words).code == 0
    before = sorted(place.rglob("*"))
    done = cli("diff", "latest", "--vault", place, *words)
    assert done.code == 0 and "the vault" not in done.out, done
    assert [path for path in sorted(place.rglob("*")) if "locks/" not in str(path)] == before
