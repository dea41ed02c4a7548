"""Gets out of a damaged pack every blob that is still intact, wherever its entries may come from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from holdfast.format.index import Entries
from holdfast.format.pack import TRAILER_SIZE, Blob
from holdfast.kernel.errors import Corrupt, HoldfastError, Invalid, NotFound, Unavailable
from holdfast.kernel.ids import BlobId, PackId
from holdfast.repository import Repository, layout
from holdfast.repository.index import Place
from holdfast.vaults.archive.check.files import still_there
from holdfast.vaults.archive.repair.survey import read_header


def candidates(repository: Repository, pack: PackId, size: int, known: Iterable[Entries]) -> list[Blob]:
    """Where blobs may lie in a pack of ``size`` bytes: by the index (``known``), and by its own header if that opens.

    A header is also counted back from its own place: behind a hole in the file the blobs have moved to the front.
    """
    found = [blob for entries in known for blob in entries.blobs()]
    try:
        listed = read_header(repository, pack, size, exact=False).blobs()
    except (Corrupt, NotFound, Unavailable, Invalid) as error:
        still_there(repository.storage, error)
        listed = []
    if listed:
        header = sum(41 if blob.is_compressed else 37 for blob in listed) + 32 + TRAILER_SIZE
        moved = size - header - (listed[-1].offset + listed[-1].length)
        found += listed
        if moved:
            found += [replace(blob, offset=blob.offset + moved) for blob in listed if blob.offset + moved >= 0]
    unique = {(blob.id, blob.offset, blob.length, blob.raw_length): blob for blob in found}
    return sorted(unique.values(), key=lambda blob: blob.offset)


def intact(repository: Repository, pack: PackId, wanted: Iterable[Blob]) -> Iterator[tuple[Blob, bytes]]:
    """Those of the blobs that can be read, decrypted and match their hash, with their plaintext; each id once.

    Raises ``Denied``, and ``Unavailable`` where the whole place is out of reach.
    """
    pieces = _Pieces(repository, pack)
    done: set[bytes] = set()
    for blob in wanted:
        if blob.id in done:
            continue
        plaintext = pieces.open(blob)
        if plaintext is not None:
            done.add(blob.id)
            yield blob, plaintext


class _Pieces:
    """Blobs of one pack. Where every call waits for a network the pack is read at once, if it can be."""

    def __init__(self, repository: Repository, pack: PackId) -> None:
        self._repository = repository
        self._pack = pack
        self._name = layout.name_of(layout.DATA, pack)
        self._whole = b""
        if repository.storage.traits.connections > 1:
            with contextlib.suppress(Corrupt, NotFound, Invalid, Unavailable):  # told again by the first single read
                self._whole = repository.storage.read(self._name)

    def open(self, blob: Blob) -> bytes | None:
        """The plaintext, or None where the blob is damaged. What fails is read a second time."""
        place = Place(self._pack, blob.type, blob.offset, blob.length, blob.raw_length)
        for attempt in (1, 2):
            try:
                return self._repository.open_blob(blob.id, place, self._read(blob, again=attempt == 2))
            except (Corrupt, NotFound, Invalid):
                continue
            except Unavailable as error:
                still_there(self._repository.storage, error)
        return None

    def _read(self, blob: Blob, *, again: bool) -> bytes:
        if self._whole and not again:
            return self._whole[blob.offset : blob.offset + blob.length]
        return self._repository.storage.read(self._name, blob.offset, blob.length)


def proven(repository: Repository, pack: PackId, known: Iterable[Entries]) -> Entries:
    """Of several descriptions of one pack, the entries that turn out to be true, in the order of offsets."""
    blobs = {(blob.offset, blob.id): blob for entries in known for blob in entries.blobs()}
    ordered = [blobs[key] for key in sorted(blobs)]
    return Entries.of([blob for blob, _ in intact(repository, pack, ordered)])


def read_intact(repository: Repository, identifier: bytes) -> bytes | None:
    """The plaintext of a blob by the loaded index, from any intact copy; None if there is none."""
    try:
        return repository.read_blob(BlobId(identifier))
    except (Corrupt, NotFound):
        return None
    except HoldfastError as error:
        if not isinstance(error, Unavailable | Invalid):
            raise
        still_there(repository.storage, error)
        return None
