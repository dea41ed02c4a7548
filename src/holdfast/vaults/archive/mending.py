"""What all that mends or rewrites a vault needs: a lock, and new packs, which no index names until one is written."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256

from holdfast.format.index import Entries
from holdfast.format.pack import BlobType
from holdfast.kernel.events import Emit, Fact
from holdfast.kernel.ids import BlobId, PackId
from holdfast.repository import Repository
from holdfast.repository.locks import Lock
from holdfast.repository.packer import Pack, Packer


@contextlib.contextmanager
def locked(repository: Repository, *, exclusive: bool = True, dry_run: bool) -> Iterator[Lock | None]:
    """Hold the lock that such work needs; a dry run writes nothing at all, so it has none."""
    if dry_run:
        yield None
    else:
        with repository.locks.hold(exclusive=exclusive) as lock:
            yield lock


class Teller:
    """Emits one fact for each thing that is found: the first few as warnings, the rest as mere information, so that a
    person is not flooded and a program hears all."""

    _MOST = 20

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._told: Counter[str] = Counter()

    def __call__(self, kind: str, message: str, level: str = "warning", **data: str) -> None:
        self._told[kind] += 1
        self._emit(Fact(kind, message, level if self._told[kind] <= self._MOST else "info", data))


class NewBlobs:
    """Collects blobs, each once, into packs. With ``dry_run`` it only counts."""

    def __init__(self, repository: Repository, *, dry_run: bool) -> None:
        self._dry_run = dry_run
        self._taken: set[bytes] = set()
        self._packers = {
            kind: Packer(
                repository.storage,
                repository.master,
                kind,
                repository.draw,
                compress=repository.config.version > 1,
            )
            for kind in BlobType
        }
        self.count = 0
        self.size = 0

    def __contains__(self, identifier: bytes) -> bool:
        return identifier in self._taken

    def add(self, kind: BlobType, identifier: BlobId, plaintext: bytes) -> None:
        """Take a blob, unless it was taken before; ``plaintext`` is proved to be what the id says."""
        if identifier in self._taken:
            return
        self._taken.add(identifier)
        self.count += 1
        self.size += len(plaintext)
        if not self._dry_run:
            self._packers[kind].add(identifier, plaintext)

    def add_tree(self, data: bytes, *, unless: Callable[[BlobId], bool]) -> BlobId:
        """Take a tree, except where ``unless`` says that it is stored; its id."""
        identifier = BlobId(sha256(data).digest())
        if identifier not in self._taken and not unless(identifier):
            self.add(BlobType.TREE, identifier, data)
        return identifier

    def finish(self) -> list[Pack]:
        """Make everything durable; the new packs since the last call."""
        return [pack for packer in self._packers.values() for pack in packer.finish()]

    def discard(self) -> None:
        """Drop what is not in a finished pack."""
        for packer in self._packers.values():
            packer.discard()


def entries_of(packs: list[Pack]) -> list[tuple[PackId, Entries]]:
    """New packs as an index lists them."""
    return [(pack.id, Entries.of(pack.blobs)) for pack in packs]
