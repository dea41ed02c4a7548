"""Bring a state back: current files by copying, former ones by undoing diffs, all of it verified by hashes."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from holdfast.files.metadata import apply_metadata
from holdfast.files.rules import Scope
from holdfast.files.safepath import translated
from holdfast.files.sparse import write_at, write_sparse
from holdfast.files.target import Target
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Corrupt, HoldfastError, Invalid, NoSpace
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.vaults.base import Outcome, Overwrite, Problem, RestoreOptions, RestoreSummary, SnapshotInfo
from holdfast.vaults.versioned.browser import SavedItem, VersionedBrowser
from holdfast.vaults.versioned.layout import Layout
from holdfast.vaults.versioned.model import Snapshot, Version
from holdfast.vaults.versioned.staging import hash_file


class _Selection(NamedTuple):
    """What of a folder is wanted. ``include`` None: everything from here on; ``exclude`` None: nothing is left out."""

    include: Scope | None
    exclude: Scope | None

    def child(self, name: bytes, is_dir: bool) -> tuple[bool, _Selection | None]:
        """Whether an entry is wanted, and for a folder what is wanted of it (None: do not enter)."""
        if self.exclude is not None and self.exclude.excludes(name, is_dir):
            return False, None
        wanted = self.include is None or self.include.excludes(name, is_dir)
        if not is_dir:
            return wanted, None
        inner = None if wanted or self.include is None else self.include.enter(name)
        return wanted, _Selection(inner, None if self.exclude is None else self.exclude.enter(name))


class _Visit(NamedTuple):
    item: SavedItem
    selection: _Selection
    wanted: bool


def restore(
    layout: Layout,
    browser: VersionedBrowser,
    snapshot: SnapshotInfo,
    options: RestoreOptions,
    *,
    clock: Clock,
    emit: Emit,
    cancel: Cancel,
) -> RestoreSummary:
    """Write a snapshot, or a part, to a disk. Raises ``NotFound`` for a path that it does not hold, ``Invalid`` for a
    target inside of the vault, ``NoSpace``, ``Cancelled``; single items that fail are problems. Files appear under
    their names only when they are complete and verified."""
    return _Restore(layout, browser, snapshot, options, clock, emit, cancel).run()


class _Restore:
    """One restore: what is being restored where, and what came of it."""

    def __init__(
        self,
        layout: Layout,
        browser: VersionedBrowser,
        snapshot: SnapshotInfo,
        options: RestoreOptions,
        clock: Clock,
        emit: Emit,
        cancel: Cancel,
    ) -> None:
        self._browser = browser
        self._options = options
        self._clock = clock
        self._emit = emit
        self._cancel = cancel
        self._state: Snapshot = browser.state(snapshot)
        self._top = browser.find(snapshot, options.path)
        self._summary = RestoreSummary(snapshot=snapshot.id)
        self._links: dict[tuple[int, int, bytes], bytes] = {}
        self._folders: list[tuple[bytes, Version]] = []
        root = b"/" if options.in_place else os.path.abspath(options.target)
        self._vault = os.path.realpath(layout.root)
        if not options.in_place and (os.path.realpath(root) + b"/").startswith(self._vault + b"/"):
            raise Invalid("The target is inside of the vault.", hint="Restore to a folder outside of it.")
        self._root = root
        base = b"" if options.in_place else self._top.path if self._top.kind == "dir" else self._top.folder
        self._base = base.rstrip(b"/")
        self._target: Target | None = None

    def run(self) -> RestoreSummary:
        began = self._clock.monotonic()
        summary, options = self._summary, self._options
        if not options.dry_run:
            self._target = Target(self._root, replace=True)
        try:
            scope = tuple(None if rules is None else rules.root(b"/") for rules in (options.include, options.exclude))
            selection = _Selection(*scope)
            for part in [part for part in self._base.split(b"/") if part]:
                selection = selection.child(part, True)[1] or selection
            if self._top.kind == "dir":
                if options.in_place and self._base_of_top and not options.dry_run:
                    self._folders.append((self._base_of_top, self._top.version))
                self._walk(_Visit(self._top, selection, True))
            else:
                self._one(self._top, self._there(self._relative(self._top.path)))
            for path, version in reversed(self._folders):
                self._finish_folder(path, version)
        finally:
            if self._target is not None:
                self._target.close()
        summary.outcome = Outcome.PARTIAL if summary.problems else Outcome.OK
        summary.seconds = self._clock.monotonic() - began
        return summary

    # -- finding out -----------------------------------------------------------------------------------------------

    def _walk(self, top: _Visit) -> None:
        stack = [top]
        while stack:
            self._cancel.check()
            visit = stack.pop()
            path = self._relative(visit.item.path)
            present = self._present(path)
            children = self._browser.children(visit.item)
            inner: list[_Visit] = []
            for child in children:
                is_dir = child.kind == "dir"
                wanted, selection = visit.selection.child(child.name, is_dir)
                if is_dir:
                    if selection is not None and self._folder(child, present.get(child.name), wanted):
                        inner.append(_Visit(child, selection, wanted))
                elif wanted:
                    self._one(child, present.get(child.name))
            if self._options.delete and self._state.saved(visit.item.path):
                self._delete(path, visit.selection, {child.name for child in children}, present)
            stack += reversed(inner)
            self._tick(visit.item.path)

    def _folder(self, item: SavedItem, found: os.stat_result | None, wanted: bool) -> bool:
        path = self._relative(item.path)
        there = found is not None and stat.S_ISDIR(found.st_mode)
        if found is not None and not there:
            if self._options.overwrite == Overwrite.NEVER:
                self._fail(item.path, "something else than a folder has its name in the target")
                return False
            if not self._options.dry_run:
                self._remove(path)
        kept = there and (
            self._options.overwrite == Overwrite.NEVER or (self._options.in_place and not self._state.saved(item.path))
        )
        if self._options.dry_run:
            self._summary.dirs += wanted
        elif wanted and not kept:
            self._folders.append((path, item.version))
        return True

    def _one(self, item: SavedItem, found: os.stat_result | None) -> None:
        """A file, link, device or pipe; ``found`` is what has its name in the target."""
        state = "write" if found is None else self._compare(item, found)
        path = self._relative(item.path)
        summary = self._summary
        if self._options.dry_run:
            verb = {"write": "restore" if found is None else "replace", "same": "metadata", "keep": "keep"}[state]
            summary.actions.append((verb, path))
        if state in ("keep", "same"):
            summary.files_skipped += 1
        if state == "keep":
            return
        try:
            if self._options.dry_run:
                self._count(item)
            elif state == "same":
                self._dress(path, item.version)
            else:
                if found is not None and stat.S_ISDIR(found.st_mode) and self._options.delete:
                    self._remove(path)
                self._write(item, path)
        except NoSpace:
            raise
        except HoldfastError as error:
            self._fail(item.path, error.message, damage=isinstance(error, Corrupt))

    def _compare(self, item: SavedItem, found: os.stat_result) -> str:
        overwrite, version = self._options.overwrite, item.version
        if overwrite == Overwrite.NEVER:
            return "keep"
        if stat.S_ISDIR(found.st_mode):
            return "write"  # an empty folder gives way, a full one is a problem unless things may be deleted
        if overwrite == Overwrite.IF_NEWER:
            return "write" if version.mtime > found.st_mtime_ns else "keep"
        same_kind = stat.S_IFMT(found.st_mode) == stat.S_IFMT(version.mode)
        if overwrite == Overwrite.IF_CHANGED and same_kind and version.mtime == found.st_mtime_ns:
            if version.is_file:
                return "same" if version.size == found.st_size else "write"
            return "keep"
        return "write"

    def _delete(
        self, folder: bytes, selection: _Selection, known: set[bytes], present: dict[bytes, os.stat_result]
    ) -> None:
        for name in sorted(present.keys() - known):
            if not selection.child(name, stat.S_ISDIR(present[name].st_mode))[0]:
                continue
            path = folder + b"/" + name if folder else name
            if (self._vault + b"/").startswith(os.path.join(self._root, path) + b"/"):
                continue  # the vault itself, or a folder around it
            if self._options.dry_run:
                self._summary.actions.append(("delete", path))
            elif not self._remove(path):
                continue
            self._summary.files_deleted += 1

    # -- doing -----------------------------------------------------------------------------------------------------

    def _write(self, item: SavedItem, path: bytes) -> None:
        target, version = self._to, item.version
        if version.is_file:
            key = (*version.identity, version.sha256)
            if version.links > 1 and key in self._links:
                target.hardlink(path, self._links[key])
                self._summary.links += 1
                return
            self._write_file(item, path)
            if version.links > 1:
                self._links[key] = path
            return
        if version.target is not None:
            target.symlink(path, version.target)
        elif stat.S_ISFIFO(version.mode):
            target.mkfifo(path)
        elif os.geteuid() != 0:
            raise Invalid("only root can make devices")
        else:
            target.mknod(path, version.mode, version.rdev)
        self._count(item)
        self._dress(path, version)

    def _write_file(self, item: SavedItem, path: bytes) -> None:
        version, summary = item.version, self._summary
        with self._to.create_file(path, version.size) as handle:
            at = 0
            try:
                for piece in self._browser.content(item):
                    self._cancel.check()
                    write = write_sparse if self._options.sparse else write_at
                    write(handle.fd, at, piece)
                    at += len(piece)
            except OSError as error:
                raise translated(error, "write", path) from error
            self._problems(item.path, self._apply(handle.fd, None, version))
            if self._options.verify:
                os.lseek(handle.fd, 0, os.SEEK_SET)
                if hash_file(handle.fd)[0] != version.sha256:
                    raise Corrupt("what was written reads back as something else", hint="Look at the target's disk.")
            handle.commit()
        self._count(item)
        summary.bytes_read += at

    def _dress(self, path: bytes, version: Version) -> None:
        above, _, name = path.rpartition(b"/")
        self._problems(path, self._apply(self._to.directory(above), name, version))

    def _apply(self, fd: int, name: bytes | None, version: Version) -> list[str]:
        kind = "dir" if version.is_dir else "file" if version.is_file else "symlink" if version.target else "fifo"
        return apply_metadata(
            fd, name, kind=kind, st_mode=version.mode, uid=version.uid, gid=version.gid, mtime_ns=version.mtime,
            atime_ns=version.mtime, xattrs=version.xattrs, owner=self._options.owner,
        )  # fmt: skip

    def _finish_folder(self, path: bytes, version: Version) -> None:
        try:
            self._problems(path, self._apply(self._to.directory(path), None, version))
            self._summary.dirs += 1
        except HoldfastError as error:
            self._fail(path, error.message)

    def _remove(self, path: bytes) -> bool:
        try:
            self._to.remove(path)
        except HoldfastError as error:
            self._fail(path, error.message)
            return False
        return True

    @property
    def _base_of_top(self) -> bytes:
        return self._top.path[1:] if self._state.saved(self._top.path) else b""

    # -- small things ----------------------------------------------------------------------------------------------

    @property
    def _to(self) -> Target:
        assert self._target is not None, "a dry run writes nothing"
        return self._target

    def _relative(self, path: bytes) -> bytes:
        """Where a path of the snapshot is below the root of the restore."""
        return path[len(self._base) + 1 :]

    def _present(self, path: bytes) -> dict[bytes, os.stat_result]:
        try:
            with os.scandir(os.path.join(self._root, path) if path else self._root) as found:
                return {os.fsencode(entry.name): entry.stat(follow_symlinks=False) for entry in found}
        except OSError:
            return {}

    def _there(self, path: bytes) -> os.stat_result | None:
        try:
            return os.lstat(os.path.join(self._root, path))
        except OSError:
            return None

    def _count(self, item: SavedItem) -> None:
        if item.version.is_file:
            self._summary.files_restored += 1
            self._summary.bytes_restored += item.size
        elif item.version.target is not None:
            self._summary.links += 1
        else:
            self._summary.others += 1

    def _problems(self, path: bytes, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            self._fail(path, sentence)

    def _fail(self, path: bytes, why: str, *, damage: bool = False) -> None:
        self._summary.problems.append(Problem(path, why, "restore"))
        kind = "damage.found" if damage else "item.failed"
        self._emit(Fact(kind, why, "error", {"path": path, "why": why}))

    def _tick(self, path: bytes) -> None:
        summary = self._summary
        self._emit(
            Tick("restore", summary.files_restored, summary.bytes_restored, current=os.fsdecode(path),
                 errors=len(summary.problems))
        )  # fmt: skip
