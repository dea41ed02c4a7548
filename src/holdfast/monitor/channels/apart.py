"""Sends one message from a process of its own, so that nothing that a service or a library does can hold us up.

A name that is not resolved blocks in C beyond every time limit, a library may keep threads or break after a fork, and
all of it costs memory: a process ends with all of that, by force if it has to.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass

from holdfast.monitor.channels.base import ChannelSpec, Message

_BOOT = (
    "import sys; path = sys.argv[1]; path in sys.path or sys.path.insert(0, path); "
    "from holdfast.monitor.channels.child import serve; serve()"
)
_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
_START_SECONDS = 10.0
"""Beside the time for sending: a machine under load takes seconds to start an interpreter and load libraries."""

REFUSED = frozenset({"denied", "wrong_password", "invalid", "unsupported"})
"""Codes of errors that trying again does not mend; people have to."""


@dataclass(frozen=True, slots=True)
class Sent:
    """How it went. ``error`` (with its ``hint``) is empty where the message was taken; ``refused``: trying again will
    hardly help; ``retry_after`` is in seconds."""

    error: str = ""
    hint: str = ""
    refused: bool = False
    retry_after: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether somebody took the message."""
        return not self.error


def send_apart(spec: ChannelSpec, message: Message) -> Sent:
    """Send ``message``; returns within ``spec.seconds`` and the start of a process. Never raises an ``Exception``."""
    job = json.dumps({"spec": asdict(spec), "message": message.to_json()}).encode()
    try:
        process = started()
    except OSError as error:
        return Sent(f"cannot start a process: {error.strerror}")
    try:
        out, _ = process.communicate(job, spec.seconds + _START_SECONDS)
    except subprocess.TimeoutExpired:
        return Sent(f"it was not sent within {spec.seconds:g} s")
    except OSError as error:
        return Sent(f"the process that sends ended early: {error.strerror}")
    finally:
        end(process)
    return _result(out)


def started() -> subprocess.Popen[bytes]:
    """A process that waits for its job, out of reach of Ctrl-C. Raises ``OSError``."""
    debug = os.environ.get("HOLDFAST_DEBUG") == "1"
    return subprocess.Popen(
        [sys.executable, "-I" if sys.flags.isolated else "-P", "-c", _BOOT, _PACKAGES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if debug else subprocess.DEVNULL,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that ``process``, and what it started, is no more."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _result(out: bytes) -> Sent:
    try:
        told = json.loads(out)
        if told["ok"]:
            return Sent()
        refused = told.get("code") in REFUSED
        return Sent(
            str(told["error"]) or "it failed", str(told.get("hint", "")), refused, float(told.get("retry_after", 0))
        )
    except (ValueError, KeyError, TypeError):
        return Sent("the process that sends ended without a word")
