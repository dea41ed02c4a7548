"""Empty outboxes: read whole lines from where the last reader stopped, and take away files that nobody writes to."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from holdfast.kernel.errors import Corrupt
from holdfast.kernel.values import dataclass
from holdfast.monitor.lines import Row, row_of_line
from holdfast.monitor.outbox import SUFFIX
from holdfast.monitor.record import Record

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

STEP = 4 << 20
"""Bytes read at a time: with what comes of them, some 30 MB of memory."""

IDENTITY = len('{"id":"') + 26
_BEGIN = re.compile(rb'\{"id":"')


@dataclass(frozen=True, slots=True)
class Part:
    """What was read of a file: the facts, how many lines were none, how the file begins, and where to go on."""

    rows: list[Row]
    torn: int
    identity: str
    offset: int


def files(outbox: Path) -> list[Path]:
    """The files of an outbox that is there, else none. Raises ``OSError`` where it cannot be read."""
    try:
        names = sorted(os.listdir(outbox))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [outbox / name for name in names if name.endswith(SUFFIX)]


def next_part(path: Path, identity: str, offset: int) -> Part | None:
    """What is in the file behind ``offset``: at most some megabytes, whole lines only; None where there is none.

    A file that does not begin with ``identity`` is another one than was read before: it is read from its start. A last
    line without an end stays: it may still be written. Raises ``OSError``.
    """
    try:
        with open(path, "rb", opener=_careful) as file:
            start = file.read(IDENTITY).decode("latin-1")
            if not identity or not start.startswith(identity):
                offset = 0
            file.seek(offset)
            block = b""
            while more := file.read(STEP):
                block += more
                end = block.rfind(b"\n") + 1
                if end:
                    rows, torn = _understood(block[:end])
                    return Part(rows, torn, start[: min(offset + end, IDENTITY)], offset + end)
    except FileNotFoundError:
        pass  # another reader took it away
    return None


def take_away(path: Path, identity: str, offset: int) -> bool:
    """Remove a file that was read up to ``offset``, if nobody writes to it and nothing came meanwhile.

    A torn line at its end goes with it: who wrote it has told. Never raises.
    """
    if fcntl is None:
        return False
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another reader may have been here before, and a writer have begun another file of that name.
            if not os.fstat(file).st_nlink or os.pread(file, len(identity), 0) != identity.encode("latin-1"):
                return False
            rest = os.pread(file, STEP, offset)
            if b"\n" in rest or _is_whole(rest):
                return False
            os.unlink(path)
            return True
        finally:
            os.close(file)
    return False


def _careful(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _understood(block: bytes) -> tuple[list[Row], int]:
    rows: list[Row] = []
    torn = 0
    for line in block.split(b"\n"):
        if not line:
            continue
        try:
            rows.append(row_of_line(line))
        except Corrupt:
            torn += 1
            rows += _behind_torn(line)
    return rows, torn


def _behind_torn(line: bytes) -> list[Row]:
    """The fact that was appended to a torn one stands at the end of the same line; the other may lack its end only."""
    found: list[Row] = []
    for match in _BEGIN.finditer(line, 1):
        with contextlib.suppress(Corrupt):
            last = row_of_line(line[match.start() :])
            with contextlib.suppress(Corrupt):
                found.append(row_of_line(line[: match.start()]))
            return [*found, last]
    return found


def _is_whole(rest: bytes) -> bool:
    try:
        Record.from_line(rest)
    except Corrupt:
        return False
    return True


def has_more(path: Path, identity: str, offset: int) -> bool:
    """Whether a look at ``path`` could find something behind ``offset``. Raises ``OSError``."""
    try:
        with open(path, "rb", opener=_careful) as file:
            if os.fstat(file.fileno()).st_size != offset:
                return True
            return file.read(len(identity)).decode("latin-1") != identity
    except FileNotFoundError:
        return False
