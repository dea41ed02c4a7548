"""The desktop's own notifications: ``notify-send``, or ``osascript`` on macOS, run without a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from html import escape

from holdfast.kernel.errors import Unavailable, Unsupported
from holdfast.monitor.channels.base import ChannelSpec, Message, short_body

_URGENCY = {"info": "low", "warning": "normal", "error": "normal", "critical": "critical"}
_LIMIT = 1000
_SCRIPT = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)


class Desktop:
    """Shows the message to the user of this machine whose process this is."""

    def __init__(self, spec: ChannelSpec, platform: str = sys.platform) -> None:
        self._seconds = spec.seconds
        self._platform = platform

    def send(self, message: Message) -> None:
        words = self._mac(message) if self._platform == "darwin" else self._free(message)
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self._seconds,
                env=_with_bus(dict(os.environ)),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable("the desktop did not show the notification in time") from None
        except OSError as error:
            raise Unavailable(f"cannot run {os.path.basename(words[0])}: {error.strerror}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise Unavailable(
                f"the desktop does not show notifications: {said[-1][:200] if said else 'no reason given'}",
                hint="Is somebody logged in at the desktop, as the user that this runs as?",
            )

    def _free(self, message: Message) -> list[str]:
        program = _found("notify-send", "On Debian and Ubuntu it is in the package libnotify-bin.")
        urgency = f"--urgency={_URGENCY.get(message.level, 'normal')}"
        # The body may have mark-up (freedesktop.org, Desktop Notifications Specification), so none of ours may look so.
        body = escape(short_body(message.body, _LIMIT), quote=False)
        return [program, "--app-name=Holdfast", urgency, "--", _text(message.title), _text(body)]

    def _mac(self, message: Message) -> list[str]:
        program = _found("osascript", "It belongs to macOS.")
        lines = [word for line in _SCRIPT for word in ("-e", line)]
        return [program, *lines, "--", _text(message.title), _text(short_body(message.body, _LIMIT))]


def open_channel(spec: ChannelSpec) -> Desktop:
    """The desktop of this machine."""
    return Desktop(spec)


def _found(program: str, hint: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise Unsupported(f"{program} is not installed", hint=hint)
    return path


def _text(text: str) -> str:
    return text.replace("\0", "") or " "


def _with_bus(environ: dict[str, str]) -> dict[str, str]:
    """cron and timers do not say where the user's session bus is; systemd puts it here."""
    if "DBUS_SESSION_BUS_ADDRESS" not in environ and hasattr(os, "getuid"):
        bus = f"/run/user/{os.getuid()}/bus"
        if os.path.exists(bus):
            environ["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={bus}"
    return environ
