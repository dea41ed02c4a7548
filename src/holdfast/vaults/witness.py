"""Stands beside whoever writes files, reads them back, and compares them with the vault and with their originals."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from holdfast.files.entry import LAST_NS
from holdfast.kernel.native import native as _native
from holdfast.sources.directory import open_file
from holdfast.sources.sqlite import MAGIC
from holdfast.vaults.proven import Proven, Proving

OTHER, SAME, ORIGINAL_CHANGED, ORIGINAL_SAME, ORIGINAL_DIFFERS = range(5)

Compare = Callable[[int, int, bytes, bytes | None, int, int], int]
"""``(fd, at, data, path, size, mtime_ns)``: whether the file holds ``data`` there (and ends with it, if ``at`` and
``data`` reach to ``size``): ``OTHER``, or ``SAME`` without a path; else how the original at ``path`` stands to it.
Raises ``OSError`` of the file, not of the original."""

_STEP = 256 << 10  # what fits into the cache of a core
_LEAST_SQLITE = 512
_READ_BACK = "reading it back gives other bytes than the vault holds"
_ALTERED = "the original has the size and time of the snapshot, but other bytes"


class Witness:
    """One process's. Content that it is given was verified against the vault's hash; it is compared with what the file
    system gives back for it, so that every byte that was read back is the one that the hash is of.

    The data have just been written, so it is rather the file system than the disk that answers.
    """

    def __init__(self, proving: Proving, base: bytes = b"", compare: Compare | None = None) -> None:
        """``base``: the path in the snapshot that the root of the target stands for; empty for the root."""
        self._prefixes = tuple(proving.prefixes)
        self._exact = proving.exact
        self._made = proving.made_ns
        self._base = base + b"/"
        self._compare = compare or fastest()
        self._seen = Proven()

    def take(self) -> Proven:
        """What was proven since the last call."""
        seen, self._seen = self._seen, Proven()
        return seen

    def whole(self, fd: int, place: bytes, data: bytes, mtime_ns: int) -> None:
        """A file that holds ``data`` was written to ``fd``. ``place`` is its path in the target. Raises ``OSError``."""
        size, path = len(data), self._base + place
        sqlite = data.startswith(MAGIC) and size >= _LEAST_SQLITE
        wanted = not sqlite and self._has_original(path, mtime_ns)
        found = self._compare(fd, 0, data, path if wanted else None, size, mtime_ns if wanted else 0)
        seen = self._seen
        if found == OTHER:
            seen.findings.append(("file.differs", path, _READ_BACK))
            return
        seen.files += 1
        seen.size += size
        if sqlite:
            seen.sqlite.append(path)
        elif found == ORIGINAL_SAME:
            seen.originals += 1
            seen.original_size += size
        elif found == ORIGINAL_CHANGED:
            seen.changed += 1
        elif found == ORIGINAL_DIFFERS:
            self._differs(path)

    def part(self, fd: int, place: bytes, at: int, data: bytes, size: int, mtime_ns: int) -> None:
        """``data`` was written at ``at`` of a file of ``size`` bytes, whose other parts others may write."""
        path = self._base + place
        sqlite = not at and data.startswith(MAGIC)
        wanted = not sqlite and self._has_original(path, mtime_ns)
        found = self._compare(fd, at, data, path if wanted else None, size, mtime_ns if wanted else 0)
        seen = self._seen
        if found == OTHER:
            seen.findings.append(("file.differs", path, _READ_BACK))
            return
        seen.size += len(data)
        if sqlite:
            seen.sqlite.append(path)
        elif found == ORIGINAL_SAME:
            seen.original_size += len(data)
        elif found == ORIGINAL_DIFFERS:
            self._differs(path)

    def finished(self, place: bytes, size: int, mtime_ns: int) -> None:
        """All parts of a file are written and were shown to somebody's witness."""
        seen, path = self._seen, self._base + place
        seen.files += 1
        if self._has_original(path, mtime_ns):
            original = _unchanged(path, size, mtime_ns)
            if original < 0:
                seen.changed += 1
            else:
                seen.originals += os.pread(original, len(MAGIC), 0) != MAGIC
                os.close(original)

    def _has_original(self, path: bytes, mtime_ns: int) -> bool:
        """Whether there may be one; with a time that 64 bits cannot count to it is not looked for."""
        return (path.startswith(self._prefixes) or path in self._exact) and abs(mtime_ns) <= LAST_NS

    def _differs(self, path: bytes) -> None:
        """The original has other bytes. Of a live database the vault holds a copy as of one instant, so that may be.

        Whoever changes content changes the inode's own time, whatever he does to the other one: only where that is
        older than the snapshot have the disk or the backup altered something.
        """
        try:
            original = open_file(path)
            try:
                live = os.pread(original, len(MAGIC), 0) == MAGIC
                rotten = not live and os.fstat(original).st_ctime_ns < self._made
            finally:
                os.close(original)
        except OSError:
            live = rotten = False
        if rotten:
            self._seen.findings.append(("original.differs", path, _ALTERED))
        elif not live:
            self._seen.changed += 1


def fastest() -> Compare:
    """The extension's function where it is there: it spares half of the time of a small file."""
    native: Compare | None = getattr(_native, "compare", None)
    return native or compare


def compare(fd: int, at: int, data: bytes, path: bytes | None, size: int, mtime_ns: int) -> int:
    """See :data:`Compare`."""
    if not _holds(fd, at, data) or (at + len(data) == size and os.pread(fd, 1, size)):
        return OTHER
    if path is None:
        return SAME
    original = _unchanged(path, size, mtime_ns)
    if original < 0:
        return ORIGINAL_CHANGED
    try:
        return ORIGINAL_SAME if _holds(original, at, data) else ORIGINAL_DIFFERS
    except OSError:
        return ORIGINAL_CHANGED
    finally:
        os.close(original)


def _unchanged(path: bytes, size: int, mtime_ns: int) -> int:
    """A descriptor of the file at its source, if it is as it was; else -1."""
    try:
        st = os.lstat(path)
        if st.st_size != size or st.st_mtime_ns != mtime_ns or not stat.S_ISREG(st.st_mode):
            return -1
        return open_file(path)
    except (OSError, ValueError):
        return -1


def _holds(fd: int, at: int, data: bytes) -> bool:
    view, done = memoryview(data), 0
    while done < len(view):
        piece = os.pread(fd, min(_STEP, len(view) - done), at + done)
        if not piece or piece != view[done : done + len(piece)]:
            return False
        done += len(piece)
    return True
