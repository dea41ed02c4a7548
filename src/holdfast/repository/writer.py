"""The only way to add to a repository: packs, then index, then snapshot, each durable before the next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from holdfast.format.snapshot import Snapshot
from holdfast.kernel.errors import HoldfastError, NotFound, Unavailable
from holdfast.kernel.ids import SnapshotId
from holdfast.repository import layout
from holdfast.repository.locks import Lock
from holdfast.repository.packer import Pack
from holdfast.repository.repository import Repository
from holdfast.storage import LocalStorage, Storage

INTERIM_BLOBS = 50_000  # restic's numbers: an index file is saved when it is this large ...
INTERIM_SECONDS = 300.0  # ... or this old, so that a killed first backup goes on where it was


class Writer:
    """Records finished packs in index files and commits snapshots. Made by :func:`writing`."""

    def __init__(self, repository: Repository, lock: Lock) -> None:
        self._repository = repository
        self._pending: list[Pack] = []
        self._pending_blobs = 0
        self._last_save = repository.clock.monotonic()
        self.lock = lock

    def record(self, pack: Pack) -> None:
        """Remember a pack that is durable. Now and then this writes an interim index."""
        self._pending.append(pack)
        self._pending_blobs += pack.count
        age = self._repository.clock.monotonic() - self._last_save
        if self._pending_blobs >= INTERIM_BLOBS or age >= INTERIM_SECONDS:
            self.save_index()

    def save_index(self) -> None:
        """Write everything that was recorded and not yet saved; after this those blobs are found by anybody.

        Raises ``Locked``, and writes nothing, if the lock is gone: a prune may have deleted those packs meanwhile.
        """
        if self._pending:
            self.lock.confirm()
        while self._pending:
            part: list[bytes] = []
            blobs = 0
            for pack in self._pending:
                if part and blobs + pack.count > INTERIM_BLOBS:
                    break
                part.append(b'{"id":"%s","blobs":[%s]}' % (pack.id.hex().encode(), pack.listed))
                blobs += pack.count
            self._repository.write_unpacked(layout.INDEX, b'{"packs":[%s]}\n' % b",".join(part))
            del self._pending[: len(part)]
        self._pending_blobs = 0
        self._last_save = self._repository.clock.monotonic()

    def commit(self, snapshot: Snapshot) -> SnapshotId:
        """Save the index, then write the snapshot: the moment at which a backup exists. Returns its id."""
        self.save_index()
        self.lock.confirm()
        return SnapshotId(self._repository.write_unpacked(layout.SNAPSHOTS, snapshot.encode()))


def _refuse_another_folder(storage: Storage) -> None:
    """A disk that was unmounted since the vault was opened leaves an empty folder in its place, which takes a lock,
    packs and a snapshot as well. From here on the lock tells: it is looked for before anything is committed."""
    if not isinstance(storage, LocalStorage):
        return
    try:
        storage.size(layout.CONFIG)
    except NotFound as error:
        raise Unavailable(
            f"the vault in {storage.location} has disappeared",
            hint="Check that the disk is still connected and mounted, then run this again.",
            location=storage.location,
        ) from error


@contextlib.contextmanager
def writing(repository: Repository) -> Iterator[Writer]:
    """Hold a shared lock and write. Leaving by any way saves the index of what is durable, so that nothing is stored
    twice.

    Leaving by an exception leaves no snapshot: only packs that the next backup finds again, or that a prune removes.
    Raises what taking a lock does, and ``Unavailable`` if the vault's disk went away meanwhile.
    """
    with repository.locks.hold(exclusive=False) as lock:
        _refuse_another_folder(repository.storage)
        writer = Writer(repository, lock)
        try:
            yield writer
        except BaseException:
            with contextlib.suppress(HoldfastError):  # what ended the work is what the caller must hear of
                writer.save_index()
            raise
        writer.save_index()
