"""Health while things are broken: every check is made, what is wrong is named, and nothing holds the others up."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.timerkit import Machine

from holdfast.app.context import Context
from holdfast.app.health import HealthResult, check_health
from holdfast.app.report import ReportRequest, make_report
from holdfast.app.schedules import install
from holdfast.config import keyfile
from holdfast.config.locate import Configured
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Invalid
from holdfast.kernel.events import ignore
from holdfast.monitor.health import Finding
from holdfast.monitor.report.model import Missing

SOURCE = Path(__file__).parents[2] / "src"
PASSED = "pass"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one wherever tests have theirs: a line of a crontab has 900 bytes, and names four folders in it."""
    with tempfile.TemporaryDirectory(prefix="hf-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a plan that was saved once, and whose key was exported; every path in it is relative."""
    home = tmp_path_factory.mktemp("health") / "home"
    (home / "docs").mkdir(parents=True)
    (home / "docs/notes.txt").write_text("worth keeping\n")
    (home / "holdfast.yaml").write_text(
        "vaults:\n  home: {location: vault, password_file: home.key, default: true}\n"
        "plans:\n  docs: {paths: [docs], to: [home], expect: {every: 26h}}\n"
        "health:\n  free: 1K\n"
    )
    environ = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": str(SOURCE),
        "HOLDFAST_CONFIG": str(home / "holdfast.yaml"),
    }
    for words in (("init", "home"), ("backup", "--plan", "docs"), ("key", "export", "sheet"), ("history",)):
        subprocess.run([sys.executable, "-m", "holdfast", *words], env=environ, cwd=home, check=True, timeout=120)
    return home


class House:
    """A copy of that home. ``look()`` makes the checks in this process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / ".local/state/holdfast"
        self.config = home / "holdfast.yaml"
        self.environ = {
            "HOME": str(home),
            "PATH": os.environ.get("PATH", os.defpath),
            "HOLDFAST_CONFIG": str(self.config),
        }
        self.said: list[str] = []
        self.result: HealthResult | None = None

    def look(self, *only: str, **environ: str) -> dict[str, Finding]:
        self.result = check_health(self.context(**environ), only=only)
        return {each.name: each.finding for each in self.result.checks}

    def context(self, **environ: str) -> Context:
        here = {**self.environ, **environ}
        return Context(ignore, Cancel(), self.said.append, configured=Configured(None, here), environ=here)

    def words(self, *only: str, **environ: str) -> dict[str, str]:
        return {name: str(found.result) for name, found in self.look(*only, **environ).items()}

    def write(self, *lines: str) -> None:
        """More lines at the end of the configuration, which is its section ``health``."""
        self.config.write_text(self.config.read_text() + "".join(f"{line}\n" for line in lines))

    @property
    def kept(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / "status/health.json").read_bytes())
        return found


@pytest.fixture
def house(saved: Path, tmp_path: Path) -> Iterator[House]:
    shutil.copytree(saved, tmp_path / "home")
    yield House(tmp_path / "home")


def test_all_is_well(house: House) -> None:
    found = house.words()
    assert set(found.values()) <= {PASSED, "skip"}, found
    assert house.kept["ok"] is True and house.said == []


def test_the_age_is_told_by_the_vault_where_the_journal_is_new(house: House) -> None:
    shutil.rmtree(house.state)
    assert house.words()["age:docs/home"] == PASSED


def test_a_broken_configuration_is_a_finding(house: House) -> None:
    house.write("nonsense: 3")
    found = house.look()
    assert str(found["config"].result) == "fail" and "nonsense" in found["config"].message
    assert str(found["state"].result) == PASSED and house.kept["ok"] is False


def test_a_damaged_database_is_found(house: House) -> None:
    other = house.state / "jobs.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("create table t(a)")
        database.executemany("insert into t values (?)", [("x" * 100,)] * 2000)
        database.execute("create index i on t(a)")
        database.commit()
    raw = bytearray(other.read_bytes())
    raw[8192:12288] = bytes(range(256)) * 16
    other.write_bytes(raw)
    found = house.look("databases")["databases"]
    assert str(found.result) == "fail" and "jobs.db is damaged" in found.message


def test_a_damaged_journal_keeps_nothing_from_being_looked_at(house: House) -> None:
    for path in house.state.glob("journal.db*"):
        path.unlink()
    (house.state / "journal.db").write_bytes(b"this is no database, whatever it is called" * 300)
    found = house.words()
    assert found["journal"] in ("warn", "fail") and found["vault:home"] == found["age:docs/home"] == PASSED


def test_a_journal_out_of_reach_is_told(house: House) -> None:
    house.write("journal: postgresql://127.0.0.1:1/none")
    found = house.words()
    assert found["journal"] == "fail" and found["vault:home"] == found["age:docs/home"] == PASSED


def test_what_cannot_be_kept_is_told(house: House) -> None:
    (house.state / "status/health.json").mkdir(parents=True)
    house.look()
    assert house.result is not None and not house.result.ok and "health.json" in house.result.unsaved
    assert not list((house.state / "status").glob(".health*"))


def test_a_status_file_that_cannot_be_read(house: House) -> None:
    (house.state / "status").mkdir(exist_ok=True)
    (house.state / "status/other.json").write_text('{"half": ')
    found = house.look("status")["status"]
    assert str(found.result) == "warn" and "other.json" in found.message


def test_own_commands(house: House) -> None:
    house.write(
        "  own:",
        "    good: echo 12 disks are well",
        "    soft: {run: 'exit 1', optional: true}",
        "    slow: {run: [sleep, '600'], timeout: 0.3s}",
        "    absent: [no-such-program]",
        "    secret: 'echo token=abcdefghijklmnop; exit 1'",
        "    child: {run: 'sleep 600 & exit 0', timeout: 60s}",
        "    loud: {run: 'yes | head -c 3000000; echo; echo enough', timeout: 60s}",
        "    killed: 'kill -9 $$$$'",
    )
    found = house.look("own")
    expected = {
        "good": PASSED,
        "soft": "warn",
        "slow": "fail",
        "absent": "fail",
        "secret": "fail",
        "child": PASSED,
        "loud": PASSED,
        "killed": "fail",
    }
    assert {name[4:]: str(each.result) for name, each in found.items()} == expected
    assert (found["own:good"].message, found["own:loud"].message) == ("12 disks are well", "enough")
    assert "did not end within 0.3 s" in found["own:slow"].message and "signal 9" in found["own:killed"].message
    assert "cannot run no-such-program" in found["own:absent"].message
    assert "abcdefgh" not in found["own:secret"].message


def test_a_wrong_password_is_critical(house: House) -> None:
    (house.home / "home.key").write_bytes(keyfile.generate(lambda count: b"x" * count) + b"\n")
    found = house.look("vault")["vault:home"]
    assert (str(found.result), found.severity) == ("fail", "critical")


def test_a_server_that_never_answers_holds_nothing_up(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, says nothing
        place = f"rest:http://127.0.0.1:{server.getsockname()[1]}/x"
        text = house.config.read_text().replace(
            "plans:", f'  far: {{location: "{place}", password_file: home.key}}\nplans:'
        )
        house.config.write_text(text)
        house.write("  limit: 3s")
        found = house.words("vault", "space")
        assert found == {"vault:far": "fail", "vault:home": PASSED, "space:far": "skip", "space:home": PASSED}


@pytest.mark.parametrize("how", ["password_file: pipe", "password_command: sleep 600"])
def test_a_password_that_never_comes_holds_nothing_up(house: House, how: str) -> None:
    os.mkfifo(house.home / "pipe")
    house.config.write_text(house.config.read_text().replace("password_file: home.key", how))
    house.write("  limit: 2s")
    assert house.words("vault", "space") == {"vault:home": "fail", "space:home": PASSED}


def test_without_a_state_folder_the_checks_are_made(house: House) -> None:
    (house.home / "file").touch()
    found = house.words(HOLDFAST_STATE_DIR=str(house.home / "file"))
    assert (found["state"], found["journal"]) == ("fail", "fail")
    assert found["vault:home"] == found["age:docs/home"] == PASSED
    assert house.result is not None and house.result.unsaved


def test_a_key_file_that_is_open_to_others_or_gone(house: House) -> None:
    (house.home / "home.key").chmod(0o644)
    found = house.look("key")["key:home"]
    assert str(found.result) == "warn" and found.action.startswith("chmod 600")
    (house.home / "home.key").unlink()
    found = house.look("key")["key:home"]
    assert (str(found.result), found.severity) == ("fail", "critical")


def test_an_export_is_remembered_while_the_vault_is_away(house: House) -> None:
    """Its place has changed with the copy of the home: only its id tells which vault it is."""
    assert house.words("key") == {"key:home": PASSED}
    (house.state / "exported-keys.json").write_text("{damaged")
    assert house.words("key") == {"key:home": "warn"}


def test_the_tracker_of_scripts(house: House) -> None:
    assert house.words("tracker") == {"tracker": "skip"}
    (house.state / "tracker").mkdir()
    assert house.words("tracker") == {"tracker": PASSED}
    assert not list((house.state / "tracker").iterdir())


def test_git_work_trees(house: House, need: Callable[[str], str]) -> None:
    need("git")
    tree = house.home / "docs/project"
    tree.mkdir()
    subprocess.run(["git", "init", "-q", tree], check=True, env=house.environ)
    house.write("  git: true")
    assert house.words("git") == {"git:docs": PASSED}
    (tree / "new.txt").write_text("not committed")
    found = house.look("git")["git:docs"]
    assert str(found.result) == "warn" and found.message.endswith(str(tree))


def test_a_path_that_is_gone(house: House) -> None:
    shutil.rmtree(house.home / "docs")
    found = house.look("disk")["disk:docs"]
    assert str(found.result) == "fail" and "No such file" in found.message


def test_too_little_room(house: House) -> None:
    house.config.write_text(house.config.read_text().replace("free: 1K", "free: 4000P"))
    found = house.look("space", "disk", "state")
    assert {str(each.result) for each in found.values()} <= {"warn", "fail"}
    assert all("free on the disk of" in each.message for each in found.values())


def test_choosing_checks(house: House) -> None:
    house.write("  skip: [key, 'space:home']")
    whole = house.words()
    assert (whole["key:home"], whole["space:home"]) == ("skip", "skip")
    shutil.move(house.home / "vault", house.home / "elsewhere")
    assert house.words("vault:home", "clock") == {"vault:home": "fail", "clock": PASSED}
    # What was not looked at now stays as it was last seen: a dashboard does not take a part for the whole.
    kept = {check["name"]: check["result"] for check in house.kept["checks"]}
    assert kept == {**whole, "vault:home": "fail"} and house.kept["ok"] is False
    house.words("clock")
    assert house.result is not None and not house.result.ok
    for word in ("valt", "vault:other"):
        with pytest.raises(Invalid, match="there is no check"):
            house.look(word)
    without = check_health(house.context(), skip=("vault", "clock"))
    assert not {"vault:home", "clock"} & {each.name for each in without.checks}


def test_schedules(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert house.words("schedule") == {"schedule": "skip"}
    text = house.config.read_text()
    house.config.write_text(text.replace("to: [home],", 'to: [home], schedule: "10 2 * * *",'))
    found = house.look("schedule")["schedule"]
    assert str(found.result) == "warn" and found.action == "holdfast schedule install"
    machine = Machine(tmp_path / "machine")
    for name, value in machine.environ().items():
        monkeypatch.setenv(name, value)
    house.environ.update(machine.environ())
    with machine.running("cron"):
        install(house.context(), "cron")
        assert house.words("schedule") == {"schedule": PASSED}
        # Two days later nothing has started.
        record = next(house.state.glob("schedule/*/installed.json"))
        known = json.loads(record.read_bytes())
        record.write_text(json.dumps({**known, "at_ns": known["at_ns"] - 48 * 3600 * 10**9}))
        found = house.look("schedule")["schedule"]
        assert str(found.result) == "fail" and "backup:docs" in found.message
        # Somebody changed the crontab by hand.
        machine.crontab.write_bytes(machine.crontab.read_bytes().replace(b"10 2 ", b"10 3 "))
        found = house.look("schedule")["schedule"]
        assert str(found.result) == "fail" and "is not what the configuration says" in found.message
    assert "it was due and did not start" in {gap.message.partition(",")[0] for gap in late(house)}


def late(house: House) -> list[Missing]:
    report = make_report(house.context(), ReportRequest(days=2))
    return [gap for gap in report.missing if gap.grave]
