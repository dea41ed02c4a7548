"""Run a program for its output: time limit, the end of its standard error, and an exit status that is looked at."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, HoldfastError, NotFound, Unavailable
from holdfast.kernel.pool import abandoned

_TAIL = 16 << 10  # bytes of standard error that are kept: the last words tell what went wrong
_LOOK = 0.2  # seconds between two looks at the clock and the stop button
_GRACE = 2.0  # seconds for a program to end by itself, after SIGTERM or after its output has ended


class Running:
    """A program that runs; ``fd`` is its standard output, ``stdin`` (if asked for) where to write to it."""

    def __init__(self, child: subprocess.Popen[bytes], name: str, limit: float | None, cancel: Cancel) -> None:
        assert child.stdout is not None
        self.fd = child.stdout.fileno()
        self.stdin = child.stdin
        self._child = child
        self._name = name
        self._limit = limit
        self._cancel = cancel
        self._deadline = None if limit is None else time.monotonic() + limit
        self._words = b""
        self._late = False
        self._leave = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def finish(self) -> None:
        """Wait for the end. Raises ``HoldfastError`` for any exit status but 0, ``Unavailable`` past the limit."""
        code = self._child.wait()
        self._leave.set()
        self._watcher.join()
        if self._cancel.requested:
            raise Cancelled(self._cancel.reason)
        if self._late:
            raise Unavailable(f"{self._name} took longer than its limit of {self._limit:g} s and was ended.")
        if code:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
            raise HoldfastError(f"{self._name} {how}{self._last_words()}", exit_status=code)

    def close(self) -> None:
        """End it, if it still runs, with everything that it started."""
        self._end()
        self._leave.set()
        self._watcher.join()
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._words.decode("utf-8", "replace").splitlines() if line.strip()]
        return f": {' / '.join(lines[-3:])}" if lines else ""

    def _watch(self) -> None:
        """Beside the reader: take in standard error (a full pipe would stop the program), and mind the time."""
        assert self._child.stderr is not None
        errors: int | None = self._child.stderr.fileno()
        while True:
            if errors is None:
                ended = self._leave.wait(_LOOK)
            else:
                ready, _, _ = select.select([errors], [], [], _LOOK)
                data = os.read(errors, 65_536) if ready else None
                if data:
                    self._words = (self._words + data)[-_TAIL:]
                elif data == b"":
                    errors = None
                ended = self._leave.is_set() and not data
            if ended:
                return
            orphaned = abandoned()  # the backup was killed
            if orphaned or self._cancel.requested or (self._deadline is not None and time.monotonic() > self._deadline):
                self._late = self._late or not (orphaned or self._cancel.requested or self._child.poll() is not None)
                self._end()

    def _end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_GRACE)


@cache
def _tie() -> Callable[[], object] | None:
    """What a child calls before it becomes the program: it shall not outlive us, whatever ends us.

    A program that waits for a lock in its database would stay for hours, since it notices only when it writes.
    """
    if not sys.platform.startswith("linux"):
        return None
    from ctypes import CDLL  # 8 ms that backups of files can do without

    prctl, death = CDLL(None).prctl, 1  # PR_SET_PDEATHSIG, see prctl(2)
    return lambda: prctl(death, signal.SIGKILL)


@contextmanager
def running(
    argv: Sequence[str | bytes],
    *,
    cancel: Cancel,
    environ: Mapping[str, str | None] | None = None,
    limit: float | None = None,
    name: str = "",
    feed: bool = False,
    inherit: Sequence[int] = (),
    folder: str | bytes | None = None,
) -> Iterator[Running]:
    """Start a program, in ``folder``. ``environ`` is added to ours (secrets go there, never into ``argv``; None takes a
    variable away); ``limit`` is in seconds.

    It runs in a session of its own, and nothing of that session is left when the context is left; on Linux it is killed
    when we are. With ``feed`` its
    standard input is ours to write to; otherwise it is empty. ``inherit``: descriptors that it gets. Raises
    ``NotFound`` where there is no such program.
    """
    name = name or os.fsdecode(os.path.basename(argv[0]))
    variables = {**os.environ, **(environ or {})}
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={key: value for key, value in variables.items() if value is not None},
            cwd=folder,
            start_new_session=True,
            pass_fds=inherit,
            preexec_fn=_tie(),
        )
    except OSError as error:
        raise NotFound(
            f"{name} cannot be started: {error.strerror or error}", hint="Is it installed, and on PATH?"
        ) from error
    run = Running(child, name, limit, cancel)
    try:
        yield run
    finally:
        run.close()


def output(
    argv: Sequence[str | bytes],
    *,
    cancel: Cancel,
    environ: Mapping[str, str | None] | None = None,
    limit: float | None = 60.0,
    feed: bytes = b"",
    inherit: Sequence[int] = (),
) -> str:
    """All that a program with little to say prints. Raises as :func:`running` and ``Running.finish`` do."""
    with running(argv, cancel=cancel, environ=environ, limit=limit, feed=bool(feed), inherit=inherit) as run:
        if run.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # its exit status will tell
                run.stdin.write(feed)
                run.stdin.close()
        pieces = []
        while piece := os.read(run.fd, 65_536):
            pieces.append(piece)
        run.finish()
    return b"".join(pieces).decode("utf-8", "surrogateescape")
