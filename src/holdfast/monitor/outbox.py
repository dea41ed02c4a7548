"""The outbox: facts appended to files of JSON lines, the only thing that whatever records ever has to write."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.events import Fact
from holdfast.monitor.record import Record, make

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".jsonl"
_ATTEMPTS = 8
# A FIFO or a dead device in the file's place does not hold us up; a link in its place is not followed.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
for _flag in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):
    _FLAGS |= getattr(os, _flag, 0)
_IN_NAMES = re.compile(r"[^A-Za-z0-9_.]+")


def to_stderr(message: str) -> None:
    """Tell a person at the terminal, if there is one."""
    with contextlib.suppress(Exception):
        print(f"holdfast: {message}", file=sys.stderr, flush=True)


class Outbox:
    """Facts of one role on one host, on their way to the journal.

    ``folder`` (made where missing, 0700) holds files ``ROLE-HOST-N.jsonl`` (0600), which any number of processes and
    threads append to at once. Nothing is kept open between two facts, so that forks, and daemons that close whatever
    is open, do no harm. Files are locked (flock, shared) while a line is written; who takes a file away holds the
    exclusive lock. Nobody waits for a lock: where it is held, another file is begun. ``on_trouble`` hears once, in one
    sentence, that facts are lost.
    """

    def __init__(
        self,
        folder: Path,
        *,
        role: str = "holdfast",
        clock: Clock | None = None,
        random: Callable[[int], bytes] = os.urandom,
        host: str = "",
        on_trouble: Callable[[str], None] = to_stderr,
    ) -> None:
        self.folder = folder
        self.role = role
        self.host = host or _hostname()
        self._clock = clock or SystemClock()
        self._random = random
        self._on_trouble = on_trouble
        self._told = False
        self._stem = f"{_in_name(role)}-{_in_name(self.host)}-"

    def append(
        self, fact: Fact, *, run: str = "", operation: str = "", plan: str = "", vault: str = "", job: str = ""
    ) -> Record | None:
        """Keep ``fact``; returns what was kept, or None where it could not be.

        Never raises, and never waits for anybody. One write(2) a line: after a crash a line is there, or it is the
        last one and torn. What is of level ``error`` or graver is on the medium when this returns.
        """
        try:
            record = make(
                fact,
                at_ns=self._clock.now_ns(),
                random=self._random,
                host=self.host,
                role=self.role,
                pid=os.getpid(),
                run=run,
                operation=operation,
                plan=plan,
                vault=vault,
                job=job,
            )
            self._write(record.to_line(), flush=record.level in ("error", "critical"))
        except Exception as error:
            self._tell(error)
            return None
        return record

    @property
    def in_trouble(self) -> bool:
        """Whether something could not be kept, which was told then."""
        return self._told

    def size(self) -> int:
        """Bytes that wait in the file that everybody of this role and host appends to; 0 where it cannot be told."""
        try:
            return os.stat(os.path.join(self.folder, f"{self._stem}0{SUFFIX}")).st_size
        except OSError:
            return 0

    def _write(self, line: bytes, *, flush: bool) -> None:
        file = self._opened()
        try:
            written = os.write(file, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if flush:
                _flush(file)
        finally:
            os.close(file)  # and the lock with it
        if flush:
            self._flush_folder()

    def _opened(self) -> int:
        """A file of ours, locked and sure to be read by the journal. Raises ``OSError``."""
        name = "0"
        for attempt in range(_ATTEMPTS):
            path = os.path.join(self.folder, self._stem + name + SUFFIX)
            try:
                file = os.open(path, _FLAGS, 0o600)
            except FileNotFoundError:
                if attempt:
                    raise
                os.makedirs(self.folder, 0o700, exist_ok=True)
                continue
            try:
                if _usable(file):
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)
            # Somebody takes the file away, or has: look once more, then begin one of our own.
            name = "0" if not attempt else f"{os.getpid()}.{self._random(2).hex() if attempt > 1 else 0}"
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _flush_folder(self) -> None:
        """The file's name, too, has to survive a power failure; once a file this is quick."""
        with contextlib.suppress(OSError):
            folder = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _tell(self, error: Exception) -> None:
        if self._told:
            return
        self._told = True
        with contextlib.suppress(Exception):
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            self._on_trouble(
                f"what happens here cannot be recorded in {self.folder}: {reason}. The work goes on, but history, "
                "status, logs and notices may not know of it."
            )


def _usable(file: int) -> bool:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OSError(errno.EINVAL, "there is something else than a file in its place")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks: what takes files away finds that out as well, and does not
    return os.fstat(file).st_nlink > 0


def _flush(file: int) -> None:
    if sys.platform == "darwin" and fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)  # where fsync stops at the drive's own cache
            return
    with contextlib.suppress(OSError):  # a file system that cannot; the line itself is written
        os.fsync(file)


def _in_name(text: str) -> str:
    return _IN_NAMES.sub("_", text)[:60] or "_"


def _hostname() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket

    return socket.gethostname()
