"""One process's part of a backup: visit directories, save what is in them, and close the trees that are complete."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from holdfast.files.rules import Scope
from holdfast.format.chunker import Chunker
from holdfast.kernel.errors import Cancelled
from holdfast.kernel.ids import BlobId
from holdfast.sources.directory import Listing, Surveyed, open_directory, survey
from holdfast.sources.sqlite import COMPANIONS
from holdfast.vaults.archive.backup import frames
from holdfast.vaults.archive.backup.content import ContentReader
from holdfast.vaults.archive.backup.entries import BYTES_PER_TASK, DIRECTORY, KIND, Entries
from holdfast.vaults.archive.backup.frames import Frame
from holdfast.vaults.archive.backup.job import Job
from holdfast.vaults.archive.backup.store import BlobStore
from holdfast.vaults.archive.backup.tasks import (
    Answer,
    Cut,
    Finish,
    Finished,
    Ranges,
    Report,
    Stream,
    Task,
    Visit,
    Walk,
    Whole,
)

ENTRIES_PER_TASK = 1500  # after this many entries, or BYTES_PER_TASK, a worker hands back what it has not begun


class _Inside(NamedTuple):
    """A directory: its frame, the scope inside, its tree in the parent snapshot, its folders, how many entries."""

    frame: Frame
    scope: Scope
    old: BlobId | None
    folders: list[bytes]
    entries: int


class Saver:
    """Handles the tasks of one process. ``answers`` is what a pool worker calls."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.verbose = job.verbose
        self.store = BlobStore(job.repository, job.stored, dry_run=job.dry_run, spool_tag=job.spool_tag)
        self._reader = ContentReader(self.store, Chunker(job.repository.config.polynomial), job.cancel)
        self._tickets = itertools.count(os.getpid() << 40)
        self._frames: dict[int, Frame] = {}
        self.entries = Entries(job, self.store, self._reader, partial(next, self._tickets), self._complete)

    def answers(self, task: Task) -> Iterator[Answer]:
        """Do one task. After a cancel, what is stored so far is still reported, the rest is dropped."""
        try:
            if isinstance(task, Walk):
                yield self._walk(task.visits)
            elif isinstance(task, Finish):
                yield Finished(*self.store.leave())
            elif isinstance(task, Cut):
                yield from self._reader.cut(task.file, task.path)
            elif isinstance(task, Ranges):
                yield self._reader.save_ranges(task)
                yield self._hand_back([])
            elif isinstance(task, Whole):
                yield from self._reader.save_whole(task)
                yield self._hand_back([])
            elif isinstance(task, Stream):
                yield from self._reader.save_stream(task, self._job.sources[task.source])
                yield self._hand_back([])
        except Cancelled:
            self.entries.drop_waiting()  # the directory that was being read has no room for their nodes yet
            yield self._hand_back([])
        except BaseException:
            self.store.discard()
            raise

    # -- directories -----------------------------------------------------------------------------------------------

    def _walk(self, visits: list[Visit]) -> Report:
        stack = list(visits)
        count = self.entries.bytes = 0
        while stack and count < ENTRIES_PER_TASK and self.entries.bytes < BYTES_PER_TASK:
            self._job.cancel.check()
            count += 1 + self._visit(stack.pop(), stack)
        return self._hand_back(stack)

    def _hand_back(self, visits: list[Visit]) -> Report:
        self.entries.store_waiting()
        report, self.entries.report = self.entries.report, Report()
        report.frames = list(self._frames.values())
        self._frames.clear()
        report.visits = visits
        report.packs = self.store.take_packs()
        report.counts.add(self.store.counts)
        self.store.counts = type(report.counts)()
        return report

    def take_report(self) -> Report:
        """What has been counted outside of any task."""
        return self._hand_back([])

    def _visit(self, visit: Visit, stack: list[Visit]) -> int:
        """Save one directory's own files and push its subdirectories; returns how many entries it had."""
        self.entries.report.current = visit.path
        try:
            fd = open_directory(visit.path)
        except OSError as error:
            self._leave_out(visit, error)
            return 0
        try:
            ahead = self._job.ahead.pop(visit.path, None)
            seen = self._survey(fd) if ahead is None else None
            inside = (seen and self._known(visit, seen)) or self._listed(visit, fd, ahead, seen)
        except OSError as error:
            self._leave_out(visit, error)
            return 0
        finally:
            os.close(fd)
        frame = inside.frame
        self._frames[frame.ticket] = frame
        around = visit.path if visit.path != b"/" else b""
        stack += [
            Visit(frame.ticket, order, around + b"/" + name, name, inside.scope, inside.old and (inside.old, name))
            for order, name in reversed(list(enumerate(inside.folders)))
        ]
        if frame.missing == 0:
            self._close(frame)
        return inside.entries

    def _survey(self, fd: int) -> Surveyed | None:
        """What a directory holds, where that may be enough to know it again."""
        lister = self._job.lister
        return survey(fd, lister.salt) if self._job.memo and lister.may_take_all else None

    def _known(self, visit: Visit, seen: Surveyed) -> _Inside | None:
        """A directory of which all is saved and all is as the memo knows it; None: perhaps not."""
        known = self._job.memo.find(seen.key)
        if known is None or not self.store.has(known[1]):
            return None
        if self._job.sqlite and any(ending in seen.packed for ending in COMPANIONS):
            return None
        scope = self._job.lister.takes_all(visit.scope, visit.name, seen)
        if scope is None:
            return None
        folders = [name for name, _, _ in seen.folders]
        self.entries.keep_surveyed(seen.regular, seen.size)
        frame = self._frame(visit, seen.key, known)
        frame.expect(len(folders))
        return _Inside(frame, scope, known[1], folders, len(seen.files) + len(folders))

    def _listed(self, visit: Visit, fd: int, ahead: tuple[Scope, Listing] | None, seen: Surveyed | None) -> _Inside:
        """A directory as it is to be saved. Raises ``OSError``."""
        scope, listing = ahead or self._job.lister.look(fd, visit.scope, visit.name, visit.path, seen)
        self.entries.report.counts.excluded += listing.excluded
        for name, why in listing.reasons:
            self.entries.tell("excluded", visit.path + b"/" + name, why)
        folders = [name for name, st in listing.items if st.st_mode & KIND == DIRECTORY]
        known = self._job.memo.find(listing.key)
        if known is not None and self.store.has(known[1]):
            frame = self._frame(visit, listing.key, known)
            frame.expect(len(folders))
            self.entries.keep_known(listing, visit.path, self.entries.beside(listing, fd))
        else:
            frame = self._frame(visit, listing.key, None)
            self.entries.save_items(frame, listing, fd, visit.path, frame.old_tree)
        return _Inside(frame, scope, frame.old_tree, folders, len(listing.items))

    def _frame(self, visit: Visit, key: bytes, known: tuple[bytes, BlobId] | None) -> Frame:
        frame = Frame(next(self._tickets), visit.parent, visit.order, key)
        frame.known = known
        frame.old_tree = known[1] if known else self.entries.old_trees.resolve(visit.old)
        return frame

    def _leave_out(self, visit: Visit, error: OSError) -> None:
        """A directory that cannot be read is not in the snapshot; everything around it is."""
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            self.entries.tell("warning", visit.path, "vanished while the backup was running")
        else:
            self.entries.tell("failed", visit.path, error.strerror or str(error))
        self._fill(visit.parent, visit.order, None)

    def _complete(self, frame: Frame) -> None:
        """Its last file is stored. A frame that is not among ours yet is still being filled."""
        if frame.ticket in self._frames:
            self._close(frame)

    def _close(self, frame: Frame) -> None:
        """The frame has no holes left: make its tree, and go on with the frames around it as far as they are
        complete.
        """
        self._fill(frame.parent, frame.slot, self._closed(frame))

    def _closed(self, frame: Frame) -> BlobId:
        closed = frames.close(frame, self.store)
        report = self.entries.report
        if closed.memo is not None:
            report.memo += closed.memo
        frames.count_directory(report.counts, frame.old_tree, closed.tree)
        self._frames.pop(frame.ticket, None)
        return closed.tree

    def _fill(self, ticket: int, order: int, tree: BlobId | None) -> None:
        while (frame := self._frames.get(ticket)) is not None:
            frame.fill_subtree(order, tree)
            if frame.missing:
                return
            ticket, order, tree = frame.parent, frame.slot, self._closed(frame)
        self.entries.report.fills.append((ticket, order, tree))
