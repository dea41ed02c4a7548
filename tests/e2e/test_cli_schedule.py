"""Installed schedules, as a user meets them: cron, systemd and launchd are stand-ins that keep what they are told."""

from __future__ import annotations

import json
import os
import plistlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.timerkit import Machine

OTHERS = b"MAILTO=me@example.org\r\n# mine\n5 4 * * * echo 50\\% of it\n"
TEXT = """
vaults:
  home: {location: "vault place", password_file: key}
  cloud: {location: cloud, password_file: key}
plans:
  documents:
    paths: ["my documents"]
    to: [home]
    schedule: "10 2 * * *"
    keep: {daily: 7}
    copy: [{to: cloud, schedule: "30 3 * * 0"}]
    check: {schedule: "0 4 * * sun", read_data: 5%}
  unplanned:
    paths: ["my documents"]
    to: [home]
"""
Run = subprocess.CompletedProcess


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one wherever tests have theirs: a line of a crontab has 900 bytes, and names four folders in it."""
    with tempfile.TemporaryDirectory(prefix="hf-", dir="/tmp") as folder:
        yield Path(folder)


class User:
    """Somebody with a home folder, a configuration in it, and the stand-ins on the machine."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home of 50%"
        self.home.mkdir()
        self.machine = Machine(folder / "machine")
        self.file = self.home / "holdfast.yaml"
        self.file.write_text(TEXT)
        (self.home / "key").write_text("a password\n")
        (self.home / "key").chmod(0o600)
        (self.home / "my documents").mkdir()
        (self.home / "my documents" / "a").write_text("text")

    def __call__(self, *words: str, **more: str) -> Run[str]:
        kept = {name: os.environ[name] for name in ("PYTHONPATH", "TMPDIR", "LANG") if name in os.environ}
        environ = {**kept, "HOME": str(self.home), **self.machine.environ(**more)}
        return subprocess.run(
            [sys.executable, "-m", "holdfast", *words],
            cwd=self.home,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def events(self, *words: str) -> list[dict[str, object]]:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    for name in list(os.environ):
        if name.startswith(("HOLDFAST_", "XDG_")) and name != "HOLDFAST_CI":
            monkeypatch.delenv(name)
    return User(tmp_path)


@pytest.fixture
def cron(user: User) -> Iterator[User]:
    with user.machine.running("cron"):
        yield user


def test_cron_gets_our_lines_and_keeps_its_own(cron: User) -> None:
    cron.machine.crontab.write_bytes(OTHERS)
    done = cron("schedule", "install", "--backend", "cron")
    assert done.returncode == 0, done.stderr
    assert "The plan unplanned has no schedule" in done.stderr
    text = cron.machine.crontab.read_bytes()
    assert text.startswith(OTHERS) and text.count(b">>> holdfast") == 1
    lines = text[len(OTHERS) :].decode().splitlines()
    assert [line.split(" fire ")[1].split()[0] for line in lines if " fire " in line] == [
        *("backup:documents", "copy:documents:cloud", "check:documents", "prune:home", "health", "report"),
    ]
    assert sum("schedule catch-up" in line for line in lines) == 2 and any(line.startswith("@reboot") for line in lines)
    again = cron("schedule", "install", "--backend", "cron")
    assert again.returncode == 0 and "nothing to change" in again.stdout
    assert cron.machine.crontab.read_bytes() == text
    cron.file.write_text(TEXT + "notify: {channels: {desk: desktop}}\n")
    assert cron("schedule", "install", "--backend", "cron").returncode == 0
    assert b"fire notices\n" in cron.machine.crontab.read_bytes(), "somebody is to be told what is overdue"
    gone = cron("schedule", "uninstall")
    assert gone.returncode == 0 and cron.machine.crontab.read_bytes() == OTHERS
    assert "Nothing is installed" in cron("schedule", "uninstall").stdout


def test_a_line_of_cron_does_what_it_says(cron: User) -> None:
    """The command goes the way it goes with cron: a backslash before a percent sign goes, and /bin/sh runs the rest."""
    assert cron("init", "home").returncode == 0
    assert cron("schedule", "install", "--backend", "cron").returncode == 0
    line = next(line for line in cron.machine.crontab.read_text().splitlines() if "fire backup:" in line)
    assert line.startswith("10 2 * * * ")
    words = line.split(" ", 5)[5].replace("\\%", "%").rsplit(" --wait ", 1)[0]
    kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    environ = {"HOME": "/another", "PATH": "/usr/bin:/bin", **kept}
    done = subprocess.run(["/bin/sh", "-c", words], env=environ, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "cron mails whatever is printed"
    events = cron.events("snapshots", "--vault", "home")
    assert sum("id" in event for event in events) == 1
    listed = {event["name"]: event for event in cron.events("schedule", "list") if event["event"] == "schedule"}
    assert listed["backup:documents"]["last_ns"] and not listed["health"]["last_ns"]


def test_a_failure_is_printed_with_the_exit_code(cron: User) -> None:
    done = cron("schedule", "fire", "backup:documents")
    assert done.returncode == 10
    assert "backup:documents ended with exit code 10" in done.stderr and "the vault 'home' is not there" in done.stderr


def test_what_cannot_be_relied_on_is_refused_and_nothing_changes(user: User) -> None:
    user.machine.crontab.write_bytes(OTHERS)
    refused = user("schedule", "install", "--backend", "cron")
    if refused.returncode == 0:
        pytest.skip("a cron runs on this machine")
    assert refused.returncode == 75 and "no cron is running" in refused.stderr and "--backend" in refused.stderr
    with user.machine.running("cron"):
        for broken, words in (("denied", "not allowed"), ("full", "No space left"), ("alters", "does not read as it")):
            done = user("schedule", "install", "--backend", "cron", FAKE_BROKEN=broken)
            assert done.returncode in (12, 75) and words in done.stderr, done.stderr
            assert user.machine.crontab.read_bytes() == OTHERS
    assert user.events("schedule", "list")[-1]["installed"] is None


def test_half_of_our_marks_is_not_guessed_at(cron: User) -> None:
    assert cron("schedule", "install", "--backend", "cron").returncode == 0
    text = cron.machine.crontab.read_text()
    cron.machine.crontab.write_text(text.rsplit("# <<<", 1)[0])
    done = cron("schedule", "install", "--backend", "cron")
    assert done.returncode == 1 and "only one of the two marks" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"10 2 * * *"', '"10 2 L * *"', "last day of a month"),
        ("password_file: key}\n  cloud", "password_env: SECRET}\n  cloud", "takes its password from $SECRET"),
        (", password_file: key}\n  cloud", "}\n  cloud", "whoever sits at the terminal"),
        (
            '"my documents"]\n    to: [home]\n    schedule',
            '"${DOCS}"]\n    to: [home]\n    schedule',
            "bare environment",
        ),
    ],
)
def test_what_a_timer_could_not_do_is_refused(cron: User, old: str, new: str, words: str) -> None:
    assert old in TEXT
    cron.file.write_text(TEXT.replace(old, new))
    done = cron("schedule", "install", "--backend", "cron", DOCS="my documents", SECRET="x")
    assert done.returncode in (1, 2) and words in done.stderr, done.stderr
    assert not cron.machine.crontab.exists()


def test_a_dry_run_shows_and_writes_nothing(user: User) -> None:
    done = user("schedule", "install", "--backend", "systemd", "--dry-run")
    assert done.returncode == 0 and "+OnCalendar=*-*-* 02:10:00" in done.stdout and "+Persistent=true" in done.stdout
    assert not (user.home / ".config").exists() and not (user.home / ".local").exists()
    assert user.machine.calls() == ["show --property=Version"]


def test_systemd_gets_units_and_is_asked_whether_they_count(user: User) -> None:
    assert user("schedule", "install", "--backend", "systemd").returncode == 0
    folder = user.home / ".config" / "systemd" / "user"
    units = sorted(path.name for path in folder.iterdir())
    assert len(units) == 12
    service = next(path for path in folder.iterdir() if path.name.endswith("-backup:documents.service")).read_text()
    command = next(line for line in service.splitlines() if line.startswith("ExecStart="))[len("ExecStart=") :]
    words = shlex.split(command.replace("%%", "%"))
    assert words[-2:] == ["fire", "backup:documents"] and str(user.file) in words and os.path.isabs(words[0])
    assert "Nice=10" in service and "IOSchedulingClass=idle" in service
    calls = [call.split()[0] for call in user.machine.calls()]
    assert calls[1:4] == ["daemon-reload", "enable", "restart"] and "show" in calls[4:]
    # A plan that goes takes its timers with it.
    user.file.write_text(TEXT.replace('    check: {schedule: "0 4 * * sun", read_data: 5%}\n', ""))
    assert "is not what the configuration says now" in user("schedule", "list").stderr
    assert user("schedule", "install", "--backend", "systemd").returncode == 0
    assert len(list(folder.iterdir())) == 10
    assert user.events("schedule", "list")[-1]["drift"] is None
    assert user("schedule", "uninstall").returncode == 0
    assert not list(folder.iterdir())


@pytest.mark.parametrize("broken", ["daemon-reload", "enable", "never"])
def test_systemd_that_does_not_take_them_leaves_what_was(user: User, broken: str) -> None:
    assert user("schedule", "install", "--backend", "systemd").returncode == 0
    folder = user.home / ".config" / "systemd" / "user"
    before = {path.name: path.read_text() for path in folder.iterdir()}
    user.file.write_text(TEXT.replace("10 2", "20 2"))
    done = user("schedule", "install", "--backend", "systemd", FAKE_BROKEN=broken)
    assert done.returncode == 75 and "Traceback" not in done.stderr
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


def test_launchd_gets_agents(user: User) -> None:
    assert user("schedule", "install", "--backend", "launchd").returncode == 0
    folder = user.home / "Library" / "LaunchAgents"
    agents = {path.name: plistlib.loads(path.read_bytes()) for path in folder.iterdir()}
    assert len(agents) == 7 and all(name == f"{agent['Label']}.plist" for name, agent in agents.items())
    backup = next(agent for name, agent in agents.items() if "backup" in name)
    assert backup["StartCalendarInterval"] == [{"Minute": 10, "Hour": 2}] and backup["LowPriorityIO"] is True
    catching = next(agent for name, agent in agents.items() if "catch-up" in name)
    assert catching["RunAtLoad"] is True
    user.file.write_text(TEXT.replace("10 2", "20 2"))
    done = user("schedule", "install", "--backend", "launchd", FAKE_BROKEN="bootstrap")
    assert done.returncode == 75
    assert {path.name: plistlib.loads(path.read_bytes()) for path in folder.iterdir()} == agents


def test_two_configurations_do_not_touch_each_other(cron: User) -> None:
    assert cron("schedule", "install", "--backend", "cron").returncode == 0
    first = cron.machine.crontab.read_text()
    other = cron.home / "other.yaml"
    other.write_text(TEXT)
    assert cron("schedule", "install", "--backend", "cron", "--config", str(other)).returncode == 0
    assert cron.machine.crontab.read_text().count(">>> holdfast") == 2
    assert cron("schedule", "uninstall", "--config", str(other)).returncode == 0
    assert cron.machine.crontab.read_text() == first


def test_another_backend_replaces_the_first(cron: User) -> None:
    assert cron("schedule", "install", "--backend", "cron").returncode == 0
    assert cron("schedule", "install", "--backend", "systemd").returncode == 0
    assert not cron.machine.crontab.exists()
    assert cron.events("schedule", "list")[-1]["installed"] == "systemd"


def test_next_and_mistakes(user: User) -> None:
    events = user.events("schedule", "next", "--count", "4")
    starts = [event["at_ns"] for event in events if event["event"] == "start"]
    assert len(starts) == 4 and starts == sorted(starts)  # type: ignore[type-var]
    assert user("schedule", "fire", "backup:nobody").returncode == 10
    user.file.write_text("plans: {a: {paths: [x]}}")
    done = user("schedule", "install")
    assert done.returncode == 2 and "no plan" in done.stderr and "schedule:" in done.stderr
