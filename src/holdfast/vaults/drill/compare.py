"""Read back what was restored, and compare every byte: its hash with the vault's, and with the unchanged original."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from hashlib import sha256

from holdfast.format.accelerated import sha256_each
from holdfast.kernel.cancel import Cancel
from holdfast.sources.sqlite import MAGIC
from holdfast.vaults.drill.listing import FILE, LINK, Row, rows_of
from holdfast.vaults.drill.model import Compared

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BUFFER = 4 << 20  # pieces of files are hashed two at a time; most fit in here several times
_STEP = 256 << 10  # what fits into the cache of a core
_AGAIN = "the original has the size and time of the snapshot, but other bytes"


class Comparer:
    """Compares batches in one process; made after the fork, because it holds a buffer."""

    def __init__(self, root: bytes, made_ns: int, cancel: Cancel) -> None:
        """``made_ns``: when the snapshot was made. An original whose inode changed since may be another one."""
        self._root = root
        self._made = made_ns
        self._cancel = cancel
        self._buffer = memoryview(bytearray(_BUFFER))
        self._other = memoryview(bytearray(_STEP))
        self._held: list[tuple[memoryview, bytes, bytes]] = []
        self._used = 0
        self._done = Compared()

    def answers(self, batch: bytes) -> Iterator[Compared]:
        """Compare one batch. After a cancel the rest of it is left out."""
        self._done = Compared()
        for row in rows_of(batch):
            if self._cancel.requested:
                return
            kind, path = row[:2]
            try:
                if kind == FILE:
                    self._file(row)
                elif kind == LINK:
                    self._done.links += 1
                    if os.readlink(self._root + path) != row[5]:
                        self._find("link.differs", path, "the restored link leads elsewhere")
                else:
                    self._done.folders += 1
                    if not stat.S_ISDIR(os.lstat(self._root + path).st_mode):
                        self._find("folder.missing", path, "it is no folder after the restore")
            except FileNotFoundError:
                self._find("file.missing", path, "it is not there after the restore")
            except OSError as error:
                self._find("file.unreadable", path, f"it cannot be read back: {error.strerror or error}")
        self._hash()
        yield self._done

    def _find(self, kind: str, path: bytes, why: str) -> None:
        self._done.findings.append((kind, path, why))

    def _file(self, row: Row) -> None:
        _, path, size, mtime, at, _, pieces, has_original = row
        done = self._done
        fd = os.open(self._root + path, _OPEN)
        try:
            st = os.fstat(fd)
            done.files += not at
            if not stat.S_ISREG(st.st_mode) or st.st_size != size:
                if not at:
                    self._find("file.size", path, f"it has {st.st_size:,} bytes in place of {size:,} after the restore")
                return
            if not at and size >= 512 and os.pread(fd, len(MAGIC), 0) == MAGIC:
                done.sqlite.append(path)
                has_original = False  # the vault holds a copy as of one instant, not the live file
            original = self._original(path, size, mtime) if has_original else -1
            try:
                if has_original and not at:
                    done.originals += original >= 0
                    done.changed += original < 0
                for digest, length in pieces:
                    self._piece(fd, at, digest, length, path, original)
                    at += length
            finally:
                if original >= 0:
                    os.close(original)
        finally:
            os.close(fd)

    def _original(self, path: bytes, size: int, mtime: int) -> int:
        """A descriptor of the file at its source, if it is still as it was; else -1."""
        try:
            st = os.lstat(path)
            if not stat.S_ISREG(st.st_mode) or st.st_size != size or st.st_mtime_ns != mtime:
                return -1
            return os.open(path, _OPEN)
        except OSError:
            return -1

    def _piece(self, fd: int, at: int, digest: bytes, length: int, path: bytes, original: int) -> None:
        self._done.size += length
        if length > _BUFFER:
            self._long_piece(fd, at, digest, length, path, original)
            return
        if self._used + length > _BUFFER:
            self._hash()
        view = self._buffer[self._used : self._used + length]
        read, same = 0, original >= 0
        while read < length:
            step = view[read : read + _STEP]
            count = os.preadv(fd, [step], at + read)
            if not count:
                break
            same = same and self._equal(original, at + read, step[:count])
            read += count
        self._count_original(original, length, path, same=same)
        self._held.append((view[:read], digest, path))
        self._used += length

    def _long_piece(self, fd: int, at: int, digest: bytes, length: int, path: bytes, original: int) -> None:
        self._hash()
        hashed, end, same = sha256(), at + length, original >= 0
        step = self._buffer[:_STEP]
        while at < end and (count := os.preadv(fd, [step[: end - at]], at)):
            if self._cancel.requested:
                return
            hashed.update(step[:count])
            same = same and self._equal(original, at, step[:count])
            at += count
        self._count_original(original, length, path, same=same)
        if hashed.digest() != digest:
            self._find("file.differs", path, "its bytes are not those that the vault holds")

    def _equal(self, original: int, at: int, expected: memoryview) -> bool:
        other = self._other[: len(expected)]
        return os.preadv(original, [other], at) == len(expected) and bool(other == expected)

    def _count_original(self, original: int, length: int, path: bytes, *, same: bool) -> None:
        if original < 0:
            return
        if same:
            self._done.original_size += length
            return
        self._differs(original, path)

    def _differs(self, original: int, path: bytes) -> None:
        """Other bytes under the same size and time. Whoever changes content changes the inode's own time: only where
        that is older than the snapshot has the disk, or the backup, altered them."""
        st = os.fstat(original)
        if st.st_ctime_ns < self._made:
            self._find("original.differs", path, _AGAIN)
        else:
            self._done.changed += 1

    def _hash(self) -> None:
        """Compare the hashes of all pieces in the buffer."""
        held, self._held, self._used = self._held, [], 0
        found = sha256_each([view for view, _, _ in held])
        for digest, (_, expected, path) in zip(found, held, strict=True):
            if digest != expected:
                self._find("file.differs", path, "its bytes are not those that the vault holds")
