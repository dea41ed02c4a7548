"""Where the parts of the monitor meet, as somebody sees it who uses all of them together."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.servers.listening import free_port


def configure(cli, text: str) -> None:
    path = cli.home / ".config/holdfast/holdfast.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_status_tells_of_open_notices(cli) -> None:
    configure(cli, f'notify: {{channels: {{hook: "http://127.0.0.1:{free_port()}/"}}}}\n')
    assert cli("run", "nightly", "--", "false").code == 1
    done = cli("status")
    assert done.code == 0
    assert "Command nightly failed" in done.out and "1 notice is open" in done.out
    told = [event for event in cli("status", "--json").events if event["event"] == "notice"]
    assert [(notice["rule"], notice["level"]) for notice in told] == [("failed", "error")]
    assert cli("ack").code == 0
    assert "acknowledged)" in cli("status").out
    assert cli("run", "nightly", "--", "true").code == 0
    assert "notice is open" not in cli("status").out


def test_a_state_folder_that_takes_nothing_is_told_once(cli, documents: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in its place")
    done = cli("backup", documents, HOLDFAST_STATE_DIR=tmp_path / "state")
    assert done.code == 0
    assert done.err.count("warning:") == 1 and "cannot be recorded" in done.err


def test_health_tells_of_a_broken_configuration_in_a_line(cli) -> None:
    configure(cli, "plans:\n  docs:\n    pahts: [/a]\nnotifi: {}\n")
    done = cli("health", "--json")
    assert done.code == 1
    told = {event["name"]: event for event in done.events if event["event"] == "check"}
    assert "mistakes, the first in line 3: plans.docs.pahts" in told["config"]["message"]
    assert "\n" not in told["config"]["message"] and told["config"]["action"] == "holdfast config check"
    assert "pahts" not in told["journal"]["message"]
    assert told["clock"]["result"] == "pass"


def test_a_mistyped_check_is_no_run(cli) -> None:
    assert cli("health", "--only", "bogus").code == 2
    assert "Nothing was done here yet" in cli("history").out


def test_a_report_does_not_tell_of_itself(cli) -> None:
    done = cli("report", "--send", "--json")
    assert done.code == 0
    assert done.summary["report"]["lines"] == []


def test_files_in_folders_that_are_not_there(cli, documents: Path, tmp_path: Path) -> None:
    done = cli("report", "--html", tmp_path / "none" / "report.html")
    assert done.code == 10 and "there is no folder" in done.err
    cli("backup", documents)
    done = cli("key", "export", tmp_path / "none" / "sheet")
    assert done.code == 10 and "there is no folder" in done.err


def test_logs_say_that_nothing_fits_and_leave_out_the_making_of_tables(cli) -> None:
    assert cli("run", "a", "--", "true").code == 0
    assert cli("status").code == 0
    done = cli("logs")
    assert "holdfast.run" in done.out and "alembic" not in done.out
    done = cli("logs", "--grep", "no line has this")
    assert done.code == 0 and "No line of the log fits." in done.out + done.err
    assert json.loads(cli("logs", "--grep", "no line has this", "--json").out.splitlines()[-1])["lines"] == 0


def test_a_vault_has_one_name_in_records_wherever_one_stands(cli, documents: Path, tmp_path: Path) -> None:
    for folder in ("here", "elsewhere"):
        (tmp_path / folder).mkdir()
        assert cli("init", "copy", "--kind", "mirror", cwd=tmp_path / folder).code == 0
        assert cli("backup", documents, "--to", "copy", cwd=tmp_path / folder).code == 0
    assert cli("backup", documents, "--to", tmp_path / "here" / "copy").code == 0
    assert cli("backup", documents, "--to", "../here/copy/", cwd=tmp_path / "elsewhere").code == 0
    runs = [event for event in cli("history", "--operation", "backup", "--json").events if event["event"] == "run"]
    assert [run["vault"] for run in runs].count(str(tmp_path / "here" / "copy")) == 3
    assert [run["vault"] for run in runs].count(str(tmp_path / "elsewhere" / "copy")) == 1


def test_a_time_zone_that_nobody_knows_is_a_mistake_in_a_line(cli) -> None:
    for zone in ("Nowhere/X", "Europe", "../x"):
        configure(cli, f'notify:\n  quiet: {{hours: "22:00-07:00", zone: "{zone}"}}\n')
        done = cli("config", "check")
        assert done.code == 2 and "a time zone is wanted" in done.err, done


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_told_as_one(cli, documents: Path, small_disk: Path) -> None:
    assert cli("backup", documents).code == 0
    (small_disk / "state").mkdir()
    known = {"HOLDFAST_STATE_DIR": str(small_disk / "known")}
    assert cli("run", "a", "--", "true", **known).code == cli("status", **known).code == 0
    with suppress(OSError), open(small_disk / "filling", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    state = {"HOLDFAST_STATE_DIR": str(small_disk / "state")}
    for words in (["status"], ["history"], ["report"], ["metrics"]):
        done = cli(*words, **(known if words == ["history"] else state))
        assert done.code == 1 and "full" in done.err and "Free some space" in done.err, done
    for words in (["key", "export", small_disk / "k"], ["dump", "latest", "-o", small_disk / "d"],
                  ["report", "--html", small_disk / "r"], ["drill", "--scratch", small_disk]):  # fmt: skip
        done = cli(*words)
        assert done.code == 1 and str(small_disk) in done.err and "unexpected" not in done.err, done
        assert sorted(path.name for path in small_disk.iterdir()) == ["filling", "known", "state"], words


@pytest.mark.parametrize("end", ["", "/"])
def test_a_link_to_a_folder_is_told_to_be_saved_as_a_link(cli, documents: Path, tmp_path: Path, end: str) -> None:
    (tmp_path / "link").symlink_to(documents)
    (tmp_path / "to a file").symlink_to(documents / "notes.txt")
    done = cli("backup", f"{tmp_path}/link{end}", tmp_path / "to a file")
    assert done.code == 0 and done.err.count("warning: ") == 1, done
    assert f"{tmp_path}/link is a symbolic link" in done.err and f"name {documents} to save" in done.err
    events = cli("backup", tmp_path / "link", "--json").events
    assert [event["data"]["path"] for event in events if event.get("kind") == "path.link"] == [f"{tmp_path}/link"]
