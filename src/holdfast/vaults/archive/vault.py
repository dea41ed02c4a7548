"""The ``Vault`` protocol over an open repository; one verb a file does the work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.files.entry import Entry
from holdfast.format.snapshot import Snapshot
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.events import Emit, Fact
from holdfast.kernel.ids import SnapshotId
from holdfast.repository import Repository
from holdfast.repository.locks import Lock
from holdfast.vaults.base import (
    BackupOptions,
    BackupSummary,
    CheckOptions,
    CheckReport,
    RestoreOptions,
    RestoreSummary,
    SnapshotInfo,
)  # fmt: skip

if TYPE_CHECKING:
    from holdfast.vaults.archive.backup.ahead import Ahead

_NOTE = "description"  # rustic's field; restic ignores it


class ArchiveVault:
    """An open archive vault. ``memo_folder`` is a local cache folder or None;
    ``no_lock`` reads without writing a lock.
    """

    kind = "archive"

    def __init__(self, repository: Repository, memo_folder: Path | None = None, *, no_lock: bool = False) -> None:
        self.repository = repository
        self.location = repository.storage.location
        self._memo_folder = memo_folder
        self._no_lock = no_lock

    def backup(
        self, options: BackupOptions, *, emit: Emit, cancel: Cancel, ahead: Ahead | None = None
    ) -> BackupSummary:
        """Save paths as a new snapshot; see :func:`holdfast.vaults.archive.backup.run.backup`."""
        from holdfast.vaults.archive.backup.run import backup

        return backup(self.repository, options, memo_folder=self._memo_folder, emit=emit, cancel=cancel, ahead=ahead)

    def snapshots(self, emit: Emit | None = None) -> Sequence[SnapshotInfo]:
        """All readable snapshots, oldest first. Damaged ones are told to ``emit``, or raise ``Corrupt`` without it."""

        def pass_over(identifier: bytes, error: HoldfastError) -> None:
            if emit is None:
                raise error
            emit(Fact("damage.found", error.message, "error", {"snapshot": identifier.hex()}))

        return [describe(identifier, snapshot) for identifier, snapshot in self.repository.snapshots(pass_over)]

    @contextlib.contextmanager
    def reading(
        self, *, exclusive: bool = False, on_damage: Callable[[bytes, HoldfastError], None] | None = None
    ) -> Iterator[Lock | None]:
        """Hold a lock for reading (None with ``no_lock``), with the index loaded inside.

        Damaged index files go to ``on_damage``, or raise ``Corrupt`` without it. Long work calls ``start_renewing`` of
        the lock once it has forked its workers. Take the list of snapshots before this.
        """
        with contextlib.ExitStack() as stack:
            lock = None if self._no_lock else stack.enter_context(self.repository.locks.hold(exclusive=exclusive))
            self.repository.load_index(on_damage)
            yield lock

    def entries(self, snapshot: SnapshotInfo, path: bytes = b"") -> Iterator[Entry]:
        """``path`` and everything beneath, depth first, by a loaded index (:meth:`reading`); see :mod:`.read`."""
        from holdfast.vaults.archive.read import entries

        return entries(self.repository, snapshot, path)

    def read(self, snapshot: SnapshotInfo, path: bytes) -> Iterator[bytes]:
        """The content of one file, blob by blob, verified, by a loaded index (:meth:`reading`)."""
        from holdfast.vaults.archive.read import read_file

        return read_file(self.repository, snapshot, path)

    def restore(self, snapshot: SnapshotInfo, options: RestoreOptions, *, emit: Emit, cancel: Cancel) -> RestoreSummary:
        """Write a snapshot, or part of it, back to a disk; see :mod:`holdfast.vaults.archive.restore`."""
        from holdfast.vaults.archive.restore.run import restore

        return restore(self, snapshot, options, emit=emit, cancel=cancel)

    def check(self, options: CheckOptions, *, emit: Emit, cancel: Cancel) -> CheckReport:
        """Look for damage; see :mod:`holdfast.vaults.archive.check`."""
        from holdfast.vaults.archive.check import check

        return check(self, options, emit=emit, cancel=cancel)


def describe(identifier: SnapshotId, snapshot: Snapshot) -> SnapshotInfo:
    """A stored snapshot as people see it."""
    note = snapshot.extra.get(_NOTE)
    return SnapshotInfo(
        id=identifier,
        time=snapshot.time,
        time_ns=snapshot.time_ns,
        hostname=snapshot.hostname,
        username=snapshot.username,
        paths=tuple(snapshot.paths),
        tags=tuple(snapshot.tags),
        parent=snapshot.parent,
        tree=snapshot.tree,
        program=snapshot.program_version,
        summary=snapshot.summary,
        excludes=tuple(snapshot.excludes),
        original=snapshot.original,
        note=note if isinstance(note, str) else "",
    )
