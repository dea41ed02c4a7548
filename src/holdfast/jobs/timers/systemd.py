"""Timers as units of systemd: of the user, or of the system."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from holdfast.jobs.timers.base import Files, Owner, Timer, call, said
from holdfast.jobs.translate import on_calendar
from holdfast.kernel.errors import Denied, HoldfastError, Unavailable, Unsupported

SYSTEM_FOLDER = Path("/etc/systemd/system")


class Systemd:
    """``folder`` is where the units go; ``system``: they are the machine's, else the user's."""

    def __init__(self, folder: Path, *, system: bool) -> None:
        self.name = "systemd-system" if system else "systemd"
        self._folder = folder
        self._system = system

    def refuse(self) -> None:
        if self._system and os.geteuid() != 0:
            raise Denied("only root installs timers for the whole machine", hint="Take --backend systemd, or sudo.")
        done = self._control("show", "--property=Version")
        if done.returncode != 0:
            raise Unavailable(
                f"systemd does not answer here: {said(done)}",
                hint="Take --backend cron, or log in so that systemd runs for you (a container often has none).",
            )

    def remarks(self) -> tuple[str, ...]:
        if self._system or shutil.which("loginctl") is None:
            return ()
        user = getpass.getuser()
        done = call("loginctl", "show-user", user, "--property=Linger")
        if b"Linger=yes" in done.stdout:
            return ()
        return (f"These timers run only while you are logged in. 'loginctl enable-linger {user}' changes that.",)

    def texts(self, owner: Owner, timers: tuple[Timer, ...]) -> Mapping[str, str]:
        found = {}
        for timer in timers:
            unit = self._unit(owner, timer)
            found[str(self._folder / f"{unit}.service")] = _service(owner, timer)
            found[str(self._folder / f"{unit}.timer")] = _timer(owner, timer)
        return found

    def installed(self, owner: Owner) -> Mapping[str, str]:
        return self._files(owner).read()

    def install(self, owner: Owner, timers: tuple[Timer, ...]) -> None:
        before = dict(self.installed(owner))
        texts = self.texts(owner, timers)
        self._verify(texts)
        gone = [path for path in before if path not in texts and path.endswith(".timer")]
        if gone:
            self._control("disable", "--now", *map(os.path.basename, gone))
        try:
            self._files(owner).write(texts)
            self._must("daemon-reload")
            units = [os.path.basename(path) for path in texts if path.endswith(".timer")]
            self._must("enable", *units)
            self._must("restart", *units)  # so that a changed time counts from now on
            self._see(units)
        except HoldfastError:
            self._back(owner, before)
            raise

    def uninstall(self, owner: Owner) -> None:
        units = [os.path.basename(path) for path in self.installed(owner) if path.endswith(".timer")]
        if units:
            self._control("disable", "--now", *units)
        self._files(owner).write({})
        self._control("daemon-reload")

    def _back(self, owner: Owner, before: Mapping[str, str]) -> None:
        """As it was, as far as that goes."""
        now = [os.path.basename(path) for path in self.installed(owner) if path.endswith(".timer")]
        if now:
            self._control("disable", "--now", *now)
        self._files(owner).write(before)
        self._control("daemon-reload")
        units = [os.path.basename(path) for path in before if path.endswith(".timer")]
        if units:
            self._control("enable", "--now", *units)

    def _see(self, units: list[str]) -> None:
        """Raise ``Unavailable`` unless systemd itself says when each unit starts next."""
        for unit in units:
            done = self._control("show", unit, "--property=ActiveState", "--property=NextElapseUSecRealtime")
            text = done.stdout.decode(errors="replace")
            if "ActiveState=active" not in text or "NextElapseUSecRealtime=\n" in text + "\n":
                raise Unavailable(f"systemd has taken {unit}, but does not say when it starts next; it was taken back")

    def _verify(self, texts: Mapping[str, str]) -> None:
        """Let systemd read the units before they count, where its tool for that is installed."""
        if shutil.which("systemd-analyze") is None:
            return
        with tempfile.TemporaryDirectory(prefix="holdfast-units-") as folder:
            paths = []
            for path, text in texts.items():
                paths.append(os.path.join(folder, os.path.basename(path)))
                Path(paths[-1]).write_text(text, encoding="utf-8", errors="surrogateescape")
            which = [] if self._system else ["--user"]
            done = call("systemd-analyze", *which, "--man=no", "verify", *paths)
            complaints = [line for line in done.stderr.decode(errors="replace").splitlines() if folder in line]
        if complaints:
            what = complaints[0].replace(folder + "/", "")
            raise Unsupported(f"systemd would not take a timer: {what}")

    def _must(self, *words: str) -> None:
        done = self._control(*words)
        if done.returncode != 0:
            raise Unavailable(f"systemctl {words[0]} failed: {said(done)}", hint="Nothing was changed.")

    def _control(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return call("systemctl", *([] if self._system else ["--user"]), *words)

    def _files(self, owner: Owner) -> Files:
        return Files(self._folder, f"holdfast-{owner.mark}-", (".service", ".timer"))

    def _unit(self, owner: Owner, timer: Timer) -> str:
        return f"holdfast-{owner.mark}-{timer.name}"


def _head(owner: Owner, timer: Timer) -> str:
    return (
        f"# 'holdfast schedule install' writes this file, for {_plain(owner.config)}\n"
        f"[Unit]\nDescription=Holdfast: {_plain(timer.about)}\n"
    )


def _service(owner: Owner, timer: Timer) -> str:
    environ = "".join(f"Environment={_quoted(f'{name}={value}', timer)}\n" for name, value in timer.environ)
    command = " ".join(_quoted(word, timer, command=True) for word in timer.words)
    return (
        f"{_head(owner, timer)}\n[Service]\nType=oneshot\n{environ}ExecStart={command}\n"
        "Nice=10\nIOSchedulingClass=idle\nSuccessExitStatus=3\n"
    )


def _timer(owner: Owner, timer: Timer) -> str:
    times = "".join(f"OnCalendar={value}\n" for value in on_calendar(timer.expression))
    jitter = f"RandomizedDelaySec={timer.jitter}\nFixedRandomDelay=true\n" if timer.jitter else ""
    return (
        f"{_head(owner, timer)}\n[Timer]\n{times}Persistent=true\nAccuracySec=1min\n{jitter}"
        "\n[Install]\nWantedBy=timers.target\n"
    )


def _quoted(word: str, timer: Timer, *, command: bool = False) -> str:
    """One word by the rules of systemd.syntax(7) and, of a command, of systemd.service(5)."""
    if any(ord(letter) < 32 for letter in word):
        raise Unsupported(f"a unit cannot hold the command of {timer.name}: there is a control character in it")
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text.replace("$", "$$") if command else text}"'


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text).replace("%", "%%")
