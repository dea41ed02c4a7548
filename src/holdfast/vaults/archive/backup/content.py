"""Read files into blobs: small ones with one call, large ones cut by the chunker, huge ones by several processes."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator

from holdfast.format.chunker import MAX_SIZE, MIN_SIZE, Chunker
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.ids import BlobId
from holdfast.sources.base import Source
from holdfast.sources.directory import open_file
from holdfast.vaults.archive.backup.store import BlobStore
from holdfast.vaults.archive.backup.tasks import CutDone, Ranges, Stored, Stream, Whole

APART = 8 << 20  # from this size on, a file is a task of its own ...
APART_LATE = 256 << 10  # ... or from this size on, once its directory has given one task enough to read
BIG_FILE = 256 << 20  # from this size on, several processes share a file, which is then read twice
RANGE_BYTES = 24 << 20
_BUFFER = MAX_SIZE + (1 << 20)


class ContentReader:
    """Turns file content into blobs through one buffer that is never given back."""

    def __init__(self, store: BlobStore, chunker: Chunker, cancel: Cancel) -> None:
        self._store = store
        self._chunker = chunker
        self._cancel = cancel
        self._memory = mmap.mmap(-1, _BUFFER)  # untouched pages cost nothing: small files never touch most of it
        with contextlib.suppress(AttributeError, OSError):  # not every system has them
            self._memory.madvise(mmap.MADV_HUGEPAGE)  # reading, cutting and hashing takes 4 % less
        self._view = memoryview(self._memory)

    def save(self, fd: int, size: int) -> tuple[list[BlobId], int]:
        """Store all of an open file; returns its blobs in order and the bytes that were read.

        ``size`` is what ``stat`` said: asking for one byte more tells in a single call whether the file has grown.
        """
        view = self._view
        if size < MIN_SIZE:
            count = os.readv(fd, [view[: size + 1]])
            if count == size:
                return ([self._store.add_data(view[:count])], count) if count else ([], 0)
        else:
            count = 0
        return self._save_chunks(fd, count)

    def _save_chunks(self, fd: int, have: int) -> tuple[list[BlobId], int]:
        ids: list[BlobId] = []
        total = 0
        for offset, lengths in self._chunks(fd, have):
            pieces: list[memoryview] = []
            for length in lengths:
                pieces.append(self._view[offset : offset + length])
                offset += length
            total += sum(lengths)
            ids += self._store.add_all(pieces)
        return ids, total

    def save_blocks(self, fd: int, block: int) -> tuple[list[BlobId], int]:
        """Store all of an open file in blocks of one size."""
        ids: list[BlobId] = []
        view = self._view[: MAX_SIZE // block * block]
        total = 0
        while True:
            self._cancel.check()
            have = 0
            while have < len(view) and (count := os.readv(fd, [view[have:]])):
                have += count
            ids += self._store.add_all([view[at : min(at + block, have)] for at in range(0, have, block)])
            total += have
            if have < len(view):
                return ids, total

    def save_stream(self, task: Stream, source: Source) -> Iterator[Stored | CutDone]:
        """Store what a source streams. Where it does not end well, nothing of it gets into the snapshot."""
        try:
            with source.open(task.entry, self._cancel) as stream:
                ids, size = self._save_chunks(stream.fd, 0)
                stream.finish()
        except HoldfastError as error:
            yield CutDone(task.file, 0, 0, f"{error.message} {error.hint}".strip(), False)
            return
        yield Stored(task.file, 0, ids, size)
        yield CutDone(task.file, 1, size, "", False)

    def _chunks(self, fd: int, have: int = 0) -> Iterator[tuple[int, list[int]]]:
        """Fill the buffer again and again; yields (offset in the buffer, chunk lengths from there)."""
        view, cuts = self._view, self._chunker.cuts
        ended = False
        left = have
        while not ended:
            self._cancel.check()
            while have < _BUFFER:
                count = os.readv(fd, [view[have:]])
                if count == 0:
                    ended = True
                    break
                have += count
            lengths = cuts(view[:have], final=ended, scanned=min(left, have))
            yield 0, lengths
            used = sum(lengths)
            left = have - used
            if left and used:
                view[:left] = view[used:have]  # may overlap
            have = left

    def cut(self, file: int, path: bytes) -> Iterator[Ranges | CutDone]:
        """Find the boundaries of a big file, a range at a time, so that other processes store what is known already."""
        number = size = 0
        start, pending = 0, []
        try:
            fd = open_file(path)
        except OSError as error:
            yield CutDone(file, 0, 0, error.strerror or str(error), False)
            return
        try:
            before = os.fstat(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            for _, lengths in self._chunks(fd):
                for length in lengths:
                    pending.append(length)
                    size += length
                    if size - start >= RANGE_BYTES:
                        yield Ranges(file, number, path, start, tuple(pending))
                        number, start, pending = number + 1, size, []
            if pending:
                yield Ranges(file, number, path, start, tuple(pending))
                number += 1
            after = os.fstat(fd)
            changed = (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size)
            yield CutDone(file, number, size, "", changed)
        except OSError as error:
            yield CutDone(file, number, size, error.strerror or str(error), True)
        finally:
            os.close(fd)

    def save_whole(self, task: Whole) -> Iterator[Stored | CutDone]:
        """Store a file that was handed out on its own."""
        try:
            fd = open_file(task.path)
        except OSError as error:
            yield CutDone(task.file, 0, 0, error.strerror or str(error), False)
            return
        try:
            before = os.fstat(fd)
            ids, size = self.save(fd, task.size)
            after = os.fstat(fd)
        except OSError as error:
            yield CutDone(task.file, 0, 0, error.strerror or str(error), True)
            return
        finally:
            os.close(fd)
        changed = (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size)
        yield Stored(task.file, 0, ids, size)
        yield CutDone(task.file, 1, size, "", changed)

    def save_ranges(self, task: Ranges) -> Stored:
        """Read one range again and store its blobs. A file that shrank meanwhile yields fewer bytes: ``size`` tells."""
        ids: list[BlobId] = []
        offset = task.offset
        try:
            fd = open_file(task.path)
        except OSError:
            return Stored(task.file, task.number, [], 0)
        try:
            for length in task.lengths:
                self._cancel.check()
                view = self._view[:length]
                count = 0
                while count < length and (got := os.preadv(fd, [view[count:]], offset + count)):
                    count += got
                if count:
                    ids.append(self._store.add_data(view[:count]))
                offset += count
                if count < length:
                    break
        except OSError:
            return Stored(task.file, task.number, ids, offset - task.offset)
        finally:
            os.close(fd)
        return Stored(task.file, task.number, ids, offset - task.offset)
