"""Restore from a vault that gives its files one by one (a mirror): plan each item when it is reached, and do it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from holdfast.files.entry import Entry
from holdfast.files.metadata import apply_metadata
from holdfast.files.small import LARGEST
from holdfast.files.sparse import write_at, write_sparse
from holdfast.files.target import Target
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Corrupt, HoldfastError, NoSpace, NotFound, Unavailable
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.sources.directory import open_file
from holdfast.vaults.base import Outcome, Overwrite, Problem, RestoreOptions, RestoreSummary, SnapshotInfo
from holdfast.vaults.batches import Batches
from holdfast.vaults.items import Item
from holdfast.vaults.marker import folders_around
from holdfast.vaults.overwriting import verdict
from holdfast.vaults.plainqueue import Queue, Readable
from holdfast.vaults.selection import Selection
from holdfast.vaults.witness import Witness

TICK_SECONDS = 0.1


def restore(
    vault: Readable,
    snapshot: SnapshotInfo,
    options: RestoreOptions,
    *,
    own: bytes,
    clock: Clock,
    emit: Emit,
    cancel: Cancel,
) -> RestoreSummary:
    """Write a snapshot, or what is at ``options.path`` in it, below the target; return what was done.

    The same promises as an archive's restore: content is verified before a file gets its name, metadata are complete
    then, nothing is written outside of the target, and the vault's own folder (``own``) is never deleted. What cannot
    be restored is a problem and stops nothing else. Raises ``NotFound``, ``NoSpace``, ``Unavailable``, ``Denied``,
    ``Cancelled``. A crash leaves at most a file named ``.holdfast-tmp-`` and more.
    """
    return _Restore(vault, snapshot, options, own, clock, emit, cancel).run()


class _Restore:
    """One restore. Paths are relative to the target."""

    def __init__(
        self,
        vault: Readable,
        snapshot: SnapshotInfo,
        options: RestoreOptions,
        own: bytes,
        clock: Clock,
        emit: Emit,
        cancel: Cancel,
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._next_tick = 0.0
        self._snapshot = snapshot
        self._options = options
        self._emit = emit
        self._cancel = cancel
        self._root = b"/" if options.in_place else options.target
        self._summary = RestoreSummary(snapshot=snapshot.id)
        self._keep = folders_around(own)
        self._saved = {os.fsencode(path).strip(b"/") for path in snapshot.paths}
        self._links: dict[tuple[int, int, object], bytes] = {}
        self._folders: list[tuple[bytes, Item]] = []
        self._target: Target | None = None
        self._witness = None if options.proving is None else Witness(options.proving, options.path.rstrip(b"/"))
        self._queue: Queue | None = None
        # What is to be read back is written where that can be done at once.
        self._in_one_call = not options.verify and self._witness is None

    def run(self) -> RestoreSummary:
        """Do it."""
        began = self._clock.monotonic()
        options, summary = self._options, self._summary
        top = self._vault.find(self._snapshot, options.path)
        if not options.dry_run or os.path.isdir(self._root):
            self._target = Target(self._root, replace=True)
        try:
            self._restore(top)
            for path, folder in reversed(self._folders):
                self._tried(folder, path, self._finish)
        finally:
            if self._target is not None:
                self._target.close()
        summary.actions.sort(key=lambda action: action[1])
        if self._witness is not None:
            summary.proven = self._witness.take()
        summary.outcome = Outcome.PARTIAL if summary.problems else Outcome.OK
        summary.seconds = self._clock.monotonic() - began
        return summary

    def _restore(self, top: Item) -> None:
        if self._target is None or self._options.dry_run:
            self._walk(top)
            return
        with Batches(self._options.owner) as batches:
            self._queue = Queue(
                self._vault, self._target, batches, self._options.owner, done=self._copied,
                slowly=lambda item, path: self._tried(item, path, self._single),
            )  # fmt: skip
            self._walk(top)
            self._queue.finish()

    # -- what there is to do ---------------------------------------------------------------------------------------

    def _walk(self, top: Item) -> None:
        options = self._options
        selection = None
        if options.include is not None or options.exclude is not None:
            named = b"/" + options.path.strip(b"/")
            include = options.include.root(named) if options.include is not None else None
            exclude = options.exclude.root(named) if options.exclude is not None else None
            selection = Selection(include, exclude)
        base = top.path.strip(b"/")
        start = base if options.in_place else b""
        if top.kind != "dir":
            self._tried(top, start if options.in_place else top.name, self._item)
            return
        if base:
            self._note_folder(start, top, wanted=selection is None)
        pending: list[Iterator[tuple[bytes, Item, Selection | None]]] = [iter(self._inside(top, start, selection))]
        while pending:
            found = next(pending[-1], None)
            if found is None:
                pending.pop()
                continue
            self._cancel.check()
            path, item, inner = found
            if item.kind == "dir":
                pending.append(iter(self._inside(item, path, inner)))
            else:
                self._tried(item, path, self._item)

    def _inside(
        self, folder: Item, path: bytes, selection: Selection | None
    ) -> list[tuple[bytes, Item, Selection | None]]:
        """What is wanted of a folder; and what is in the target that the snapshot does not hold goes away."""
        try:
            children = self._vault.children(folder)
        except Corrupt as error:
            self._problem(folder.path, error.message, damage=True)
            return []
        found = []
        for child in children:
            is_dir = child.kind == "dir"
            wanted, inner = (True, None) if selection is None else selection.child(child.name, is_dir)
            place = path + b"/" + child.name if path else child.name
            if is_dir and (wanted or inner is not None):
                if self._note_folder(place, child, wanted=wanted):
                    found.append((place, child, inner))
            elif wanted and child.kind != "socket":
                found.append((place, child, None))
        if self._options.delete and self._is_saved(folder):
            self._delete(path, {child.name for child in children}, selection)
        return found

    def _is_saved(self, folder: Item) -> bool:
        """Whether the backup saw all of this folder: those above its sources it only passed through."""
        path = folder.path.strip(b"/")
        return any(not saved or path == saved or path.startswith(saved + b"/") for saved in self._saved)

    def _note_folder(self, path: bytes, item: Item, *, wanted: bool) -> bool:
        """A folder on the way; False where it cannot be one. Without ``wanted`` it is made when something in it is."""
        found = self._target.stat(path) if self._target is not None and path else None
        there = not path or (found is not None and stat.S_ISDIR(found.st_mode))
        never = self._options.overwrite == Overwrite.NEVER
        if found is not None and not there and never:
            self._problem(item.path, "something else than a folder has its name in the target")
            return False
        if there and (never or (self._options.in_place and not self._is_saved(item))):
            return True
        if not there and self._options.dry_run and wanted:
            self._act("folder", path)
        if not wanted and not there:
            self._folders.append((path, item))  # gets its metadata if it is made
            return True
        if not self._options.dry_run and self._target is not None:
            try:
                self._target.directory(path)
            except (NoSpace, Unavailable):
                raise
            except HoldfastError as error:
                self._problem(item.path, error.message)
                return False
        if wanted:
            self._summary.dirs += 1
            self._folders.append((path, item))
        return True

    def _delete(self, path: bytes, known: set[bytes], selection: Selection | None) -> None:
        if self._target is None:
            return
        try:
            if (self._target.stat(path) if path else os.stat(self._root)) is None:
                return
            names = sorted(map(os.fsencode, os.listdir(os.path.join(self._root, path))))
        except (OSError, HoldfastError):
            return
        for name in names:
            place = path + b"/" + name if path else name
            found = None if name in known else self._target.stat(place)
            if found is None:
                continue
            if selection is not None and not selection.child(name, stat.S_ISDIR(found.st_mode))[0]:
                continue
            if (found.st_dev, found.st_ino) in self._keep:
                self._emit(Fact("item.warning", "not deleted, because the vault is in it", "warning", {"path": place}))
                continue
            if self._options.dry_run:
                self._act("delete", place)
            else:
                try:
                    self._target.remove(place)
                except HoldfastError as error:
                    self._problem(place, error.message)
                    continue
            self._summary.files_deleted += 1

    # -- one item --------------------------------------------------------------------------------------------------

    def _tried(self, item: Item, path: bytes, act: object) -> None:
        try:
            act(item, path)  # type: ignore[operator]
        except (NoSpace, Unavailable):
            raise
        except Corrupt as error:
            self._problem(item.path, error.message, damage=True)
        except (HoldfastError, NotFound) as error:
            self._problem(item.path, error.message)

    def _item(self, item: Item, path: bytes) -> None:
        options, summary = self._options, self._summary
        found = self._target.stat(path) if self._target is not None else None
        if found is not None and not self._is_to_write(item, found):
            summary.files_skipped += 1
            if options.dry_run:
                self._act("keep", path)
            return
        if options.dry_run:
            self._act("restore" if found is None else "replace", path)
            self._count(item)
            return
        assert self._target is not None
        if found is not None and stat.S_ISDIR(found.st_mode):
            if (found.st_dev, found.st_ino) in self._keep:
                self._problem(item.path, "the vault is in the folder that has its name")
                return
            if options.delete:
                self._target.remove(path)
        elif item.kind == "file" and self._in_one_call and self._queue is not None and self._queue.put(item, path):
            return
        self._single(item, path)

    def _single(self, item: Item, path: bytes) -> None:
        if item.kind == "file":
            self._file(item, item.entry, path)
        else:
            self._other(item, item.entry, path)
        self._count(item)

    def _copied(self, item: Item) -> None:
        self._summary.bytes_read += item.size
        self._count(item)

    def _is_to_write(self, item: Item, found: os.stat_result) -> bool:
        overwrite = self._options.overwrite
        if stat.S_ISDIR(found.st_mode):
            return overwrite != Overwrite.NEVER
        return verdict(overwrite, found, item.entry.st_mode, item.mtime_ns, item.size) == "write"

    def _count(self, item: Item) -> None:
        summary = self._summary
        if item.kind == "file":
            summary.files_restored += 1
            summary.bytes_restored += item.size
            now = self._clock.monotonic()
            if now >= self._next_tick:
                self._next_tick = now + TICK_SECONDS
                current = os.fsdecode(item.path)
                self._emit(Tick("restore", summary.files_restored, summary.bytes_restored, current=current))
        elif item.kind == "symlink":
            summary.links += 1
        else:
            summary.others += 1

    def _file(self, item: Item, entry: Entry, path: bytes) -> None:
        assert self._target is not None
        key = (entry.st_dev, entry.st_ino, item.mark)
        if entry.st_nlink > 1:
            first = self._links.get(key)
            if first is not None and self._target.hardlink(path, first):
                return
        if self._witness is not None or not self._file_at_once(item, entry, path):
            self._file_in_pieces(item, entry, path)
        if entry.st_nlink > 1:
            self._links.setdefault(key, path)
        if self._options.verify:
            self._verify(item, path)

    def _file_at_once(self, item: Item, entry: Entry, path: bytes) -> bool:
        """Whether this is a small, ordinary file, which is there then."""
        if item.size > LARGEST or entry.xattrs:
            return False
        assert self._target is not None
        data = self._vault.whole(item)
        done = self._target.put_small(
            path, data, st_mode=entry.st_mode, uid=entry.st_uid, gid=entry.st_gid, mtime_ns=entry.st_mtime_ns,
            atime_ns=entry.st_atime_ns, owner=self._options.owner,
        )  # fmt: skip
        self._summary.bytes_read += len(data) if done else 0
        return done

    def _file_in_pieces(self, item: Item, entry: Entry, path: bytes) -> None:
        assert self._target is not None
        with self._target.create_file(path, 0) as handle:
            at = 0
            for piece in self._vault.content(item):
                self._cancel.check()
                if self._options.sparse:
                    write_sparse(handle.fd, at, piece)
                else:
                    write_at(handle.fd, at, piece)
                if self._witness is not None:
                    os.ftruncate(handle.fd, at + len(piece))
                    self._witness.part(handle.fd, path, at, piece, item.size, item.mtime_ns)
                at += len(piece)
            os.ftruncate(handle.fd, at)
            self._summary.bytes_read += at
            problems = self._metadata(handle.fd, None, entry)
            handle.commit()
        if self._witness is not None:
            self._witness.finished(path, item.size, item.mtime_ns)
        for why in problems:
            self._problem(item.path, why)

    def _other(self, item: Item, entry: Entry, path: bytes) -> None:
        assert self._target is not None
        if item.kind == "symlink":
            self._target.symlink(path, entry.linktarget or b"")
        elif item.kind == "fifo":
            self._target.mkfifo(path)
        elif item.kind in ("dev", "chardev"):
            self._target.mknod(path, entry.st_mode, entry.st_rdev)
        else:
            self._problem(item.path, f"nothing of the type {item.kind!r} can be restored")
            return
        above, _, name = path.rpartition(b"/")
        for why in self._metadata(self._target.directory(above), name, entry):
            self._problem(item.path, why)

    def _metadata(self, directory: int, name: bytes | None, entry: Entry) -> list[str]:
        return apply_metadata(
            directory, name, kind=entry.kind, st_mode=entry.st_mode, uid=entry.st_uid, gid=entry.st_gid,
            mtime_ns=entry.st_mtime_ns, atime_ns=entry.st_atime_ns,
            xattrs=entry.xattrs if entry.kind in ("file", "dir") else None, owner=self._options.owner,
        )  # fmt: skip

    def _verify(self, item: Item, path: bytes) -> None:
        with suppress(OSError):
            fd = open_file(os.path.join(self._root, path))
            try:
                if self._vault.holds(item, lambda count: os.read(fd, count)):
                    return
            finally:
                os.close(fd)
        self._problem(item.path, "reading it back gave other bytes than were written")

    def _finish(self, item: Item, path: bytes) -> None:
        """The metadata of a folder, when all in it is done."""
        if self._options.dry_run or self._target is None or (path and not self._target.exists(path)):
            return
        for why in self._metadata(self._target.directory(path), None, item.entry):
            self._problem(item.path, why)

    # -- telling ---------------------------------------------------------------------------------------------------

    def _act(self, verb: str, path: bytes) -> None:
        self._summary.actions.append((verb, os.path.join(self._root, path)))

    def _problem(self, path: bytes, why: str, *, damage: bool = False) -> None:
        self._summary.problems.append(Problem(path, why, "restore"))
        kind = "damage.found" if damage else "item.failed"
        self._emit(Fact(kind, why, "error", {"path": path, "why": why}))
