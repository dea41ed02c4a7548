"""What a backup knows from earlier ones: the parent snapshot and the memo that was written with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from holdfast.kernel.errors import HoldfastError, NotFound
from holdfast.kernel.ids import BlobId, SnapshotId
from holdfast.repository import Repository
from holdfast.vaults.archive.backup import memo
from holdfast.vaults.archive.backup.memo import Memo


class Parent(NamedTuple):
    """The snapshot that unchanged files are recognised by; ``tree`` is None where it is not usable."""

    id: SnapshotId | None = None
    tree: BlobId | None = None


def choose_parent(
    repository: Repository,
    hostname: str,
    paths: Sequence[str],
    wanted: str | None,
    on_damage: Callable[[bytes, HoldfastError], None],
) -> Parent:
    """The latest snapshot of the same host and paths, or the one whose id begins with ``wanted``.

    Loads the index after the list of snapshots was read, so that all they refer to is found. Raises ``NotFound``.
    """
    chosen = Parent()
    for identifier, snapshot in repository.snapshots(on_damage):
        if wanted is not None:
            if identifier.hex().startswith(wanted):
                chosen = Parent(identifier, snapshot.tree)
        elif snapshot.hostname == hostname and set(snapshot.paths) == set(paths):
            chosen = Parent(identifier, snapshot.tree)
    if wanted is not None and chosen.id is None:
        raise NotFound(f"No snapshot begins with '{wanted}'.", hint="'holdfast snapshots' lists them.")
    repository.load_index()
    if chosen.tree is not None and not repository.index.has(chosen.tree):
        return Parent(chosen.id, None)
    return chosen


class MemoFile:
    """The memo of one vault, host and set of paths, in a local cache folder; without a folder there is none."""

    def __init__(
        self, folder: Path | None, repository: Repository, hostname: str, paths: Sequence[str], salt: bytes
    ) -> None:
        self._repository = repository
        self._path: Path | None = None
        if folder is not None:
            text = "\0".join([hostname, *sorted(paths)]).encode("utf-8", "surrogateescape")
            name = blake2b(text, digest_size=16).hexdigest()
            self._path = folder / repository.config.id.hex() / f"{name}.memo"
        self._salt = salt

    def load(self, parent: Parent) -> Memo:
        """The memo that was written with the parent snapshot, if everything it relies on is still there."""
        if self._path is None or parent.id is None or parent.tree is None:
            return Memo()
        return memo.load(self._path, self._key(), self._salt, {parent.id}, self._repository.index_files)

    def save(self, snapshot: SnapshotId, records: bytes | bytearray) -> None:
        """Write what this backup learnt."""
        if self._path is not None:
            memo.save(self._path, self._key(), self._salt, snapshot, self._repository.index_files, records)

    def _key(self) -> bytes:
        return blake2b(self._repository.master.mac_k, key=b"holdfast memo", digest_size=32).digest()
