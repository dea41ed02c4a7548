"""The files of a tracker: appended to a line at a time, a new one every day, old ones removed."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import stat
from pathlib import Path

from holdfast.kernel.clock import Clock
from holdfast.monitor.masking import mask_data
from holdfast.monitor.record import time_text

_DAY_NS = 86_400 * 1_000_000_000
_LONGEST = 64 << 10  # bytes of a line that one write(2) takes whole
# A FIFO or a dead device in the file's place does not hold us up; a link in its place is not followed.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
for _flag in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):
    _FLAGS |= getattr(os, _flag, 0)


class TrackFile:
    """``FOLDER/NAME-YYYY-MM-DD.jsonl`` of today. Nothing is kept open between two lines."""

    def __init__(self, folder: Path, name: str, keep_days: int, clock: Clock) -> None:
        self._folder = folder
        self._stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:80] or "_"
        self._keep_days = keep_days
        self._clock = clock
        self._day = ""

    def append(self, line: dict[str, object], session: str) -> None:
        """Write one line: ``at``, ``pid``, ``session`` (if there is one) and what ``line`` says. Raises ``OSError``.

        After a crash the line is there, or it is the last one and torn.
        """
        now = self._clock.now_ns()
        document = {"at": time_text(now), "pid": os.getpid(), **({"session": session} if session else {})}
        text = json.dumps({**document, **mask_data(line)}, separators=(",", ":"), default=str).encode()
        if len(text) >= _LONGEST:
            operation = str(line.get("operation", ""))
            text = json.dumps({**document, "operation": operation, "cut": len(text)}, separators=(",", ":")).encode()
        day = str(document["at"])[:10]
        file = self._open(day)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EINVAL, "there is something else than a file in its place")
            if os.write(file, text + b"\n") != len(text) + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)
        if day != self._day:
            self._day = day
            self._remove_older(now)

    def _open(self, day: str) -> int:
        path = self._folder / f"{self._stem}-{day}.jsonl"
        try:
            return os.open(path, _FLAGS, 0o600)
        except FileNotFoundError:
            os.makedirs(self._folder, 0o700, exist_ok=True)
            return os.open(path, _FLAGS, 0o600)

    def _remove_older(self, now: int) -> None:
        oldest = time_text(now - self._keep_days * _DAY_NS)[:10]
        ours = re.compile(re.escape(self._stem) + r"-(\d{4}-\d\d-\d\d)\.jsonl")
        for name in os.listdir(self._folder):
            found = ours.fullmatch(name)
            if found is not None and found[1] < oldest:
                os.unlink(self._folder / name)


def name_fields(key: str, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> dict[str, str]:
    """A file name for JSON, without loss: as text, and as ``KEY_base64``, the true bytes, where it is no UTF-8."""
    raw = os.fsencode(path)
    try:
        return {key: raw.decode()}
    except UnicodeDecodeError:
        return {key: raw.decode("utf-8", "replace"), f"{key}_base64": base64.b64encode(raw).decode()}
