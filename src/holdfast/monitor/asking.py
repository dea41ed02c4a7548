"""Asks for the delivery of notices: starts ``holdfast notify send`` apart from this process and waits for nothing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

INTERVAL_SECONDS = 10.0
"""Between two deliveries that one process asks for: the later one is started at once, and sleeps until then."""
_SHELL_SECONDS = 2.0

# The shell leaves at once, so that the host has no child of ours to wait for; what it started belongs to nobody.
_SCRIPT = '(trap "" HUP; [ "$1" = 0 ] || sleep "$1"; shift; exec "$@") </dev/null >/dev/null 2>&1 &'


class Asker:
    """One process's requests: a thousand critical facts in a second start two deliveries, not a thousand."""

    def __init__(self) -> None:
        self._next = 0.0

    def ask(self, environ: Mapping[str, str]) -> bool:
        """Start a delivery, where there is a configuration to say to whom. Whether one was started, or is about to.

        Raises ``OSError`` where it cannot be. What is not delivered now is delivered by the installed timer, or by any
        later command.
        """
        now = time.monotonic()
        if self._next > now + INTERVAL_SECONDS:
            return True  # one sleeps already, and will find what was recorded by now
        if not has_configuration(environ):
            return False
        command = _command(environ)
        if not command:
            return False
        wait = max(0.0, self._next - now)
        self._next = max(self._next, now) + INTERVAL_SECONDS
        _start_apart(["/bin/sh", "-c", _SCRIPT, "sh", f"{wait:.0f}", *command], _environment(environ))
        return True


def has_configuration(environ: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether there is a file where the command line looks for its configuration."""
    named = environ.get("HOLDFAST_CONFIG", "")
    if named:
        return os.path.exists(os.path.expanduser(named))
    home = environ.get("HOME") or os.path.expanduser("~")
    support = f"{home}/Library/Application Support"
    folder = environ.get("HOLDFAST_CONFIG_DIR", "")
    if not folder:
        xdg = environ.get("XDG_CONFIG_HOME", "")
        base = xdg if xdg.startswith("/") else support if platform == "darwin" else f"{home}/.config"
        folder = f"{base}/holdfast"
    system = "/Library/Application Support/holdfast" if platform == "darwin" else "/etc/holdfast"
    return any(os.path.exists(os.path.join(place, "holdfast.yaml")) for place in ("", folder, system))


def _command(environ: Mapping[str, str]) -> list[str]:
    # Inside uwsgi and the like sys.executable is not Python.
    if sys.executable and "python" in os.path.basename(sys.executable).lower():
        # -P: not from the working folder, where the host may keep a json.py of its own.
        return [sys.executable, "-P", "-m", "holdfast", "notify", "send"]
    import shutil

    program = shutil.which("holdfast", path=environ.get("PATH"))
    return [program, "notify", "send"] if program else []


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The host's, and where it found us if that is not where Python looks by itself."""
    found = dict(environ)
    folder = str(Path(__file__).resolve().parents[2])
    if os.path.basename(folder) not in ("site-packages", "dist-packages"):
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, environ.get("PYTHONPATH", "")]))
    return found


def _start_apart(argv: list[str], environ: Mapping[str, str]) -> None:
    import subprocess

    shell = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environ,
        start_new_session=True,
    )
    shell.wait(_SHELL_SECONDS)
