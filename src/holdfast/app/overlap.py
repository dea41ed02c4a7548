"""One run of a name at a time: a lock in the state folder that is free as soon as its holder is gone."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from holdfast.kernel.errors import Cancelled, Locked
from holdfast.runners.signals import Signals

_LOOK_SECONDS = 0.5


@contextmanager
def alone(
    folder: Path, name: str, command: str, signals: Signals, *, wait: bool, warn: Callable[[str], None]
) -> Iterator[None]:
    """Hold the lock of ``name`` inside. The kernel frees it with the process, ``kill -9`` included.

    Where another run holds it: waits for its end with ``wait``, else raises ``Locked`` with who it is. Raises
    ``Cancelled`` where a signal comes while waiting. Where no lock can be had at all (a read-only state folder), says
    so and goes on without: a command that does not run is worse.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        warn(f"{name} runs without a lock against overlapping: {folder}: {error.strerror}")
        yield
        return
    held = told = False
    try:
        while not _taken(lock):
            holder = _holder(lock)
            if not wait:
                raise Locked(f"{name} is still running: {holder}", hint="'--overlap wait' waits for its end.")
            if not told:
                warn(f"{name} waits for the run before it: {holder}")
                told = True
            if signals.wait(_LOOK_SECONDS):
                raise Cancelled("cancelled while waiting for the run before")
        held = True
        _sign(lock, command)
        yield
    finally:
        if held:
            with suppress(OSError):
                os.ftruncate(lock, 0)
        os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(lock: int, command: str) -> None:
    document = {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "command": command[:200]}
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(document).encode(), 0)


def _holder(lock: int) -> str:
    try:
        document = json.loads(os.pread(lock, 4096, 0))
        return f"process {document['pid']}, since {document['since']} ({document['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "by another process"
