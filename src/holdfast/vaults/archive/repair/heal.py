"""Gets back from a second vault what this one has lost: whole packs of a byte copy, or single blobs by their ids."""

from __future__ import annotations

from hashlib import sha256

from holdfast.format.pack import BlobType
from holdfast.format.tree import decode_tree
from holdfast.kernel.errors import Corrupt, HoldfastError, Invalid, NotFound, Unavailable
from holdfast.kernel.ids import BlobId, PackId
from holdfast.repository import Repository, layout
from holdfast.vaults.archive.check.files import still_there
from holdfast.vaults.archive.mending import NewBlobs
from holdfast.vaults.archive.repair.salvage import read_intact


class Healer:
    """Fetches from ``other``, whose index is loaded, into ``repository`` and its ``new`` blobs.

    Whatever comes is proved by its hash. ``missing`` are ids that fetched folders need and nobody has. With ``dry_run``
    everything is read and nothing written.
    """

    def __init__(self, other: Repository, repository: Repository, new: NewBlobs, *, dry_run: bool) -> None:
        self._other = other
        self._repository = repository
        self._new = new
        self._dry_run = dry_run
        self.packs = 0
        self.blobs = 0
        self.size = 0
        self.missing: set[bytes] = set()
        self._seen: set[bytes] = set()

    def fetch_pack(self, pack: PackId) -> bool:
        """Bring back a pack that is gone, if the other vault has it byte for byte; durable on return."""
        name = layout.name_of(layout.DATA, pack)
        try:
            data = self._other.storage.read(name)
        except (NotFound, Corrupt, Invalid):
            return False
        except Unavailable as error:
            still_there(self._other.storage, error)
            return False
        if sha256(data).digest() != pack:
            return False
        if not self._dry_run:
            self._repository.storage.write(name, data)
        self.packs += 1
        return True

    def fetch(self, identifier: BlobId, kind: BlobType) -> bool:
        """Take one blob into the new packs, if the other vault has it intact."""
        data = read_intact(self._other, identifier)
        if data is None:
            return False
        if identifier not in self._new:
            self._new.add(kind, identifier, data)
            self.blobs += 1
            self.size += len(data)
        return True

    def fetch_whatever(self, identifier: BlobId) -> bool:
        """Take a blob of which only the id is known, and, if it is a folder, everything below it that is lost here."""
        place = self._other.index.place(identifier)
        if place is None or not self.fetch(identifier, place.type):
            return False
        pending = [identifier] if place.type == BlobType.TREE else []
        while pending:
            tree = pending.pop()
            for below, kind in self._named_in(tree):
                if below in self._seen:
                    continue
                self._seen.add(below)
                if not self._new_or_here(below) and not self.fetch(below, kind):
                    self.missing.add(below)
                elif kind == BlobType.TREE:
                    pending.append(below)
        return True

    def _new_or_here(self, identifier: BlobId) -> bool:
        return identifier in self._new or self._repository.index.has(identifier)

    def _named_in(self, tree: BlobId) -> list[tuple[BlobId, BlobType]]:
        data = read_intact(self._other, tree) or read_intact(self._repository, tree)
        try:
            nodes = decode_tree(data or b"{}")
        except HoldfastError:
            return []  # proved by its hash: it was stored like that
        named = [(node.subtree, BlobType.TREE) for node in nodes if node.type == "dir" and node.subtree is not None]
        return named + [(blob, BlobType.DATA) for node in nodes for blob in node.content or ()]
