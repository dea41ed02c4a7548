"""The commands that a plan runs around its backup: each in a process group of its own, with a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.events import Emit, Fact

if TYPE_CHECKING:
    from holdfast.config.settings import HookCommand

GRACE_SECONDS = 5.0
"""Between asking a hook to end and killing it."""
_LOOK_SECONDS = 0.2


def run_before(hooks: Iterable[HookCommand], environ: Mapping[str, str], emit: Emit, cancel: Cancel) -> None:
    """Run ``hooks`` one after the other. Raises ``HoldfastError`` for the first that fails and is not optional (a fact
    ``hook.failed`` for one that is), ``Cancelled`` when asked to end, in which case the hook that runs is ended."""
    for place, hook in enumerate(hooks):
        cancel.check()
        what = f"hook {place + 1} before the backup"
        why = run_hook(hook, {**environ, "HOLDFAST_HOOK": "before"}, cancel)
        cancel.check()
        if not why:
            continue
        if not hook.optional:
            raise HoldfastError(
                f"the {what} {why}; nothing was backed up",
                hint="Mend what it runs, or mark it 'optional: true' if the backup may do without.",
            )
        emit(Fact("hook.failed", f"The optional {what} {why}.", "warning", {"hook": "before", "why": why}))


def run_later(kind: str, hooks: Iterable[HookCommand], environ: Mapping[str, str], emit: Emit) -> int:
    """Run all of ``hooks``, though the run was cancelled and whatever comes of each of them: they tidy up.

    Returns how many failed that are not optional; each failure is a fact ``hook.failed``.
    """
    failed = 0
    for place, hook in enumerate(hooks):
        why = run_hook(hook, {**environ, "HOLDFAST_HOOK": kind}, None)
        if why:
            failed += not hook.optional
            level = "warning" if hook.optional else "error"
            optional = "optional " if hook.optional else ""
            message = f"The {optional}hook {place + 1} of {kind} {why}."
            emit(Fact("hook.failed", message, level, {"hook": kind, "why": why}))
    return failed


def run_hook(hook: HookCommand, environ: Mapping[str, str], cancel: Cancel | None) -> str:
    """Run one command; returns what went wrong, in words that do not repeat it (it may hold a secret), or "".

    What it prints goes to standard error, so that standard output stays ours. Its standard input is empty. After its
    time limit, or when ``cancel`` is pressed, it and what it started are asked to end, and killed 5 s later.
    """
    words: tuple[str, ...] = ("/bin/sh", "-c", hook.run) if isinstance(hook.run, str) else tuple(hook.run)
    try:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=2, env=dict(environ), start_new_session=True)
    except (OSError, ValueError) as error:
        return f"cannot run: {os.path.basename(words[0])}: {getattr(error, 'strerror', None) or error}"
    left = hook.timeout
    try:
        while True:
            if cancel is not None and cancel.requested:
                return "was ended, because the run was cancelled"
            try:
                code = process.wait(min(_LOOK_SECONDS, left))
                break
            except subprocess.TimeoutExpired:
                left -= _LOOK_SECONDS
                if left <= 0:
                    return f"did not end within {hook.timeout:g} s"
    finally:
        if process.poll() is None:
            _end(process)
    if code < 0:
        return f"was killed by signal {-code}"
    return f"failed with exit code {code}" if code else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
            # What it started may have outlived it; the group is still ours to kill.
            if number == signal.SIGTERM:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            return
