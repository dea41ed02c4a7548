"""Where one process puts new blobs: known ones are skipped, new ones go to its packers."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.format.accelerated import sha256_each
from holdfast.format.pack import BlobType
from holdfast.kernel.ids import BlobId
from holdfast.repository import Repository
from holdfast.repository.index import SharedIds
from holdfast.repository.packer import OpenPack, Pack, Packer
from holdfast.vaults.archive.backup.tasks import Counts

SMALLEST_PACK = (
    4 << 20
)  # what a worker leaves unfinished below this is merged by the parent (restic's smallest pack size)


class BlobStore:
    """Deduplicates against the index and, through shared memory, against what other processes have stored this run.

    In a dry run nothing is written, everything is counted.
    """

    def __init__(self, repository: Repository, stored: SharedIds, *, dry_run: bool, spool_tag: str) -> None:
        self._repository = repository
        self._has = repository.index.has
        self._is_new = stored.adder()
        self._dry_run = dry_run
        self._packers = [
            Packer(
                repository.storage,
                repository.master,
                kind,
                repository.draw,
                spool_tag=spool_tag,
                compress=repository.config.version > 1,
            )
            for kind in (BlobType.DATA, BlobType.TREE)
        ]
        self._add_data, self._add_tree = (packer.add for packer in self._packers)
        self.counts = Counts()

    def add_data(self, data: bytes | memoryview) -> BlobId:
        """Store file content if it is new; returns its id."""
        return self.add_all((data,))[0]

    def add_all(self, pieces: Sequence[bytes | memoryview]) -> list[BlobId]:
        """Store each piece that is new; returns all their ids, in order. Hashing many at once is faster."""
        ids: list[BlobId] = sha256_each(pieces)  # type: ignore[assignment]
        has, is_new, counts = self._has, self._is_new, self.counts
        for identifier, data in zip(ids, pieces, strict=True):
            if not has(identifier) and is_new(identifier):
                counts.data_blobs += 1
                counts.data_added += len(data)
                if not self._dry_run:
                    self._add_data(identifier, data)
        return ids

    def add_tree(self, tree: BlobId, data: bytes) -> bool:
        """Store a tree if it is new; whether it was."""
        if self._has(tree) or not self._is_new(tree):
            return False
        self.counts.tree_blobs += 1
        self.counts.data_added += len(data)
        if not self._dry_run:
            self._add_tree(tree, data)
        return True

    def read_tree(self, tree: BlobId) -> bytes:
        """A tree of an older snapshot."""
        return self._repository.read_blob(tree)

    def has(self, identifier: bytes) -> bool:
        """Whether the vault's index knows the blob (not: whether this run has stored it)."""
        return self._has(identifier)

    def take_packs(self) -> list[Pack]:
        """The packs that were finished since the last call."""
        packs: list[Pack] = []
        for packer in self._packers:
            packs += packer.finished
            packer.finished = []
        return packs

    def leave(self) -> tuple[list[Pack], list[OpenPack]]:
        """Close what is worth a pack of its own; set the rest down for another process."""
        left = [open_pack for packer in self._packers if (open_pack := packer.leave_open(SMALLEST_PACK)) is not None]
        return self.take_packs(), left

    def take_over(self, left: list[OpenPack]) -> None:
        """Go on with what other processes left."""
        for open_pack in left:
            self._packers[open_pack.type].take_over(open_pack)

    def finish(self) -> list[Pack]:
        """Close everything."""
        return [pack for packer in self._packers for pack in packer.finish()]

    def discard(self) -> None:
        """Remove what is not finished."""
        for packer in self._packers:
            packer.discard()
