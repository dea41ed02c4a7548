"""Timers as agents of launchd, which starts on waking up what was due while the machine slept."""

from __future__ import annotations

import os
import plistlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.jobs.timers.base import Files, Owner, Timer, call, said
from holdfast.jobs.translate import calendar_intervals
from holdfast.kernel.errors import HoldfastError, Unavailable, Unsupported

PREFIX = "org.holdfast."


class Launchd:
    """Agents of the user who runs this, in ``folder``."""

    name = "launchd"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def refuse(self) -> None:
        done = call("launchctl", "print", _domain())
        if done.returncode != 0:
            raise Unavailable(
                f"launchd does not answer here: {said(done)}", hint="Take --backend cron, or log in at the screen."
            )

    def remarks(self) -> tuple[str, ...]:
        return ("These timers run while you are logged in.",)

    def texts(self, owner: Owner, timers: tuple[Timer, ...]) -> Mapping[str, str]:
        found = {}
        for timer in timers:
            agent = self._agent(owner, timer)
            agent["StartCalendarInterval"] = calendar_intervals(timer.expression)
            found[self._path(owner, timer)] = _text(agent)
        # What was due while the machine was switched off is nothing that launchd makes up for by itself.
        agent = self._agent(owner, owner.catch_up) | {"RunAtLoad": True, "StartInterval": 3600}
        found[self._path(owner, owner.catch_up)] = _text(agent)
        return found

    def installed(self, owner: Owner) -> Mapping[str, str]:
        return self._files(owner).read()

    def install(self, owner: Owner, timers: tuple[Timer, ...]) -> None:
        before = dict(self.installed(owner))
        texts = self.texts(owner, timers)
        try:
            self._unload(before)
            self._files(owner).write(texts)
            self._lint(texts)
            self._load(texts)
        except HoldfastError:
            self._unload(self.installed(owner))
            self._files(owner).write(before)
            self._load(before)
            raise

    def uninstall(self, owner: Owner) -> None:
        self._unload(self.installed(owner))
        self._files(owner).write({})

    def _load(self, texts: Mapping[str, str]) -> None:
        for path in texts:
            done = call("launchctl", "bootstrap", _domain(), path)
            if done.returncode != 0:
                raise Unavailable(f"launchd did not take {os.path.basename(path)}: {said(done)}")

    def _unload(self, texts: Mapping[str, str]) -> None:
        for path in texts:
            call("launchctl", "bootout", f"{_domain()}/{os.path.basename(path).removesuffix('.plist')}")

    def _lint(self, texts: Mapping[str, str]) -> None:
        if shutil.which("plutil") is None:
            return
        done = call("plutil", "-lint", "-s", *texts)
        if done.returncode != 0:
            raise Unsupported(f"launchd would not take an agent: {said(done)}")

    def _agent(self, owner: Owner, timer: Timer) -> dict[str, Any]:
        return {
            "Label": self._label(owner, timer),
            "ProgramArguments": list(timer.words),
            "EnvironmentVariables": dict(timer.environ),
            "ProcessType": "Background",
            "LowPriorityIO": True,
            "Nice": 10,
        }

    def _files(self, owner: Owner) -> Files:
        return Files(self._folder, f"{PREFIX}{owner.mark}.", (".plist",))

    def _path(self, owner: Owner, timer: Timer) -> str:
        return str(self._folder / f"{self._label(owner, timer)}.plist")

    def _label(self, owner: Owner, timer: Timer) -> str:
        return f"{PREFIX}{owner.mark}.{timer.name}"


def _text(agent: dict[str, Any]) -> str:
    try:
        return plistlib.dumps(agent).decode()
    except (ValueError, UnicodeEncodeError) as error:
        raise Unsupported(f"an agent of launchd cannot hold the command: {error}") from error


def _domain() -> str:
    return f"gui/{os.getuid()}"
