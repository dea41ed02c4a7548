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
import time
from contextlib import suppress
from dataclasses import asdict

from holdfast.kernel.values import dataclass
from holdfast.monitor.channels.base import ChannelSpec, Message

_BOOT = (
    "import sys; path = sys.argv[1]; path in sys.path or sys.path.insert(0, path); "
    "from holdfast.monitor.channels.child import serve; serve()"
)
_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
_PIPE_BYTES = 4096
"""So much goes into a pipe at once on every system, though nobody reads yet."""
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


class Sending:
    """One message on its way. The process begins at once; :meth:`result` has to be called, and ends it."""

    def __init__(self, spec: ChannelSpec, message: Message) -> None:
        self._seconds = spec.seconds
        self._began = time.monotonic()
        self._job: bytes | None = json.dumps({"spec": asdict(spec), "message": message.to_json()}).encode()
        self._process: subprocess.Popen[bytes] | None = None
        self._trouble = ""
        try:
            self._process = _started()
            pipe = self._process.stdin
            if len(self._job) <= _PIPE_BYTES and pipe is not None:
                pipe.write(self._job)
                pipe.close()
                self._process.stdin = self._job = None
        except OSError as error:
            self._trouble = f"cannot start the process that sends: {error.strerror}"

    def result(self) -> Sent:
        """How it went; waits until the time for sending, and for the start of a process, is over. Never raises an
        ``Exception``."""
        process = self._process
        if process is None:
            return Sent(self._trouble)
        try:
            left = self._seconds + _START_SECONDS - (time.monotonic() - self._began)
            out, _ = process.communicate(self._job, max(0.05, left))
        except subprocess.TimeoutExpired:
            return Sent(f"it was not sent within {self._seconds:g} s")
        except OSError as error:
            return Sent(f"the process that sends ended early: {error.strerror}")
        finally:
            _end(process)
        return _result(out)


def send_apart(spec: ChannelSpec, message: Message) -> Sent:
    """Send ``message`` and wait for how it went."""
    return Sending(spec, message).result()


def _started() -> subprocess.Popen[bytes]:
    """A process that waits for its job, out of reach of Ctrl-C. Raises ``OSError``."""
    debug = os.environ.get("HOLDFAST_DEBUG") == "1"
    return subprocess.Popen(
        [sys.executable, "-I" if sys.flags.isolated else "-P", "-c", _BOOT, _PACKAGES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if debug else subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
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
