"""Reading logs: the lines of all roles in the order of time, filtered, and followed over rotations."""

from __future__ import annotations

import heapq
import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import field
from pathlib import Path
from typing import Any, BinaryIO

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.values import dataclass
from holdfast.monitor.logfile import files_of
from holdfast.monitor.logline import rank
from holdfast.monitor.record import time_text

Line = dict[str, Any]
Ends = dict[tuple[int, int], int]
"""(device, inode) of a role's current file -> bytes of it that count; others of them do not count at all."""
POLL_SECONDS = 0.25
_SLACK_NS = 60_000_000_000
"""What was written to a file last is not later than its own time by more than this."""
_BEGIN = b'{"at":"'


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which lines are wanted: of a run (its id begins so), of at least this level, in this span of time, of this role,
    with something that ``grep`` finds in the message, the logger, the exception or the data."""

    run: str = ""
    level: str = "debug"
    since_ns: int | None = None
    until_ns: int | None = None
    role: str | None = None
    grep: re.Pattern[str] | None = None

    def wants(self, line: Line) -> bool:
        """Whether ``line`` is one of them."""
        at = str(line.get("at", ""))
        return (
            rank(str(line.get("level", ""))) >= rank(self.level)
            and str(line.get("run", "")).startswith(self.run.upper())
            and (self.since_ns is None or at >= time_text(self.since_ns))
            and (self.until_ns is None or at < time_text(self.until_ns))
            and (self.grep is None or self.grep.search(_text(line)) is not None)
        )


@dataclass(slots=True)
class Unread:
    """What could not be read: lines that are torn, and files with the reason."""

    lines: int = 0
    files: dict[str, str] = field(default_factory=dict)


def read(folder: Path, wanted: LogFilter, unread: Unread, ends: Ends | None = None) -> Iterator[Line]:
    """The wanted lines of every role in ``folder``, oldest first, each with its ``role``; see :class:`Follower` for
    ``ends``."""
    roles: dict[str, list[Path]] = {}
    for role, path in files_of(folder, wanted.role):
        roles.setdefault(role, []).append(path)
    streams = (_of_role(role, paths, wanted, unread, ends) for role, paths in roles.items())
    return heapq.merge(*streams, key=lambda line: str(line["at"]))


def newest(lines: Iterable[Line], count: int) -> tuple[list[Line], bool]:
    """The last ``count`` of ``lines`` (0: all), and whether there were more."""
    if count == 0:
        return list(lines), False
    last: deque[Line] = deque(maxlen=count + 1)
    last.extend(lines)
    return list(last)[-count:], len(last) > count


class Follower:
    """Stands at the ends of the logs in ``folder`` from when it is made; of one role only where that is given.

    ``ends`` says up to where :func:`read` may go, so that no line comes twice and none is missed between the two.
    """

    def __init__(self, folder: Path, role: str | None = None) -> None:
        self._folder = folder
        self._role = role
        self._tails: dict[str, _Tail] = {}
        self.ends: Ends = {}
        for of, path in files_of(folder, role):
            if _is_current(path):
                self._tails[of] = tail = _Tail(of, path)
                self.ends.update(tail.skip())

    def lines(self, wanted: LogFilter, clock: Clock, cancel: Cancel) -> Iterator[Line]:
        """The wanted lines that are written from now on, until ``cancel`` is pressed.

        Goes along with files that are put aside and with new roles; looks four times a second.
        """
        while not cancel.requested:
            for role, path in files_of(self._folder, self._role):
                if _is_current(path) and role not in self._tails:
                    self._tails[role] = _Tail(role, path)
            fresh = [line for tail in self._tails.values() for line in tail.more()]
            yield from (line for line in sorted(fresh, key=lambda line: str(line["at"])) if wanted.wants(line))
            if not fresh:
                clock.sleep(POLL_SECONDS)
        for tail in self._tails.values():
            tail.close()


class _Tail:
    """The end of one role's current file."""

    def __init__(self, role: str, path: Path) -> None:
        self._role = role
        self._path = path
        self._rest = b""
        self._fd = -1
        self._open()

    def skip(self) -> Ends:
        """Go to the end; which file that is, and where the end."""
        if self._fd < 0:
            return {}
        status = os.fstat(self._fd)
        return {(status.st_dev, status.st_ino): os.lseek(self._fd, 0, os.SEEK_END)}

    def more(self) -> list[Line]:
        """The lines that have come since; those of a file that was put aside first, then those of its successor."""
        found = self._take()
        if self._is_gone():
            found += self._take()  # what came between the last look and the renaming
            self.close()
            self._open()
            found += self._take()
        return found

    def close(self) -> None:
        fd, self._fd, self._rest = self._fd, -1, b""
        if fd >= 0:
            os.close(fd)

    def _open(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            self._fd = -1

    def _is_gone(self) -> bool:
        if self._fd < 0:
            return True
        try:
            there, ours = os.stat(self._path), os.fstat(self._fd)
        except OSError:
            return False  # renamed, and not yet begun anew: the old one may still get a line
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _take(self) -> list[Line]:
        if self._fd < 0:
            return []
        found: list[Line] = []
        while piece := os.read(self._fd, 1 << 20):
            *whole, self._rest = (self._rest + piece).split(b"\n")
            found += [line for line in (_parsed(raw, self._role) for raw in whole) if line is not None]
        return found


def _is_current(path: Path) -> bool:
    return path.name.count(".") == 1


def _of_role(role: str, paths: list[Path], wanted: LogFilter, unread: Unread, ends: Ends | None) -> Iterator[Line]:
    for path in paths:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if wanted.since_ns is not None and status.st_mtime_ns + _SLACK_NS < wanted.since_ns:
                    continue
                most = status.st_size
                if ends is not None and _is_current(path):
                    most = ends.get((status.st_dev, status.st_ino), 0)
                for raw in _lines(file, most):
                    line = _parsed(raw, role)
                    if line is None:
                        unread.lines += bool(raw.strip())
                    elif wanted.wants(line):
                        yield line
        except OSError as error:
            unread.files[str(path)] = error.strerror or str(error)


def _lines(file: BinaryIO, most: int) -> Iterator[bytes]:
    """The lines in the first ``most`` bytes, without their ends."""
    for raw in file:
        if most <= 0:
            return
        yield raw[:most].rstrip(b"\n")
        most -= len(raw)


def _parsed(raw: bytes, role: str) -> Line | None:
    """A line as a dict. Of one that continues what a full disk tore, the whole part at its end."""
    if not raw.startswith(_BEGIN):
        raw = raw[max(raw.rfind(_BEGIN), 0) :]
    try:
        line = json.loads(raw)
    except ValueError:
        later = raw.rfind(_BEGIN)
        return _parsed(raw[later:], role) if later > 0 else None
    if not isinstance(line, dict) or not isinstance(line.get("at"), str):
        return None
    return {**line, "role": role}


def _text(line: Line) -> str:
    exception = line.get("exception")
    trace = str(exception.get("traceback", "")) if isinstance(exception, dict) else ""
    data = json.dumps(line["data"], ensure_ascii=False) if line.get("data") else ""
    return "\n".join(
        (str(line.get("message", "")), str(line.get("logger", "")), str(line.get("kind", "")), trace, data)
    )
