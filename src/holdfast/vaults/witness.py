"""Stands beside whoever writes files, reads them back, and compares them with the vault and with their originals."""

from __future__ import annotations

import os
import stat

from holdfast.sources.sqlite import MAGIC
from holdfast.vaults.proven import Proven, Proving

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STEP = 256 << 10  # what fits into the cache of a core
_SMALL = 64 << 10  # up to here a new piece of memory is cheaper than two steps
_LEAST_SQLITE = 512
_OTHER = "reading it back gives other bytes than the vault holds"
_ALTERED = "the original has the size and time of the snapshot, but other bytes"


class Witness:
    """One process's. Content that it is given was verified against the vault's hash; it is compared with what the file
    system gives back for it, so that every byte that was read back is the one that the hash is of.

    The data have just been written, so it is rather the file system than the disk that answers.
    """

    def __init__(self, proving: Proving, base: bytes = b"") -> None:
        """``base``: the path in the snapshot that the root of the target stands for; empty for the root."""
        self._prefixes = tuple(proving.prefixes)
        self._exact = proving.exact
        self._made = proving.made_ns
        self._base = base + b"/"
        self._buffer = memoryview(bytearray(_STEP))
        self._seen = Proven()

    def take(self) -> Proven:
        """What was proven since the last call."""
        seen, self._seen = self._seen, Proven()
        return seen

    def whole(self, fd: int, place: bytes, data: bytes, mtime_ns: int) -> None:
        """A file that holds ``data`` was written to ``fd``. ``place`` is its path in the target. Raises ``OSError``."""
        seen, size, path = self._seen, len(data), self._base + place
        if not self._holds(fd, 0, data) or os.pread(fd, 1, size):
            seen.findings.append(("file.differs", path, _OTHER))
            return
        seen.files += 1
        seen.size += size
        if data.startswith(MAGIC) and size >= _LEAST_SQLITE:
            seen.sqlite.append(path)
        elif path.startswith(self._prefixes) or path in self._exact:
            original = self._original(path, size, mtime_ns)
            if original < 0:
                seen.changed += 1
                return
            try:
                if self._is_original(original, 0, data, path):
                    seen.originals += 1
            finally:
                os.close(original)

    def part(self, fd: int, place: bytes, at: int, data: bytes, size: int, mtime_ns: int) -> None:
        """``data`` was written at ``at`` of a file of ``size`` bytes, whose other parts others may write."""
        seen, path = self._seen, self._base + place
        if not self._holds(fd, at, data):
            seen.findings.append(("file.differs", path, _OTHER))
            return
        seen.size += len(data)
        if not at and data.startswith(MAGIC):
            seen.sqlite.append(path)
        if path.startswith(self._prefixes) or path in self._exact:
            original = self._original(path, size, mtime_ns)
            if original >= 0:
                try:
                    self._is_original(original, at, data, path)
                finally:
                    os.close(original)

    def finished(self, place: bytes, size: int, mtime_ns: int) -> None:
        """All parts of a file are written and were shown to somebody's witness."""
        seen, path = self._seen, self._base + place
        seen.files += 1
        if path.startswith(self._prefixes) or path in self._exact:
            original = self._original(path, size, mtime_ns)
            if original < 0:
                seen.changed += 1
            else:
                seen.originals += os.pread(original, len(MAGIC), 0) != MAGIC
                os.close(original)

    def _holds(self, fd: int, at: int, data: bytes) -> bool:
        """Whether the file gives back ``data`` at ``at``."""
        size = len(data)
        if size <= _SMALL:
            return os.pread(fd, size, at) == data
        view = memoryview(data)
        done = 0
        while done < size:
            step = self._buffer[: size - done]
            count = os.preadv(fd, [step], at + done)
            if not count or step[:count] != view[done : done + count]:
                return False
            done += count
        return True

    def _original(self, path: bytes, size: int, mtime_ns: int) -> int:
        """A descriptor of the file at its source, if it is as it was; else -1."""
        try:
            st = os.lstat(path)
            if st.st_size != size or st.st_mtime_ns != mtime_ns or not stat.S_ISREG(st.st_mode):
                return -1
            return os.open(path, _OPEN)
        except OSError:
            return -1

    def _is_original(self, original: int, at: int, data: bytes, path: bytes) -> bool:
        """Compare with the original. Of a live database the vault holds a copy as of one instant: it is passed over."""
        try:
            if self._holds(original, at, data):
                self._seen.original_size += len(data)
                return True
            if os.pread(original, len(MAGIC), 0) == MAGIC:
                return False
            # Whoever changes content changes the inode's own time, whatever he does to the other. Only where that
            # is older than the snapshot have the disk or the backup altered something.
            if os.fstat(original).st_ctime_ns < self._made:
                self._seen.findings.append(("original.differs", path, _ALTERED))
            else:
                self._seen.changed += 1
        except OSError:
            self._seen.changed += 1
        return False
