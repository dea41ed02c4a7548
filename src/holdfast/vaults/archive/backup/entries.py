"""What is in one directory becomes nodes: files are read into blobs, unchanged ones keep the node that they had."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from holdfast.files.names import Names
from holdfast.files.xattrs import read_xattrs
from holdfast.format.chunker import MIN_SIZE
from holdfast.format.node import NodeWriter, Stat
from holdfast.kernel.ids import BlobId
from holdfast.sources.directory import LONG_PATH, Item, Listing, open_file, reachable, read_small
from holdfast.sources.records import pack
from holdfast.vaults.archive.backup.content import APART, APART_LATE, ContentReader
from holdfast.vaults.archive.backup.databases import Databases, may_be_database
from holdfast.vaults.archive.backup.frames import Frame
from holdfast.vaults.archive.backup.job import Job
from holdfast.vaults.archive.backup.old import OldNode, OldNodes, OldTrees
from holdfast.vaults.archive.backup.store import BlobStore
from holdfast.vaults.archive.backup.tasks import BigFile, Report
from holdfast.vaults.archive.backup.waiting import Read, Waiting
from holdfast.vaults.beside import ENCRYPTED, Beside

BYTES_PER_TASK = 24 << 20  # once so much was read for one task, smaller files get tasks of their own as well

CHANGED_KIND = "is not what it was a moment ago; the next backup will see what it has become"
KIND = 0o170000
FILE, DIRECTORY, _LINK = 0o100000, 0o040000, 0o120000
_SPECIAL = frozenset((0o060000, 0o020000, 0o010000))


class Entries:
    """Saves the entries of directories for one process. ``report`` takes what there is to tell; ``ticket`` gives the
    numbers of big files; ``complete`` is called for a frame whose last hole a file has filled."""

    def __init__(
        self,
        job: Job,
        store: BlobStore,
        reader: ContentReader,
        ticket: Callable[[], int],
        complete: Callable[[Frame], None],
    ) -> None:
        self._job = job
        self._store = store
        self._reader = reader
        self._ticket = ticket
        self._complete = complete
        self.names = Names()
        self.nodes = NodeWriter(job.offset_at)
        self.old_trees = OldTrees(store.read_tree, self.nodes, self.names, store.has, trusted=bool(job.memo))
        self._databases = Databases(reader, self.old_trees, self.nodes, self.names, job.cancel, self.tell)
        self._waiting = Waiting()
        self.report = Report()
        self.bytes = 0
        """How much was read since somebody set this to 0."""

    def beside(self, listing: Listing, fd: int) -> Beside | None:
        """The databases of a directory that have companions, if databases are looked for."""
        return Beside(listing.items, fd) if self._job.sqlite else None

    def keep_known(self, listing: Listing, path: bytes, beside: Beside | None) -> None:
        """Everything in the directory ``path`` is as it was: count its files."""
        left_out = beside.left_out if beside else ()
        for name, st in listing.items:
            if st.st_mode & KIND == FILE and not (left_out and name in left_out):
                self._keep(st.st_size, path, name)

    def keep_surveyed(self, files: int, size: int) -> None:
        """The same, for what is known of them together: how many there are, and their bytes."""
        self.report.counts.files_unmodified += files
        self.report.counts.total_bytes += size

    def save_items(self, frame: Frame, listing: Listing, fd: int, path: bytes, old: BlobId | None) -> None:
        """Save what is in the directory ``path``, open as ``fd``; ``old`` is its tree in the parent snapshot."""
        old_nodes = self.old_trees.nodes(old)
        parts, path = frame.parts, path if path != b"/" else b""
        cancel = self._job.cancel
        beside = self.beside(listing, fd)
        for name in beside.encrypted if beside else ():
            self.tell("warning", path + b"/" + name, ENCRYPTED)
        settled = None if self._job.force else self.old_trees.settled(old_nodes, listing.items)
        for item, node in zip(listing.items, settled or [None] * len(listing.items), strict=True):
            if beside and item.name in beside.left_out:
                continue
            kind = item.stat.st_mode & KIND
            part: bytes | None
            try:
                if kind == FILE:
                    if node is not None and not (beside and item.name in beside.databases):
                        self._keep(item.stat.st_size, path, item.name)
                        part = node
                    else:
                        again = listing.at_ns is not None
                        part = self._save_file(frame, fd, item, path, old_nodes, beside, again=again)
                    if cancel.requested:
                        cancel.check()
                elif kind == DIRECTORY:
                    frame.subtrees.append((len(parts), None))
                    frame.missing += 1
                    part = self.directory_head(item.name, item.stat, reachable(path, item.name, fd))
                else:
                    part = self.save_other(item, reachable(path, item.name, fd), fd)
            except OSError as error:
                frame.memoize = False
                part = None
                self._failed_item(path + b"/" + item.name, error)
                if kind == DIRECTORY:  # its attributes could not be read; its content may still be
                    user, group = self.names.user(item.stat.st_uid), self.names.group(item.stat.st_gid)
                    part = self.nodes.directory_head(item.name, item.stat, user, group, ())
            parts.append(part)
            if self._waiting.enough:
                self.store_waiting()

    def _keep(self, size: int, folder: bytes, name: bytes) -> None:
        """Count a file that has not changed."""
        counts = self.report.counts
        counts.files_unmodified += 1
        counts.total_bytes += size
        if self._job.verbose:
            self.tell("unchanged", folder + b"/" + name, "")

    def directory_head(self, name: bytes, st: Stat, path: bytes) -> bytes:
        """The node of a directory up to its tree's id."""
        xattrs = read_xattrs(path)
        return self.nodes.directory_head(name, st, self.names.user(st.st_uid), self.names.group(st.st_gid), xattrs)

    def save_other(self, item: Item, path: bytes, dir_fd: int | None) -> bytes:
        """The node of a link, a device or a FIFO."""
        st = item.stat
        user, group = self.names.user(st.st_uid), self.names.group(st.st_gid)
        if st.st_mode & KIND == _LINK:
            target = os.readlink(item.name if dir_fd is not None else path, dir_fd=dir_fd)
            return self.nodes.symlink(item.name, st, user, group, read_xattrs(path), target)
        if st.st_mode & KIND not in _SPECIAL:
            raise OSError(errno.EINVAL, "is of a kind that cannot be saved")
        return self.nodes.special(item.name, st, user, group, read_xattrs(path))

    def save_file(self, item: Item, path: bytes, old_nodes: OldNodes) -> bytes | None:
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
        old_nodes: OldNodes,
        beside: Beside | None,
        *,
        whole: bool = False,
        again: bool = False,
    ) -> bytes | None:
        """The node of a file, or None where it is going to be filled in. ``again``: it was listed a while ago, so look
        before reading."""
        name, st = item
        counts = self.report.counts
        known = None
        if old_nodes:
            if self._job.force or (beside and name in beside.databases):
                known = old_nodes.find(name)
            else:
                path = folder + b"/" + name if dir_fd is None else reachable(folder, name, dir_fd)
                node, known = self.old_trees.unchanged(old_nodes, name, st, path)
                if node is not None:
                    self._keep(st.st_size, folder, name)
                    return node
        if again:
            item = self._as_it_is(frame, dir_fd, item)
            st = item.stat
        if beside is not None and may_be_database(st):
            saved = self._databases.save(frame, dir_fd, item, folder, old_nodes, beside, force=self._job.force)
            if saved is not None:
                self.bytes += saved.read
                self._count_file(saved.node, known, saved.size, folder, item)
                counts.databases += saved.read > 0
                return saved.node
        apart = APART if self.bytes < BYTES_PER_TASK else APART_LATE
        if st.st_size >= apart and self._job.share_files and not whole and len(folder) < LONG_PATH:
            file = self._ticket()
            frame.missing += 1
            self.report.big_files.append(
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
                self.bytes += len(data)
                return None
        fd = open_file(name if dir_fd is not None else folder + b"/" + name, dir_fd)
        try:
            content, size = self._reader.save(fd, st.st_size)
            read = Read(frame, 0, folder, item, known, os.fstat(fd), read_xattrs(fd))
        finally:
            os.close(fd)
        self.bytes += size
        return self._file_node(read, content, size)

    def _as_it_is(self, frame: Frame, dir_fd: int | None, item: Item) -> Item:
        """A file that an earlier backup listed, as it is now that it is going to be read."""
        name, st = item
        now = os.lstat(name, dir_fd=dir_fd)
        if now.st_mode & KIND != FILE:
            raise OSError(errno.ESTALE, CHANGED_KIND)
        if (now.st_ctime_ns, now.st_mtime_ns, now.st_size) != (st.st_ctime_ns, st.st_mtime_ns, st.st_size):
            frame.memoize = False  # the key of the listing says nothing of this
        return Item(name, now)

    def store_waiting(self) -> None:
        """Store the files that wait, and close their directories as far as they are complete."""
        waiting, contents = self._waiting.take()
        if not waiting:
            return
        ids = self._store.add_all(contents)
        packed = pack([read.item for read in waiting])
        made = [None] * len(ids) if packed is None else self.nodes.files(packed, ids, self.names.user, self.names.group)
        for read, data, identifier, node in zip(waiting, contents, ids, made, strict=True):
            if node is not None and read.is_as_listed and len(data) == read.item.stat.st_size:
                self._count_file(node, read.known, len(data), read.folder, read.item)
            else:
                node = self._slowly(read, identifier, len(data))
            frame = read.frame
            frame.fill_file(read.position, node)
            if frame.missing == 0:
                self._complete(frame)

    def _slowly(self, read: Read, identifier: BlobId, size: int) -> bytes | None:
        try:
            return self._file_node(read, (identifier,), size)
        except OSError as error:
            self._failed_item(read.path, error)
            return None

    def _file_node(self, read: Read, content: Sequence[BlobId], size: int) -> bytes:
        """The node of a file whose content is stored; counts it and tells what is worth telling."""
        frame, (name, st), known, after = read.frame, read.item, read.known, read.after
        if after.st_mtime_ns != st.st_mtime_ns or after.st_size != st.st_size or after.st_ino != st.st_ino:
            if after.st_mode & KIND != FILE:
                raise OSError(errno.ESTALE, CHANGED_KIND)
            frame.memoize = False
            self.tell("warning", read.path, "changed while it was being read; saved as it was read")
            st = after
        elif size != st.st_size:
            frame.memoize = False
            self.tell("warning", read.path, f"gave {size} bytes though its size is {st.st_size}")
        owner = self.names.user(st.st_uid), self.names.group(st.st_gid)
        node = self.nodes.file(name, st, *owner, read.xattrs, content, size)
        self._count_file(node, known, size, read.folder, Item(name, st))
        return node

    def _count_file(self, node: bytes, known: OldNode | None, size: int, folder: bytes, item: Item) -> None:
        counts = self.report.counts
        counts.total_bytes += size
        if known is None or not known.is_file:
            counts.files_new += 1
            kind, why = "new", ""
        elif node == known.raw:  # read again because that was asked for, and found to be the same
            counts.files_unmodified += 1
            kind, why = "unchanged", ""
        else:
            counts.files_changed += 1
            kind, why = "changed", self.old_trees.why_changed(known, item.stat) if self._job.verbose else ""
        if self._job.verbose:
            self.tell(kind, folder + b"/" + item.name, why)

    def _failed_item(self, path: bytes, error: OSError) -> None:
        if error.errno == errno.ENOENT:
            self.tell("warning", path, "vanished while the backup was running")
        elif error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENOTDIR):
            self.tell("failed", path, CHANGED_KIND)
        else:
            self.tell("failed", path, error.strerror or str(error))

    def drop_waiting(self) -> None:
        """After a cancel: what waits to be stored is not."""
        self._waiting.take()

    def tell(self, kind: str, path: bytes, why: str) -> None:
        """Note what happened to an item."""
        self.report.events.append((kind, path, why))
