"""Runs a program as a contained child: its output passed on as it comes, its time limited, its process group ended."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from holdfast.kernel.errors import HoldfastError, Invalid
from holdfast.kernel.values import dataclass
from holdfast.runners.birth import in_foreground, preparation, take_terminal
from holdfast.runners.signals import Signals

NOT_EXECUTABLE, NOT_FOUND, TIMED_OUT = 126, 127, 124
"""Exit codes as POSIX shells and timeout(1) have them."""
GRACE_SECONDS = 10.0
"""Between asking a process group to end and killing it."""
_LINGER = 2.0  # seconds to read on, after the child has ended, what something that it started still writes
_CHUNK = 65_536
_WRITTEN = 4096  # PIPE_BUF: so much fits into a pipe that select calls writable
_LOOK = 0.5

Heard = Callable[[int, bytes], None]
"""Hears of output: 1 or 2 for the stream, and what was written to it."""


class CannotStart(HoldfastError):
    """There is no such program, or it cannot be executed; ``context["exit_code"]`` is 127 or 126."""

    code = "not_found"


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. ``timeout`` and ``grace`` are in seconds. ``onto``: the descriptors that take the child's standard
    output and standard error as they come; None where they are only heard."""

    argv: Sequence[str]
    cwd: str | None = None
    environ: Mapping[str, str] | None = None
    timeout: float | None = None
    grace: float = GRACE_SECONDS
    onto: tuple[int | None, int | None] = (1, 2)


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended: ``code`` as a shell says it (128 + n for signal n; 124 past the limit). ``left``: something that it
    started was still writing 2 s later."""

    code: int
    signal: int
    seconds: float
    timed_out: bool
    left: bool


def run(order: Order, heard: Heard, signals: Signals) -> Ended:
    """Run a program to its end.

    It leads a process group of its own (and has the terminal, where standard input is one). Signals that come are
    passed on to the group, once; a second one kills it. Past the time limit the group gets SIGTERM, and SIGKILL
    ``grace`` seconds later. Standard input is ours. A reader of our output who is slow slows the child down, one who
    goes away does not matter to it. Raises ``CannotStart``, and ``Invalid`` where the folder to run in is not there.
    """
    terminal = in_foreground()
    started = time.monotonic()
    child = _start(order, terminal)
    watch = _Watch(order, child, heard, signals, terminal)
    try:
        watch.until_end()
    finally:
        watch.close()
        if terminal:
            take_terminal(os.getpgrp())
    code = child.returncode
    number = -code if code < 0 else 0
    shell = TIMED_OUT if watch.timed_out else 128 + number if number else code
    return Ended(shell, number, time.monotonic() - started, watch.timed_out, watch.left)


def _start(order: Order, terminal: bool) -> subprocess.Popen[bytes]:
    if order.cwd is not None and not os.path.isdir(order.cwd):
        raise Invalid(f"there is no folder {order.cwd} to run in")
    try:
        return subprocess.Popen(
            list(order.argv),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=order.cwd,
            env=order.environ,
            preexec_fn=preparation(terminal=terminal),
        )
    except (OSError, ValueError) as error:
        name = order.argv[0]
        number = getattr(error, "errno", None)
        if number == errno.EACCES and not _is_anywhere(name, order.environ):
            number = errno.ENOENT  # what was refused was a folder of PATH, not the program
        if number in (errno.ENOENT, errno.ENOTDIR):
            hint = "Is it installed, and on PATH? cron has a short one: give the whole path."
            if os.path.sep in name and os.path.lexists(os.path.join(order.cwd or "", name)):
                hint = "The file is there: the program named in its first line is not."
            raise CannotStart(f"{name}: command not found", hint=hint, exit_code=NOT_FOUND) from error
        reason = os.strerror(number) if number else str(error)
        hint = "A script needs a first line such as #!/bin/sh." if number == errno.ENOEXEC else "Is it executable?"
        raise CannotStart(f"{name}: {reason}", hint=hint, exit_code=NOT_EXECUTABLE) from error


def _is_anywhere(name: str, environ: Mapping[str, str] | None) -> bool:
    return os.path.sep in name or any(
        os.path.exists(os.path.join(folder, name)) for folder in os.get_exec_path(environ)
    )


class _Watch:
    """The child while it runs."""

    def __init__(
        self, order: Order, child: subprocess.Popen[bytes], heard: Heard, signals: Signals, terminal: bool
    ) -> None:
        assert child.stdout is not None and child.stderr is not None
        self.timed_out = self.left = False
        self._child = child
        self._heard = heard
        self._signals = signals
        self._terminal = terminal
        self._grace = order.grace
        self._sources = {child.stdout.fileno(): 1, child.stderr.fileno(): 2}
        self._onto = dict(zip((1, 2), order.onto, strict=True))
        self._unwritten = {1: b"", 2: b""}
        self._deadline = None if order.timeout is None else time.monotonic() + order.timeout
        self._kill_at: float | None = None
        self._ended_at: float | None = None

    def until_end(self) -> None:
        """Pass on output and signals until the child has ended, and nothing more comes from it."""
        while True:
            self._look_at_child()
            now = time.monotonic()
            if self._ended_at is not None:
                if not self._sources and not any(self._unwritten.values()):
                    return
                if now >= self._ended_at + _LINGER and not any(self._unwritten.values()):
                    self.left = bool(self._sources)
                    return
            self._mind_the_time(now)
            self._pump(self._patience(now))
            for number in self._signals.take():
                self._pass_on(number)

    def close(self) -> None:
        """Leave nothing of a group that had to be ended, and take the child's exit status."""
        if self._ended_at is None or self._kill_at is not None:
            self._tell_group(signal.SIGKILL)
        assert self._child.stdout is not None and self._child.stderr is not None
        self._child.stdout.close()
        self._child.stderr.close()
        self._child.wait()

    def _look_at_child(self) -> None:
        if self._ended_at is not None:
            return
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            self._ended_at = None if self._child.poll() is None else time.monotonic()
            return
        # The dead child is not taken yet: while it is there, nobody else can get the number of its group.
        state = os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        if state is None:
            return
        if state.si_code != os.CLD_STOPPED:
            self._ended_at = time.monotonic()
            return
        os.waitid(os.P_PID, self._child.pid, os.WSTOPPED | os.WNOHANG)
        if self._terminal and self._kill_at is None:
            self._stop_with_child()

    def _stop_with_child(self) -> None:
        """Ctrl-Z: the shell that started us has to see us stopped, and wakes us when the person wants to go on."""
        take_terminal(os.getpgrp())
        os.killpg(os.getpgrp(), signal.SIGTSTP)
        if in_foreground():
            take_terminal(self._child.pid)
        self._tell_group(signal.SIGCONT)

    def _mind_the_time(self, now: float) -> None:
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._tell_group(signal.SIGKILL)
                self._kill_at = now + _LOOK
        elif self._deadline is not None and now >= self._deadline and self._ended_at is None:
            self.timed_out = True
            self._end_group(signal.SIGTERM)

    def _pass_on(self, number: int) -> None:
        if self._ended_at is not None:
            return
        if self._kill_at is not None:
            self._tell_group(signal.SIGKILL)
        elif number in (signal.SIGINT, signal.SIGQUIT):
            # A person asks: how long the command takes to end is its affair, until they ask again.
            self._tell_group(number)
            self._kill_at = float("inf")
        else:
            self._end_group(number)

    def _end_group(self, number: int) -> None:
        self._tell_group(number)
        self._tell_group(signal.SIGCONT)  # what is stopped hears nothing else
        self._kill_at = time.monotonic() + self._grace

    def _tell_group(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)

    def _patience(self, now: float) -> float:
        until = [at for at in (self._kill_at, self._deadline if not self.timed_out else None) if at is not None]
        if self._ended_at is not None:
            until.append(self._ended_at + _LINGER)
        # Children that were there before SIGCHLD was caught need a look now and then.
        return max(0.0, min([*until, now + _LOOK]) - now)

    def _pump(self, patience: float) -> None:
        reading = [source for source, stream in self._sources.items() if not self._unwritten[stream]]
        onto = self._onto
        writing = {target: stream for stream, target in onto.items() if target is not None and self._unwritten[stream]}
        ready, writable, _ = select.select([*reading, self._signals.wake], list(writing), [], patience)
        for target in writable:
            self._write(target, writing[target])
        for source in ready:
            if source in self._sources:
                self._read(source)

    def _read(self, source: int) -> None:
        stream = self._sources[source]
        data = os.read(source, _CHUNK)
        if not data:
            del self._sources[source]
            return
        self._heard(stream, data)
        if self._onto[stream] is not None:
            self._unwritten[stream] = data

    def _write(self, target: int, stream: int) -> None:
        data = self._unwritten[stream]
        try:
            self._unwritten[stream] = data[os.write(target, data[:_WRITTEN]) :]
        except BlockingIOError:
            return
        except OSError:
            self._unwritten[stream], self._onto[stream] = b"", None  # nobody reads any more; the command goes on
