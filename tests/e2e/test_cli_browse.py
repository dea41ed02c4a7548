"""``ls``, ``find``, ``diff``, ``dump`` and ``stats`` as people use them."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest


@pytest.fixture
def saved(cli, documents: Path) -> Path:
    """The folder, saved once, then changed and saved again."""
    assert cli("backup", documents).code == 0
    (documents / "notes.txt").write_text("first line\nother line\n")
    (documents / "letters" / "bob.txt").unlink()
    (documents / "letters" / "cleo.txt").write_text("Dear Cleo\n" * 2000)
    assert cli("backup", documents).code == 0
    return documents


def ids(cli) -> list[str]:
    return [event["id"] for event in cli("snapshots", "--json").events if event["event"] == "snapshot"]


def test_ls_begins_where_the_backup_did(cli, saved: Path) -> None:
    done = cli("ls", "latest")
    assert done.code == 0
    assert done.out.splitlines() == [f"{saved}/letters/", f"{saved}/link", f"{saved}/notes.txt"]
    first = cli("ls", f"{ids(cli)[0][:6]}:{saved}/letters").out
    assert first.splitlines() == [f"{saved}/letters/ada.txt", f"{saved}/letters/bob.txt"]


def test_ls_long_and_recursive(cli, saved: Path) -> None:
    out = cli("ls", "latest", "-l", "-r").out
    assert f"{saved}/letters/cleo.txt" in out and "20,000" in out and f"{saved}/link -> notes.txt" in out
    assert out.splitlines()[0].startswith("d")


def test_ls_json(cli, saved: Path) -> None:
    done = cli("ls", "latest", "-r", "--json")
    entries = {event["path"]: event for event in done.events if event["event"] == "entry"}
    assert done.summary["entries"] == len(entries) == 5
    assert entries[f"{saved}/notes.txt"]["size"] == 22
    assert entries[f"{saved}/link"]["target"] == "notes.txt"


def test_what_is_not_there_is_exit_code_10(cli, saved: Path) -> None:
    for words in (
        ["ls", f"latest:{saved}/nowhere"],
        ["ls", "ffffffff"],
        ["ls", "latest", "--host", "elsewhere"],
        ["dump", f"latest:{saved}/nowhere"],
        ["diff", "latest", "ffffffff"],
        ["find", "*", "--snapshot", "ffffffff"],
        ["stats", "ffffffff"],
    ):
        done = cli(*words)
        assert done.code == 10, (words, done)
        assert "hint: " in done.err and done.out == ""


def test_an_ambiguous_id_asks_for_more_digits(cli, documents: Path) -> None:
    for _ in range(17):  # of 17 ids two begin with the same digit
        cli("backup", documents, "-q")
    digits = [one[0] for one in ids(cli)]
    double = next(digit for digit in digits if digits.count(digit) > 1)
    done = cli("ls", double)
    assert done.code == 2 and "Give more digits" in done.err


def test_find(cli, saved: Path) -> None:
    out = cli("find", "*.TXT", "-i", "--snapshot", "latest").out
    assert f"  {saved}/notes.txt" in out and "Snapshot " in out
    assert cli("find", "bob.*").out.count("bob.txt") == 1, "only the first snapshot holds it"
    assert cli("find", "letters/*.txt", "--json").summary["entries"] == 4
    assert cli("find", "*", "--larger", "10K", "--json").summary["entries"] == 1
    assert cli("find", "*", "--newer", "1h", "--type", "file", "--smaller", "10K", "--json").summary["entries"] == 5
    nothing = cli("find", "*.odt")
    assert nothing.code == 0 and "0 entries found" in nothing.err
    assert cli("find").code == 2


def test_diff_of_two_snapshots(cli, saved: Path) -> None:
    first, second = ids(cli)
    out = cli("diff", first[:8], second[:8]).out
    assert (
        f"M  {saved}/notes.txt" in out
        and f"-  {saved}/letters/bob.txt" in out
        and f"+  {saved}/letters/cleo.txt" in out
    )
    assert "Files: 1 added, 1 removed, 1 modified" in out
    below = cli("diff", first, second, f"{saved}/letters", "--json")
    changes = {event["path"]: event["change"] for event in below.events if event["event"] == "change"}
    assert changes[f"{saved}/letters/bob.txt"] == "-" and f"{saved}/notes.txt" not in changes
    assert below.summary["files_added"] == 1 and below.summary["equal"] is False
    same = cli("diff", second, second)
    assert same.code == 0 and same.out == "No differences\n"


def test_diff_with_the_disk(cli, saved: Path) -> None:
    assert cli("diff", "latest").out == "No differences\n"
    (saved / "notes.txt").write_text("all new\n")
    (saved / "__pycache__").mkdir()
    (saved / "letters" / "ada.txt").chmod(0o600)
    out = cli("diff", "latest").out
    assert f"M  {saved}/notes.txt  (content, mtime)" in out and f"U  {saved}/letters/ada.txt  (mode)" in out
    assert "__pycache__" not in out
    assert "__pycache__" in cli("diff", "latest", "--no-default-excludes").out
    assert "notes" not in cli("diff", f"latest:{saved}/letters").out


def test_diff_of_one_text(cli, saved: Path) -> None:
    first, second = ids(cli)
    out = cli("diff", first, second, "--text", saved / "notes.txt").out
    assert out.splitlines()[2:] == ["@@ -1,2 +1,2 @@", " first line", "-second line", "+other line"]
    (saved / "notes.txt").write_bytes(b"first line\n\xff\n")
    done = subprocess.run(
        [*cli.words, "diff", "latest", "--text", saved / "notes.txt"], capture_output=True, env=cli.environ, check=True
    )
    assert done.stdout.endswith(b"-other line\n+\xff\n")
    gone = cli("diff", first, second, "--text", saved / "letters" / "bob.txt", "--json")
    assert gone.summary["equal"] is False and "+++ /dev/null\n" in gone.summary["diff"]


def test_diff_of_one_file_from_and_to(cli, saved: Path) -> None:
    first, second = ids(cli)
    out = cli("diff", saved / "notes.txt", "--from", first[:8], "--to", second[:8]).out
    assert out.splitlines()[2:] == ["@@ -1,2 +1,2 @@", " first line", "-second line", "+other line"]
    assert out == cli("diff", "notes.txt", "--from", first, "--to", second, cwd=saved).out
    (saved / "notes.txt").write_text("first line\nthird\n")
    out = cli("diff", "notes.txt", "--from", "latest", cwd=saved).out
    assert out.splitlines()[2:] == ["@@ -1,2 +1,2 @@", " first line", "-other line", "+third"]
    new = cli("diff", saved / "letters/cleo.txt", "--from", first, "--to", second, "--json")
    assert "--- /dev/null\n" in new.summary["diff"]
    shown = cli("diff", "notes.txt", "--from", first, "--open", cwd=saved, EDITOR="cat")
    assert "+third" in shown.out
    nowhere = cli("diff", saved / "nowhere", "--from", first, "--to", second)
    assert nowhere.code == 10 and "nowhere" in nowhere.err
    folder = cli("diff", saved / "letters", "--from", first, "--to", second)
    assert folder.code != 0 and "Traceback" not in folder.err
    for words in (["--to", first], ["notes.txt", first, "--from", first], []):
        assert cli("diff", *words).code == 2
    assert "--from SNAPSHOT" in cli("diff", "notes.txt", cwd=saved).err


def test_diff_of_one_file_that_was_saved_under_a_relative_path(cli, tmp_path: Path) -> None:
    (tmp_path / "work/sub").mkdir(parents=True)
    (tmp_path / "work/sub/text").write_text("old\n")
    assert cli("backup", "work", cwd=tmp_path).code == 0
    (tmp_path / "work/sub/text").write_text("new\n")
    out = cli("diff", "text", "--from", "latest", cwd=tmp_path / "work/sub").out
    assert out.splitlines()[2:] == ["@@ -1 +1 @@", "-old", "+new"]


def test_dump_of_a_file_and_of_a_folder(cli, saved: Path, tmp_path: Path) -> None:
    assert cli("dump", f"latest:{saved}/notes.txt").out == "first line\nother line\n"
    raw = subprocess.run(
        [*cli.words, "dump", f"latest:{saved}"], capture_output=True, env=cli.environ, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert archive.getnames() == [
            "documents",
            *("documents/letters", "documents/letters/ada.txt", "documents/letters/cleo.txt"),
            *("documents/link", "documents/notes.txt"),
        ]
        assert archive.getmember("documents/link").linkname == "notes.txt"
        assert archive.getmember("documents/notes.txt").mtime == pytest.approx((saved / "notes.txt").stat().st_mtime)
    done = cli("dump", f"latest:{saved}", "-o", tmp_path / "out.tar", "--json")
    assert done.summary["bytes_written"] == len(raw) and (tmp_path / "out.tar").read_bytes() == raw
    again = cli("dump", f"latest:{saved}", "-o", tmp_path / "out.tar")
    assert again.code == 2 and (tmp_path / "out.tar").read_bytes() == raw
    failed = cli("dump", f"latest:{saved}/nowhere", "-o", tmp_path / "none")
    assert failed.code == 10 and sorted(os.listdir(tmp_path)) == ["documents", "home", "out.tar"]
    assert cli("dump", "latest", "--json").code == 2


def test_stats(cli, saved: Path) -> None:
    out = cli("stats").out
    assert "Vault " in out and "after deduplication" in out and "after compression" in out and "Chunker" in out
    done = cli("stats", "--json")
    growth = [event for event in done.events if event["event"] == "growth"]
    assert [item["files"] for item in growth] == [3, 3]
    assert done.summary["missing"] == 0
    assert (
        done.summary["stored_bytes"]
        == sum(
            path.stat().st_size
            for path in cli.default_vault.rglob("*")
            if path.is_file() and path.parent.name != "locks"
        )
        + done.summary["stored"].get("locks", {"bytes": 0})["bytes"]
    )
    assert cli("stats", "latest", "--json").summary["snapshots"] == 1


def test_no_lock_writes_nothing_at_all(cli, saved: Path, snapshot_of) -> None:
    before = {**snapshot_of(cli.default_vault)}
    times = {path: path.stat().st_mtime_ns for path in cli.default_vault.rglob("*")}
    for words in (["snapshots"], ["ls", "latest"], ["find", "*"], ["diff", "latest"], ["stats"], ["dump", "latest"]):
        assert cli("--no-lock", *words).code == 0, words
    assert snapshot_of(cli.default_vault) == before
    assert {path: path.stat().st_mtime_ns for path in cli.default_vault.rglob("*")} == times


@pytest.mark.skipif(os.uname().sysname == "Darwin", reason="macOS takes no such names")
def test_hostile_names_do_nothing_to_a_terminal(cli, documents: Path) -> None:
    evil = os.fsencode(documents) + b"/\x1b]0;owned\x07\n\xff"
    Path(os.fsdecode(evil)).write_text("x")
    cli("backup", documents, "-q")
    for words in (["ls", "latest"], ["ls", "latest", "-l"], ["find", "*owned*"]):
        out = cli(*words).out
        assert "\\x1b]0;owned\\x07\\n\\xff" in out and "\x1b" not in out and "\x07" not in out
    (event,) = [event for event in cli("find", "*owned*", "--json").events if event["event"] == "entry"]
    assert base64.b64decode(event["path_base64"]) == evil


def test_a_damaged_pack_is_told_and_the_rest_is_listed(cli, saved: Path) -> None:
    packs = sorted((cli.default_vault / "data").rglob("*"), key=lambda path: path.stat().st_size)
    for pack in [path for path in packs if path.is_file()]:
        pack.chmod(0o600)
        pack.write_bytes(bytes(len(pack.read_bytes())))
    done = cli("ls", "latest:/", "-r")
    assert done.code == 13
    assert "damaged" in done.err
    dumped = cli("dump", f"latest:{saved}/notes.txt")
    assert dumped.code in (10, 13) and dumped.out == ""


def test_a_damaged_snapshot_hides_no_other(cli, saved: Path) -> None:
    victim = cli.default_vault / "snapshots" / ids(cli)[0]
    victim.chmod(0o600)
    victim.write_bytes(victim.read_bytes()[:-1])
    done = cli("snapshots")
    assert done.code == 13
    assert "1 snapshot" in done.out and victim.name[:8] in done.err
