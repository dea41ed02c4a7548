"""The process in which one message is sent: a job on standard input, its result on standard output, then the end."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from holdfast.kernel.errors import HoldfastError
from holdfast.monitor.channels import open_channel
from holdfast.monitor.channels.base import ChannelSpec, Message


def serve() -> None:
    """Send what standard input describes, and say in one JSON object how it went. Never raises.

    URLs and secrets come through the pipe: command lines and environments are for others to see.
    """
    result = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no result
    job = json.load(sys.stdin)
    spec = ChannelSpec(**job["spec"])
    _end_in_time(spec.seconds)
    os.write(result, json.dumps(send(spec, Message.from_json(job["message"]))).encode())


def send(spec: ChannelSpec, message: Message) -> dict[str, Any]:
    """``{"ok": true}``, or ``ok`` false with ``code``, ``error`` and ``hint``, and ``retry_after`` where known."""
    try:
        open_channel(spec).send(message)
    except HoldfastError as error:
        told: dict[str, Any] = {"ok": False, "code": error.code, "error": error.message, "hint": error.hint}
        return told | {name: value for name, value in error.context.items() if name == "retry_after"}
    except Exception as error:
        # Its words may hold the URL.
        return {"ok": False, "code": "internal", "error": f"sending failed with {type(error).__name__}", "hint": ""}
    return {"ok": True}


def _end_in_time(seconds: float) -> None:
    """Nobody may be left to end us: then the system does."""
    import signal

    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(seconds) + 5)
