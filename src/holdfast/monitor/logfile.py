"""The files of a log: any number of processes append to one, which is put aside at midnight UTC. Never raises."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from holdfast.kernel.clock import Clock, SystemClock

KEPT = 30
MOST_BYTES = 64 << 20
"""A file that has grown to this is put aside before its day is over, so that a log cannot fill a disk."""
DAY = 86_400 * 1_000_000_000
LOCK_SECONDS = 0.5

SUFFIX = ".jsonl"
_BEGIN = b'{"at":"'


def role_word(role: str) -> str:
    """``role`` as it can stand in a file's name."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in role[:64]) or "_"


def files_of(folder: Path, role: str | None = None) -> list[tuple[str, Path]]:
    """(role, file) of every log in ``folder``, or only of ``role``: each role's oldest first, its current one last."""
    found: list[tuple[str, str, int, Path]] = []
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    for name in names:
        of, *rest = name.removesuffix(SUFFIX).split(".")
        if not name.endswith(SUFFIX) or role_word(of) != of or len(rest) > 2:
            continue
        if not rest:
            found.append((of, "~", 0, folder / name))
        elif _day_of(rest[0]) and rest[-1].isdigit() == (len(rest) == 2):
            found.append((of, rest[0], int(rest[1]) if len(rest) == 2 else 1, folder / name))
    wanted = None if role is None else role_word(role)
    return [(of, path) for of, _, _, path in sorted(found) if wanted is None or of == wanted]


class LogFile:
    """The log of one role, ``<folder>/<role>.jsonl``. Lines of several processes and threads do not mix.

    The file of a day that is over is renamed to ``<role>.<day>.jsonl`` by whoever writes first afterwards (days are
    those of UTC, as the lines are), under a lock that is never waited for; then the oldest beyond ``keep()`` go, where
    None keeps all. A file that was renamed or removed under us is noticed at the next line. ``on_trouble`` hears once
    that a line could not be written. Nothing is made or opened before the first line.
    """

    def __init__(
        self,
        folder: Path,
        role: str,
        *,
        clock: Clock | None = None,
        keep: Callable[[], int | None] = lambda: KEPT,
        most_bytes: int = MOST_BYTES,
        on_trouble: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self.folder = folder
        self.role = role_word(role)
        self.path = folder / (self.role + SUFFIX)
        self._clock = clock or SystemClock()
        self._keep = keep
        self._most = most_bytes
        self._on_trouble = on_trouble
        self._fd = -1
        self._day = -1
        self._told = False
        self._lock, self._pid = threading.Lock(), os.getpid()

    def write(self, line: bytes) -> bool:
        """Append ``line``, which has its end; False where that was not possible. Never raises, never waits long."""
        if self._pid != os.getpid():  # after a fork the lock may be held by a thread that is not here
            self._lock, self._pid = threading.Lock(), os.getpid()
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            return False
        try:
            self._ready()
            written = os.write(self._fd, line)
            if written < len(line):  # the disk is full: what follows shall begin a line of its own
                os.write(self._fd, b"\n")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return True
        except (OSError, ValueError) as error:
            self.close()
            self._trouble(error)
            return False
        finally:
            self._lock.release()

    def close(self) -> None:
        """Give the file back. A later line opens it again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _trouble(self, error: OSError | ValueError) -> None:
        if not self._told:
            self._told = True
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._on_trouble(f"the log {self.path} cannot be written ({why}); the work goes on without it")

    def _ready(self) -> None:
        """Have today's file open."""
        day = self._clock.now_ns() // DAY
        if self._fd >= 0 and day == self._day and self._is_ours():
            return
        self.close()
        self._open()
        if self._is_over(day) and self._put_aside(day):
            self.close()
            self._open()
        self._day = day

    def _is_ours(self) -> bool:
        try:
            there, ours = os.stat(self.path), os.fstat(self._fd)
        except FileNotFoundError:
            return False
        return there.st_ino == ours.st_ino and there.st_dev == ours.st_dev and ours.st_size < self._most

    def _open(self) -> None:
        # Without waiting: where the file is a pipe that nobody reads, opening it would never end.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fd = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            self._fd = os.open(self.path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise ValueError("it is not a file")

    def _is_over(self, day: int) -> bool:
        status = os.fstat(self._fd)
        if status.st_size == 0:
            return False
        return status.st_size >= self._most or self._begun(status.st_mtime_ns // DAY)[1] < day

    def _begun(self, otherwise: int) -> tuple[str, int]:
        """The day of the open file's first line, as text and number. ``otherwise`` serves where that line is torn."""
        begin = os.pread(self._fd, len(_BEGIN) + 10, 0)
        text = begin[len(_BEGIN) :].decode("ascii", "replace") if begin.startswith(_BEGIN) else ""
        day = _day_of(text)
        return (text, day) if day else (_text_of(otherwise), otherwise)

    def _put_aside(self, day: int) -> bool:
        """Rename the open file; False where another process is about to, or where it was done meanwhile."""
        import fcntl  # costs 0.3 ms, and is needed once a day

        lock = os.open(self.folder / ".rotate.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            self.close()
            self._open()
            if not self._is_over(day):
                return False
            text, _ = self._begun(day)
            os.rename(self.path, self._free_name(text))
            self._thin()
            return True
        finally:
            os.close(lock)

    def _free_name(self, day: str) -> Path:
        path, number = self.folder / f"{self.role}.{day}{SUFFIX}", 1
        while os.path.lexists(path):
            number += 1
            path = self.folder / f"{self.role}.{day}.{number}{SUFFIX}"
        return path

    def _thin(self) -> None:
        keep = self._keep()
        if keep is None:
            return
        aside = [path for role, path in files_of(self.folder, self.role) if path != self.path]
        for path in aside[: max(len(aside) - keep, 0)]:
            path.unlink(missing_ok=True)


def _text_of(day: int) -> str:
    import time

    return time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))


def _day_of(text: str) -> int:
    """The number of the day that ``2026-11-22`` is, counted from 1970; 0 where it is none."""
    from datetime import date

    try:
        return max(date.fromisoformat(text).toordinal() - 719_163, 0) if len(text) == 10 else 0
    except ValueError:
        return 0
