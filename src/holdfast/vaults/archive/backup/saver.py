"""One process's part of a backup: visit directories, save what is in them, and close the trees that are complete."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator, Sequence

from holdfast.files.names import Names
from holdfast.files.xattrs import read_xattrs
from holdfast.format.chunker import MIN_SIZE, Chunker
from holdfast.format.node import NodeWriter, Stat
from holdfast.kernel.errors import Cancelled
from holdfast.kernel.ids import BlobId
from holdfast.sources.directory import LONG_PATH, Item, Listing, open_directory, open_file, reachable, read_small
from holdfast.vaults.archive.backup import frames
from holdfast.vaults.archive.backup.content import APART, APART_LATE, ContentReader
from holdfast.vaults.archive.backup.databases import Databases, may_be_database
from holdfast.vaults.archive.backup.frames import Frame
from holdfast.vaults.archive.backup.job import Job
from holdfast.vaults.archive.backup.old import OldNode, OldTrees
from holdfast.vaults.archive.backup.store import BlobStore
from holdfast.vaults.archive.backup.tasks import (
    Answer,
    BigFile,
    Cut,
    Finish,
    Finished,
    OldTree,
    Ranges,
    Report,
    Stream,
    Task,
    Visit,
    Whole,
)
from holdfast.vaults.archive.backup.waiting import Read, Waiting
from holdfast.vaults.beside import ENCRYPTED, Beside

ENTRIES_PER_TASK = 1500  # after this many entries ...
BYTES_PER_TASK = 24 << 20  # ... or bytes read, a worker hands back the directories that it has not begun

CHANGED_KIND = "is not what it was a moment ago; the next backup will see what it has become"
_KIND = 0o170000
_FILE, _DIR, _LINK = 0o100000, 0o040000, 0o120000
_SPECIAL = frozenset((0o060000, 0o020000, 0o010000))


class Saver:
    """Handles the tasks of one process. ``answers`` is what a pool worker calls."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.verbose = job.verbose
        self.store = BlobStore(job.repository, job.stored, dry_run=job.dry_run, spool_tag=job.spool_tag)
        self._reader = ContentReader(self.store, Chunker(job.repository.config.polynomial), job.cancel)
        self.names = Names()
        self.nodes = NodeWriter(job.offset_at)
        self.old_trees = OldTrees(self.store.read_tree, self.nodes, self.names, self.store.has, trusted=bool(job.memo))
        self._databases = Databases(self._reader, self.old_trees, self.nodes, self.names, job.cancel, self._tell)
        self._tickets = itertools.count(os.getpid() << 40)
        self._report = Report()
        self._frames: dict[int, Frame] = {}
        self._bytes = 0
        self._waiting = Waiting()

    def answers(self, task: Task) -> Iterator[Answer]:
        """Do one task. After a cancel, what is stored so far is still reported, the rest is dropped."""
        try:
            if isinstance(task, Visit):
                yield self._walk(task)
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
            self._waiting.take()  # dropped: the directory that was being read has no room for its nodes yet
            yield self._hand_back([])
        except BaseException:
            self.store.discard()
            raise

    # -- directories -----------------------------------------------------------------------------------------------

    def _walk(self, first: Visit) -> Report:
        stack = [first]
        entries = 0
        self._bytes = 0
        while stack and entries < ENTRIES_PER_TASK and self._bytes < BYTES_PER_TASK:
            self._job.cancel.check()
            entries += 1 + self._visit(stack.pop(), stack)
        return self._hand_back(stack)

    def _hand_back(self, visits: list[Visit]) -> Report:
        self._store_waiting()
        report, self._report = self._report, Report()
        report.frames = list(self._frames.values())
        self._frames.clear()
        report.visits = visits
        report.packs = self.store.take_packs()
        report.counts.add(self.store.counts)
        self.store.counts = type(report.counts)()
        return report

    def _visit(self, visit: Visit, stack: list[Visit]) -> int:
        """Save one directory's own files and push its subdirectories; returns how many entries it had."""
        self._report.current = visit.path
        try:
            fd = open_directory(visit.path)
        except OSError as error:
            self._leave_out(visit, error)
            return 0
        try:
            ahead = self._job.ahead.pop(visit.path, None)
            scope, listing = ahead or self._job.lister.look(fd, visit.scope, visit.name, visit.path)
            self._report.counts.excluded += listing.excluded
            for name, why in listing.reasons:
                self._tell("excluded", visit.path + b"/" + name, why)
            frame = Frame(next(self._tickets), visit.parent, visit.order, listing.key)
            known = self._job.memo.find(listing.key)
            frame.known = known if known is not None and self.store.has(known[1]) else None
            old = visit.old
            if frame.known is not None:
                frame.old_tree = frame.known[1]
                self._keep_known(frame, listing, self._beside(listing, fd))
                old = frame.known[1]
            else:
                frame.old_tree = self.old_trees.resolve(old)
                old = frame.old_tree
                self._save_items(frame, listing, fd, visit, old)
            children: list[Visit] = []
            for item in listing.items:
                if item.stat.st_mode & _KIND == _DIR:
                    child_old: OldTree = None if old is None else (old, item.name)
                    order = len(children)
                    path = visit.path + b"/" + item.name if visit.path != b"/" else b"/" + item.name
                    children.append(Visit(frame.ticket, order, path, item.name, scope, child_old))
        except OSError as error:
            self._leave_out(visit, error)
            return 0
        finally:
            os.close(fd)
        self._frames[frame.ticket] = frame
        stack.extend(reversed(children))
        if frame.missing == 0:
            self._close(frame)
        return len(listing.items)

    def _leave_out(self, visit: Visit, error: OSError) -> None:
        """A directory that cannot be read is not in the snapshot; everything around it is."""
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            self._tell("warning", visit.path, "vanished while the backup was running")
        else:
            self._tell("failed", visit.path, error.strerror or str(error))
        self._fill(visit.parent, visit.order, None)

    def _beside(self, listing: Listing, fd: int) -> Beside | None:
        """The databases here that have companions, if databases are looked for."""
        return Beside(listing.items, fd) if self._job.sqlite else None

    def _keep_known(self, frame: Frame, listing: Listing, beside: Beside | None) -> None:
        """Everything here is as the memo knows it: count it, and wait for the subdirectories."""
        counts = self._report.counts
        left_out = beside.left_out if beside else ()
        for item in listing.items:
            kind = item.stat.st_mode & _KIND
            if kind == _DIR:
                frame.subtrees.append((0, None))
            elif kind == _FILE and not (left_out and item.name in left_out):
                counts.files_unmodified += 1
                counts.total_bytes += item.stat.st_size
                if self._job.verbose:
                    self._tell("unchanged", self._report.current + b"/" + item.name, "")
        frame.missing = len(frame.subtrees)

    def _close(self, frame: Frame) -> None:
        """The frame has no holes left: make its tree, and go on with the frames around it as far as they are
        complete.
        """
        self._fill(frame.parent, frame.slot, self._closed(frame))

    def _closed(self, frame: Frame) -> BlobId:
        closed = frames.close(frame, self.store)
        if closed.memo is not None:
            self._report.memo += closed.memo
        frames.count_directory(self._report.counts, frame.old_tree, closed.tree)
        self._frames.pop(frame.ticket, None)
        return closed.tree

    def _fill(self, ticket: int, order: int, tree: BlobId | None) -> None:
        while (frame := self._frames.get(ticket)) is not None:
            frame.fill_subtree(order, tree)
            if frame.missing:
                return
            ticket, order, tree = frame.parent, frame.slot, self._closed(frame)
        self._report.fills.append((ticket, order, tree))

    # -- entries ---------------------------------------------------------------------------------------------------

    def _save_items(self, frame: Frame, listing: Listing, fd: int, visit: Visit, old: BlobId | None) -> None:
        old_nodes = self.old_trees.nodes(old)
        parts, path = frame.parts, visit.path if visit.path != b"/" else b""
        cancel = self._job.cancel
        beside = self._beside(listing, fd)
        for name in beside.encrypted if beside else ():
            self._tell("warning", path + b"/" + name, ENCRYPTED)
        for item in listing.items:
            if beside and item.name in beside.left_out:
                continue
            kind = item.stat.st_mode & _KIND
            try:
                if kind == _FILE:
                    part = self._save_file(frame, fd, item, path, old_nodes, beside, again=listing.at_ns is not None)
                    if cancel.requested:
                        cancel.check()
                elif kind == _DIR:
                    frame.subtrees.append((len(parts), None))
                    frame.missing += 1
                    part = self.directory_head(item.name, item.stat, reachable(path, item.name, fd))
                else:
                    part = self.save_other(item, reachable(path, item.name, fd), fd)
            except OSError as error:
                frame.memoize = False
                part = None
                self._failed_item(path + b"/" + item.name, error)
                if kind == _DIR:  # its attributes could not be read; its content may still be
                    user, group = self.names.user(item.stat.st_uid), self.names.group(item.stat.st_gid)
                    part = self.nodes.directory_head(item.name, item.stat, user, group, ())
            parts.append(part)
            if self._waiting.enough:
                self._store_waiting()

    def directory_head(self, name: bytes, st: Stat, path: bytes) -> bytes:
        """The node of a directory up to its tree's id."""
        xattrs = read_xattrs(path)
        return self.nodes.directory_head(name, st, self.names.user(st.st_uid), self.names.group(st.st_gid), xattrs)

    def save_other(self, item: Item, path: bytes, dir_fd: int | None) -> bytes:
        """The node of a link, a device or a FIFO."""
        st = item.stat
        user, group = self.names.user(st.st_uid), self.names.group(st.st_gid)
        if st.st_mode & _KIND == _LINK:
            target = os.readlink(item.name if dir_fd is not None else path, dir_fd=dir_fd)
            return self.nodes.symlink(item.name, st, user, group, read_xattrs(path), target)
        if st.st_mode & _KIND not in _SPECIAL:
            raise OSError(errno.EINVAL, "is of a kind that cannot be saved")
        return self.nodes.special(item.name, st, user, group, read_xattrs(path))

    def save_file(self, item: Item, path: bytes, old_nodes: dict[bytes, OldNode]) -> bytes | None:
        """The node of a single file that the user named, without a directory around it."""
        frame = Frame(0, 0, 0, b"")
        beside = Beside.of_file(item, path) if self._job.sqlite else None
        return self._save_file(frame, None, item, path.rpartition(b"/")[0], old_nodes, beside, whole=True)

    def _save_file(
        self,
        frame: Frame,
        dir_fd: int | None,
        item: Item,
        folder: bytes,
        old_nodes: dict[bytes, OldNode],
        beside: Beside | None,
        *,
        whole: bool = False,
        again: bool = False,
    ) -> bytes | None:
        """The node of a file, or None where it is going to be filled in. ``again``: it was listed a while ago, so look
        before reading."""
        name, st = item
        counts = self._report.counts
        known = None
        if old_nodes:
            if self._job.force or (beside and name in beside.databases):
                known = self.old_trees.find(old_nodes, name)
            else:
                path = folder + b"/" + name if dir_fd is None else reachable(folder, name, dir_fd)
                node, known = self.old_trees.unchanged(old_nodes, name, st, path)
                if node is not None:
                    counts.files_unmodified += 1
                    counts.total_bytes += st.st_size
                    if self._job.verbose:
                        self._tell("unchanged", folder + b"/" + name, "")
                    return node
        if again:
            item = self._as_it_is(frame, dir_fd, item)
            st = item.stat
        if beside is not None and may_be_database(st):
            saved = self._databases.save(frame, dir_fd, item, folder, old_nodes, beside, force=self._job.force)
            if saved is not None:
                self._bytes += saved.read
                self._count_file(saved.node, known, saved.size, folder + b"/" + name, st)
                counts.databases += saved.read > 0
                return saved.node
        apart = APART if self._bytes < BYTES_PER_TASK else APART_LATE
        if st.st_size >= apart and self._job.share_files and not whole and len(folder) < LONG_PATH:
            file = next(self._tickets)
            frame.missing += 1
            self._report.big_files.append(
                BigFile(file, frame.ticket, len(frame.parts), folder + b"/" + name, name, st.st_size, known is not None)
            )
            return None
        if dir_fd is not None and st.st_size < MIN_SIZE:
            small = read_small(dir_fd, name, st.st_size)
            if small is not None:
                data, after, has_xattrs = small
                xattrs = read_xattrs(reachable(folder, name, dir_fd)) if has_xattrs else ()
                read = Read(frame, len(frame.parts), folder, item, known, after, xattrs)
                if not data:  # an empty file has no blobs
                    return self._file_node(read, (), 0)
                self._waiting.add(read, data)
                self._bytes += len(data)
                return None
        fd = open_file(name if dir_fd is not None else folder + b"/" + name, dir_fd)
        try:
            content, size = self._reader.save(fd, st.st_size)
            read = Read(frame, 0, folder, item, known, os.fstat(fd), read_xattrs(fd))
        finally:
            os.close(fd)
        self._bytes += size
        return self._file_node(read, content, size)

    def _as_it_is(self, frame: Frame, dir_fd: int | None, item: Item) -> Item:
        """A file that an earlier backup listed, as it is now that it is going to be read."""
        name, st = item
        now = os.lstat(name, dir_fd=dir_fd)
        if now.st_mode & _KIND != _FILE:
            raise OSError(errno.ESTALE, CHANGED_KIND)
        if (now.st_ctime_ns, now.st_mtime_ns, now.st_size) != (st.st_ctime_ns, st.st_mtime_ns, st.st_size):
            frame.memoize = False  # the key of the listing says nothing of this
        return Item(name, now)

    def _store_waiting(self) -> None:
        """Store the files that wait, and close their directories as far as they are complete."""
        waiting, contents = self._waiting.take()
        ids = self.store.add_all(contents)
        for read, data, identifier in zip(waiting, contents, ids, strict=True):
            try:
                node = self._file_node(read, (identifier,), len(data))
            except OSError as error:
                node = None
                self._failed_item(read.path, error)
            read.frame.fill_file(read.position, node)
            if read.frame.missing == 0 and read.frame.ticket in self._frames:
                self._close(read.frame)

    def _file_node(self, read: Read, content: Sequence[BlobId], size: int) -> bytes:
        """The node of a file whose content is stored; counts it and tells what is worth telling."""
        frame, (name, st), known, after = read.frame, read.item, read.known, read.after
        if after.st_mtime_ns != st.st_mtime_ns or after.st_size != st.st_size or after.st_ino != st.st_ino:
            if after.st_mode & _KIND != _FILE:
                raise OSError(errno.ESTALE, CHANGED_KIND)
            frame.memoize = False
            self._tell("warning", read.path, "changed while it was being read; saved as it was read")
            st = after
        elif size != st.st_size:
            frame.memoize = False
            self._tell("warning", read.path, f"gave {size} bytes though its size is {st.st_size}")
        owner = self.names.user(st.st_uid), self.names.group(st.st_gid)
        node = self.nodes.file(name, st, *owner, read.xattrs, content, size)
        self._count_file(node, known, size, read.path, st)
        return node

    def _count_file(self, node: bytes, known: OldNode | None, size: int, path: bytes, st: Stat) -> None:
        counts = self._report.counts
        counts.total_bytes += size
        if known is None or not known.is_file:
            counts.files_new += 1
            kind, why = "new", ""
        elif node == known.raw:  # read again because that was asked for, and found to be the same
            counts.files_unmodified += 1
            kind, why = "unchanged", ""
        else:
            counts.files_changed += 1
            kind, why = "changed", self.old_trees.why_changed(known, st) if self._job.verbose else ""
        if self._job.verbose:
            self._tell(kind, path, why)

    def _failed_item(self, path: bytes, error: OSError) -> None:
        if error.errno == errno.ENOENT:
            self._tell("warning", path, "vanished while the backup was running")
        elif error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENOTDIR):
            self._tell("failed", path, CHANGED_KIND)
        else:
            self._tell("failed", path, error.strerror or str(error))

    def _tell(self, kind: str, path: bytes, why: str) -> None:
        self._report.events.append((kind, path, why))

    def take_report(self) -> Report:
        """What has been counted outside of any task."""
        return self._hand_back([])
