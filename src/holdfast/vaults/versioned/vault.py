"""A versioned vault: the current tree as plain files, and the history of every file beside it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence

from holdfast.files.entry import Entry
from holdfast.files.safepath import translated
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import Corrupt, Invalid
from holdfast.kernel.events import Emit, Fact, ignore
from holdfast.kernel.heap import paused_collection
from holdfast.vaults.base import (
    BackupOptions,
    BackupSummary,
    CheckOptions,
    CheckReport,
    RestoreOptions,
    RestoreSummary,
    SnapshotInfo,
)
from holdfast.vaults.items import walk
from holdfast.vaults.versioned.browser import VersionedBrowser
from holdfast.vaults.versioned.index import Index, discard, rebuild, translating
from holdfast.vaults.versioned.journal import is_clean, recover
from holdfast.vaults.versioned.layout import KIND, Layout, create, open_layout
from holdfast.vaults.versioned.lock import locked
from holdfast.vaults.versioned.prune import PruneSummary


class VersionedVault:
    """The vault in a folder of this machine (``Vault`` protocol).

    ``patience``: seconds to wait for the lock. Every method takes the lock for itself, and finishes first what a
    killed run left undone. ``open`` and ``create`` raise what :mod:`.layout` says; methods raise ``Locked``.
    """

    kind = KIND

    def __init__(
        self, layout: Layout, *, clock: Clock | None = None, patience: float = 0.0, no_lock: bool = False
    ) -> None:
        self.layout = layout
        self.root = layout.root
        self.location = os.fsdecode(layout.root)
        self._clock = clock or SystemClock()
        self._patience = patience
        self._no_lock = no_lock

    @classmethod
    def open(
        cls, root: bytes, *, clock: Clock | None = None, patience: float = 0.0, no_lock: bool = False
    ) -> VersionedVault:
        """The existing vault in the folder ``root``. ``no_lock``: readers take none."""
        return cls(open_layout(root), clock=clock, patience=patience, no_lock=no_lock)

    @classmethod
    def create(cls, root: bytes, identifier: bytes, *, clock: Clock | None = None) -> VersionedVault:
        """A new vault in a folder that is missing or empty; ``identifier``: 32 random bytes."""
        return cls(create(root, identifier), clock=clock)

    def backup(self, options: BackupOptions, *, emit: Emit, cancel: Cancel) -> BackupSummary:
        """Bring the vault up to date; see :mod:`.backup`. A dry run changes nothing and needs only to read."""
        from holdfast.vaults.versioned.backup import backup

        if options.dry_run:
            with self._index(cancel, mend=False) as index:
                return backup(self.layout, index, options, clock=self._clock, emit=emit, cancel=cancel)
        with self._writing(emit, cancel) as index, paused_collection():
            return backup(self.layout, index, options, clock=self._clock, emit=emit, cancel=cancel)

    def snapshots(self, emit: Emit | None = None) -> Sequence[SnapshotInfo]:
        """All snapshots, oldest first. (A damaged manifest raises ``Corrupt``: there is nothing to pass over.)"""
        with self._index() as index:
            return [snapshot.describe() for snapshot in index.snapshots()]

    def entries(self, snapshot: SnapshotInfo, path: bytes = b"") -> Iterator[Entry]:
        """``path`` (unless it is the root) and everything beneath, depth first, in byte order of names."""
        with self.reading() as browser:
            top = browser.find(snapshot, path)
            if top.path != b"/":
                yield top.entry
            for item in walk(browser, top):
                yield item.entry

    def read(self, snapshot: SnapshotInfo, path: bytes) -> Iterator[bytes]:
        """The content of one file, piece by piece; ``Corrupt`` at its end where its hash is another."""
        with self.reading() as browser:
            yield from browser.content(browser.find(snapshot, path))

    def restore(self, snapshot: SnapshotInfo, options: RestoreOptions, *, emit: Emit, cancel: Cancel) -> RestoreSummary:
        """Write a snapshot, or part of it, to a disk. Raises ``Invalid`` for a target inside of the vault."""
        from holdfast.vaults.plainrestore import restore

        own = os.path.realpath(self.root) + b"/"
        if not options.in_place and (os.path.realpath(options.target) + b"/").startswith(own):
            raise Invalid("The target is inside of the vault.", hint="Restore to a folder outside of it.")
        with self.reading(cancel) as browser:
            return restore(browser, snapshot, options, own=self.root, clock=self._clock, emit=emit, cancel=cancel)

    def check(self, options: CheckOptions, *, emit: Emit, cancel: Cancel) -> CheckReport:
        """Look for damage; see :mod:`.check`. ``options.rebuild`` makes the index anew first."""
        from holdfast.vaults.versioned.check import check

        if options.read_data is not None and (options.read_data.part or options.read_data.percent):
            raise Invalid("a versioned vault is always read whole", hint="Leave out what you gave with --read-data.")
        if options.rebuild:
            with self._lock(exclusive=True, cancel=cancel):
                discard(self.layout)
            with self._writing(emit, cancel):
                pass
        with contextlib.suppress(Corrupt), self._index(cancel):
            pass  # a step that waits to be carried out is no damage; a damaged manifest is found below
        with self._lock(exclusive=False, cancel=cancel):
            return check(self.layout, options, clock=self._clock, emit=emit, cancel=cancel)

    def forget(
        self, snapshots: Collection[bytes], *, dry_run: bool = False, emit: Emit, cancel: Cancel
    ) -> PruneSummary:
        """Forget the snapshots with these ids and the history that only they needed; see :mod:`.prune`."""
        from holdfast.vaults.versioned.prune import forget

        if dry_run:
            with self._index(cancel, mend=False) as index:
                return forget(self.layout, index, snapshots, dry_run=True, emit=emit, cancel=cancel)
        with self._writing(emit, cancel) as index:
            return forget(self.layout, index, snapshots, emit=emit, cancel=cancel)

    @contextlib.contextmanager
    def reading(self, cancel: Cancel | None = None) -> Iterator[VersionedBrowser]:
        """Hold the lock for reading, and look into the vault meanwhile."""
        with self._index(cancel) as index:
            yield VersionedBrowser(self.layout, index)

    @contextlib.contextmanager
    def _index(self, cancel: Cancel | None = None, *, mend: bool = True) -> Iterator[Index]:
        """The index, under a shared lock. With ``mend``, and where we may write, what a killed run left is finished
        first; else the state is taken from the manifest as it is."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(translating(self.layout))
            lock = stack.enter_context(contextlib.ExitStack())
            lock.enter_context(self._lock(exclusive=False, cancel=cancel))
            if is_clean(self.layout):
                index = Index.open(self.layout, write=False)
            elif mend and not self._no_lock and os.access(self.layout.folder, os.W_OK):
                lock.pop_all().close()
                with self._writing(ignore, cancel):
                    pass
                stack.enter_context(self._lock(exclusive=False, cancel=cancel))
                index = Index.open(self.layout, write=False)
            else:
                index = Index.in_memory()
                try:
                    rebuild(self.layout, index)
                except OSError as error:
                    raise translated(error, "read the vault", self.root) from error
            stack.callback(index.close)
            yield index

    @contextlib.contextmanager
    def _writing(self, emit: Emit, cancel: Cancel | None) -> Iterator[Index]:
        def tell(kind: str, path: bytes, why: str) -> None:
            emit(Fact(f"item.{kind}", why, "warning", {"path": path, "why": why}))

        with translating(self.layout), self._lock(exclusive=True, cancel=cancel):
            index = recover(self.layout, tell)
            try:
                yield index
            finally:
                index.close()

    def _lock(self, *, exclusive: bool, cancel: Cancel | None) -> contextlib.AbstractContextManager[None]:
        if self._no_lock and not exclusive:
            return contextlib.nullcontext()
        return locked(self.layout, exclusive=exclusive, clock=self._clock, patience=self._patience, cancel=cancel)
