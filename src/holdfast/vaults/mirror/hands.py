"""Copies of many files by several threads, or processes: batches of one directory's files, each answered as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from holdfast.files.small import copy_listed, copy_small, has_extension, to_copy
from holdfast.format.accelerated import hashes_here
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.threads import Workers
from holdfast.sources.directory import Item, open_directory
from holdfast.sources.records import pack, unpack
from holdfast.vaults.mirror.frames import Frame
from holdfast.vaults.mirror.here import Here
from holdfast.vaults.mirror.records import stamp, unstamp
from holdfast.vaults.mirror.writing import SMALL, SourceError, Writer

if TYPE_CHECKING:
    from holdfast.kernel.pool import Pool

COPIES_ALONE = 100
"""Files that are copied before workers are forked for the rest: that takes as long as copying about so many."""

THREADS_FROM = 16
"""The same where it is threads that copy."""

FILES, BYTES = 64, 8 << 20
"""How much goes into one batch."""

MOST_WAITING = 64
"""Batches that may wait for their turn: directories stay in memory until theirs are answered."""


class Batch(NamedTuple):
    """Files to copy: the directory on both sides, and (name, stamp as it was listed). ``packed``: also those whose
    records (``sources.records``) are in it; the mirror has nothing of their names, and nobody waits for each."""

    ticket: int
    path: bytes
    here: bytes
    files: tuple[tuple[bytes, bytes], ...] = ()
    packed: bytes = b""


def batches(frame: Frame) -> Iterator[Batch]:
    """What of a directory's files others are to copy, in batches."""
    files: list[tuple[bytes, bytes]] = []
    size = 0
    for name, deferred in frame.deferred.items():
        files.append((name, deferred.listed))
        size += deferred.size
        if len(files) >= FILES or size >= BYTES:
            yield Batch(frame.ticket, frame.path, frame.here, tuple(files))
            files, size = [], 0
    if files:
        yield Batch(frame.ticket, frame.path, frame.here, tuple(files))


def new_batches(frame: Frame, items: list[Item]) -> Iterator[Batch] | None:
    """Batches of files up to ``SMALL`` that are new to the mirror. None where no record can hold them."""
    packed = [pack(items[first : first + FILES]) for first in range(0, len(items), FILES)]
    if None in packed:
        return None
    return (Batch(frame.ticket, frame.path, frame.here, packed=one) for one in packed if one is not None)


class Copied(NamedTuple):
    """One file: its record and length, or why there is none (the source's refusal, or the mirror's)."""

    name: bytes
    record: tuple[bytes, bytes] | None
    size: int = 0
    unreadable: OSError | None = None
    refused: HoldfastError | None = None


class Answer(NamedTuple):
    """What came of a batch. ``complete``: every file was as it was listed. ``warnings``: path, sentence, and whether
    it is to be told once. ``done``: beside ``files`` the records of those in ``packed`` that are done, and ``size``
    their bytes."""

    ticket: int
    files: list[Copied]
    complete: bool
    warnings: list[tuple[bytes, str, bool]]
    done: dict[bytes, tuple[bytes, bytes]]
    size: int


class Warnings:
    """What a worker's entries tell."""

    def __init__(self) -> None:
        self.told: list[tuple[bytes, str, bool]] = []

    def warning(self, path: bytes, why: str, *, once: bool = False) -> None:
        """Keep it for the parent."""
        if len(self.told) < 100:
            self.told.append((path, why, once))


class Hands:
    """The workers: threads where the extension copies whole batches without the interpreter, else processes.

    Nothing is started before the first batch; call :meth:`close` or :meth:`stop` at the end."""

    def __init__(self, root: bytes, *, protect: bool, size: int) -> None:
        self.size = size
        self.waiting = 0
        self._pool: Pool[Batch, Answer] | None = None
        self._start: Callable[[], Callable[[Batch], Iterable[Answer]]] = lambda: _Hand(root, protect=protect).answers
        self._threads: Workers[Batch, Answer] | None = None
        self._open: list[_Hand] = []

        def start() -> Callable[[Batch], Answer]:
            hand = _Hand(root, protect=protect, at_once=True)
            self._open.append(hand)
            return hand.copy

        if size and has_extension() and hashes_here():
            self._threads = Workers(start, size)

    @property
    def threaded(self) -> bool:
        """Whether the workers are threads."""
        return self._threads is not None

    @property
    def worth_from(self) -> int:
        """So many files are copied before it is worth to start the workers."""
        return THREADS_FROM if self.threaded else COPIES_ALONE

    def submit(self, batch: Batch) -> None:
        """Give a batch to the workers."""
        self.waiting += 1
        if self._threads is not None:
            self._threads.submit(batch)
            return
        if self._pool is None:
            from holdfast.kernel.pool import Pool  # 3 ms that threads do not need

            self._pool = Pool(self._start, self.size)
        self._pool.submit(batch)
        self._pool.begin()

    def answers(self, *, wait: bool) -> Iterator[Answer]:
        """Those that are there; with ``wait`` at least one, if anything is under way. Raises ``Internal``."""
        if self._threads is not None:
            for done in self._threads.take(wait=wait):
                self.waiting -= 1
                yield done
        if self._pool is None or not self.waiting:
            return
        got = False
        for answer in self._pool.results(idle=0.0 if not wait else 0.1):
            if answer is not None:
                self.waiting -= 1
                got = True
                yield answer
                if wait:
                    return
            elif got or not wait:
                return

    def stop(self) -> None:
        """Let the workers finish what they have begun, and no more."""
        if self._threads is not None:
            self._threads.forget_waiting()
        if self._pool is not None:
            self._pool.forget_waiting()
            for _ in self._pool.results():
                pass
        self.close()

    def close(self, *, at_once: bool = False) -> None:
        """End the workers. ``at_once``: in the middle of what processes do; threads finish what they have begun."""
        if self._threads is not None:
            self._threads.close()
            while self._open:
                self._open.pop().close()
        if self._pool is not None:
            self._pool.close(at_once=at_once)
            self._pool = None


class _Hand:
    """One worker: it writes files, and knows nothing of state and order. Each thread has one of its own."""

    def __init__(self, root: bytes, *, protect: bool, at_once: bool = False) -> None:
        """``at_once``: the small files of a batch in one call."""
        self._at_once = at_once
        self._here = Here(root, protect=protect)
        self._warnings = Warnings()
        self._writer = Writer(self._here, self._warnings)

    def close(self) -> None:
        """Close what was opened for it."""
        self._here.close()

    def answers(self, batch: Batch) -> Iterator[Answer]:
        """As a worker process does it."""
        yield self.copy(batch)

    def copy(self, batch: Batch) -> Answer:
        """Copy the files of one batch."""
        frame = Frame(batch.path, batch.here, None)  # type: ignore[arg-type]
        files: list[Copied] = []
        done: dict[bytes, tuple[bytes, bytes]] = {}
        size = 0
        try:
            fd = open_directory(batch.path)
        except OSError as error:
            names = (*(name for name, _ in batch.files), *(name for name, _ in unpack(batch.packed)))
            files = [Copied(name, None, unreadable=error) for name in names]
        else:
            try:
                if batch.packed:
                    done, size, left = self._copy_new(fd, batch)
                    files += self._one_by_one(frame, fd, left)
                files += self._copy_all(frame, fd, batch)
            finally:
                os.close(fd)
        told, self._warnings.told = self._warnings.told, []
        return Answer(batch.ticket, files, frame.complete, told, done, size)

    def _copy_new(
        self, fd: int, batch: Batch
    ) -> tuple[dict[bytes, tuple[bytes, bytes]], int, list[tuple[bytes, bytes]]]:
        """Copy what is new: records by name, bytes, and what is left to be done as name and stamp."""
        here = self._here
        try:
            done, size = copy_listed(
                fd, here.writable(batch.here), batch.packed, temporary=here.temporary(), mask=here.mask
            )
        except HoldfastError:
            done, size = {}, 0  # one by one they tell what is wrong
        if len(done) == FILES:
            return done, size, []
        return done, size, [(name, stamp(st)) for name, st in unpack(batch.packed) if name not in done]

    def _copy_all(self, frame: Frame, fd: int, batch: Batch) -> list[Copied]:
        at_once = self._copy_at_once(fd, batch) if self._at_once and batch.files else {}
        files = [Copied(name, (listed, at_once[name][0]), at_once[name][1]) for name, listed in batch.files
                 if name in at_once]  # fmt: skip
        return files + self._one_by_one(frame, fd, [file for file in batch.files if file[0] not in at_once])

    def _one_by_one(self, frame: Frame, fd: int, files: Iterable[tuple[bytes, bytes]]) -> list[Copied]:
        copied: list[Copied] = []
        for name, listed in files:
            try:
                written = self._writer.write(frame, fd, Item(name, unstamp(listed)), None)
                copied.append(Copied(name, (written.source, written.hash), written.size))
            except SourceError as problem:
                copied.append(Copied(name, None, unreadable=problem.error))
            except HoldfastError as error:
                copied.append(Copied(name, None, refused=error))
        return copied

    def _copy_at_once(self, fd: int, batch: Batch) -> dict[bytes, tuple[bytes, int]]:
        """Copy the small and ordinary files that are as they were listed; hash and length of each that is done."""
        here, wanted = self._here, []
        owner = True if os.geteuid() == 0 else None  # asked once, not for each file
        for name, data in batch.files:
            listed = unstamp(data)
            if listed.st_size > SMALL:
                continue
            file = to_copy(
                name, here.temporary(), name, size=listed.st_size, st_mode=listed.st_mode & ~here.mask,
                uid=listed.st_uid, gid=listed.st_gid, mtime_ns=listed.st_mtime_ns, atime_ns=listed.st_mtime_ns,
                ctime_ns=listed.st_ctime_ns, inode=listed.st_ino, owner=owner,
            )  # fmt: skip
            if file is not None:
                wanted.append(file)
        try:
            found = copy_small(fd, here.writable(batch.here), wanted) if wanted else []
        except HoldfastError:
            return {}  # one by one they tell what is wrong
        return {file[2]: (result[0], file[4]) for file, result in zip(wanted, found, strict=True) if result is not None}
