"""The tools that are compared: how each makes a repository, backs up, restores and checks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cheapkey import without_stretching


@dataclass(frozen=True, slots=True)
class Places:
    """Where a tool may write: its repository, and a home of its own for caches and state."""

    repository: Path
    home: Path
    password_file: Path
    template: Path


class Tool:
    """One peer. The commands it returns are run, and measured, by the bench."""

    name: ClassVar[str]

    def __init__(self, places: Places) -> None:
        self.places = places

    @staticmethod
    def version() -> str | None:
        """What the tool says of itself, or None where it is not installed."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The caller's, but with every folder that the tool keeps state in moved into its own home."""
        home = self.places.home
        moved = {
            "HOME": home,
            "XDG_CACHE_HOME": home / "cache",
            "XDG_CONFIG_HOME": home / "config",
            "XDG_DATA_HOME": home / "data",
            "XDG_STATE_HOME": home / "state",
        }
        return os.environ | {name: str(path) for name, path in moved.items()}

    def create(self) -> None:
        """An empty repository, and no memory of an earlier one."""
        for folder in (self.places.repository, self.places.home):
            shutil.rmtree(folder, ignore_errors=True)
        self.places.home.mkdir(parents=True)
        shutil.copytree(self.places.template, self.places.repository)

    def backup(self, source: Path) -> list[str]:
        raise NotImplementedError

    def restore(self, target: Path) -> list[str]:
        """Restores the newest snapshot; runs inside ``target``. The source's absolute path appears beneath it."""
        raise NotImplementedError

    def check(self) -> list[str]:
        raise NotImplementedError


class Restic(Tool):
    """Stock restic."""

    name = "restic"

    @staticmethod
    def version() -> str | None:
        return _first_line(["restic", "version"])

    def _restic(self, *arguments: str) -> list[str]:
        places = self.places
        return ["restic", "-q", "-r", str(places.repository), "--password-file", str(places.password_file), *arguments]

    def backup(self, source: Path) -> list[str]:
        return self._restic("--compression", "auto", "backup", str(source))

    def restore(self, target: Path) -> list[str]:
        return self._restic("restore", "latest", "--target", str(target))

    def check(self) -> list[str]:
        return self._restic("check", "--read-data")


class Holdfast(Tool):
    """This project, as installed beside the interpreter that runs the bench."""

    name = "holdfast"

    @staticmethod
    def version() -> str | None:
        return _first_line([*holdfast_command(), "--version"])

    def _holdfast(self, *arguments: str) -> list[str]:
        return [*holdfast_command(), *arguments, "--password-file", str(self.places.password_file), "-q"]

    def backup(self, source: Path) -> list[str]:
        return self._holdfast("backup", str(source), "--no-default-excludes", "--to", str(self.places.repository))

    def restore(self, target: Path) -> list[str]:
        return self._holdfast("restore", "latest", "--vault", str(self.places.repository), "--target", str(target))

    def check(self) -> list[str]:
        return self._holdfast("check", "--read-data", "--vault", str(self.places.repository))


class Borg(Tool):
    """BorgBackup, with the compression that restic's ``auto`` comes nearest to."""

    name = "borg"

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self._archives = 0

    @staticmethod
    def version() -> str | None:
        return _first_line(["borg", "--version"])

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "BORG_BASE_DIR": str(self.places.home),
            "BORG_PASSCOMMAND": f"cat {self.places.password_file}",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }

    def create(self) -> None:
        for folder in (self.places.repository, self.places.home):
            shutil.rmtree(folder, ignore_errors=True)
        self.places.home.mkdir(parents=True)
        self._archives = 0
        command = ["borg", "init", "--encryption", "repokey", str(self.places.repository)]
        subprocess.run(command, env=self.environment(), check=True, capture_output=True)

    def backup(self, source: Path) -> list[str]:
        self._archives += 1
        return ["borg", "create", "--compression", "zstd,3", self._newest(), str(source)]

    def restore(self, target: Path) -> list[str]:
        return ["borg", "extract", self._newest()]

    def check(self) -> list[str]:
        return ["borg", "check", "--verify-data", str(self.places.repository)]

    def _newest(self) -> str:
        return f"{self.places.repository}::archive-{self._archives}"


TOOLS: dict[str, type[Tool]] = {tool.name: tool for tool in (Holdfast, Restic, Borg)}


def holdfast_command() -> list[str]:
    """The installed command, or the module where only the sources are on the path."""
    beside = Path(sys.executable).with_name("holdfast")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "holdfast"]


def make_template(template: Path, password_file: Path, *, stretched: bool) -> None:
    """An empty repository by ``restic init``, which restic and Holdfast then each get a copy of.

    So both open the same key: by default with the cost that restic calibrated on this machine (about half a second), or
    with none where a generated key file needs no stretching.
    """
    command = ["restic", "-q", "-r", str(template), "--password-file", str(password_file), "init"]
    subprocess.run(command, check=True, capture_output=True)
    if not stretched:
        without_stretching(template, password_file.read_bytes().strip())


def _first_line(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    lines = done.stdout.splitlines()
    return lines[0] if done.returncode == 0 and lines else None
