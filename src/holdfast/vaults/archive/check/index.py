"""The index as a check sees it: every file read by itself, every pack's entries compared with each other and the
pack.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from operator import add

from holdfast.format.crypto import OVERHEAD
from holdfast.format.index import Entries, decode_entries
from holdfast.format.pack import TRAILER_SIZE, Blob, BlobType
from holdfast.kernel.errors import HoldfastError, NotFound
from holdfast.kernel.ids import PackId, short
from holdfast.repository import Repository, layout
from holdfast.repository.index import Index
from holdfast.vaults.archive.check.files import DAMAGING, still_there
from holdfast.vaults.archive.check.findings import Findings, listed

MISSING = -1
_ENTRY_PLAIN, _ENTRY_COMPRESSED = 37, 41  # bytes of one blob in a pack's header
_BYTES_PER_BLOB = 40  # of a compressed index file: 32 of them are the id

DATA_ONLY, TREES_ONLY, MIXED = 0, 1, 2


class Catalogue:
    """All that the index files say, and which packs really lie in the storage.

    A fresh :class:`Index`, so that nothing that was read earlier hides what is stored now. Within a pack its entries
    stand in the order of offsets. The tables are made before workers fork and only read by them.
    """

    def __init__(self) -> None:
        self.index = Index()
        self.plain_sizes = array("I")  # by entry number: bytes of plaintext
        self.is_tree = bytearray()  # by entry number
        self.numbers: dict[PackId, int] = {}  # position of a pack in index.packs
        self.expected = array("Q")  # by pack: bytes that its file must have
        self.found = array("q")  # by pack: bytes that its file has, or MISSING
        self.contents = bytearray()  # by pack: DATA_ONLY, TREES_ONLY or MIXED
        self.broken: set[int] = set()  # packs whose entries leave gaps or overlap
        self.unused_packs = 0
        self.unused_bytes = 0

    def add(self, pack: PackId, entries: Entries) -> bool:
        """Take one pack with its entries (they get sorted); False if it was there already."""
        contiguous = _is_contiguous(entries)
        if not contiguous:
            entries = entries.by_offset()
            contiguous = _is_contiguous(entries)
        if not self.index.add_entries(pack, entries):
            return False
        number = self.numbers[pack] = len(self.numbers)
        if not contiguous:
            self.broken.add(number)
        _, trees, offsets, lengths, raw_lengths = entries
        plain = raw_lengths.count(0)
        if plain:
            sizes = [raw or length - OVERHEAD for length, raw in zip(lengths, raw_lengths, strict=True)]
            self.plain_sizes.extend(sizes)
        else:
            self.plain_sizes.extend(raw_lengths)
        self.is_tree.extend(trees)
        directories = trees.count(1)
        self.contents.append(MIXED if 0 < directories < len(trees) else TREES_ONLY if directories else DATA_ONLY)
        end = offsets[-1] + lengths[-1] if trees else 0
        header = _ENTRY_PLAIN * plain + _ENTRY_COMPRESSED * (len(trees) - plain)
        self.expected.append(end + header + OVERHEAD + TRAILER_SIZE)
        self.found.append(MISSING)
        return True

    def number(self, identifier: bytes, *, tree: bool) -> int:
        """The number that stands for the blob, or -1 if no pack holds it as that type."""
        number = self.index.number(identifier)
        if number < 0 or self.is_tree[number] == tree:
            return number
        wanted = BlobType.TREE if tree else BlobType.DATA
        return number if any(place.type == wanted for place in self.index.places(identifier)) else -1  # type: ignore[arg-type]


def _is_contiguous(entries: Entries) -> bool:
    """Whether these blobs lie back to back from the start of the pack, in this order."""
    offsets = entries.offsets.tolist()
    ends = list(map(add, offsets, entries.lengths))
    return bool(offsets) and offsets[0] == 0 and offsets[1:] == ends[:-1]


def load(repository: Repository, findings: Findings, step: Callable[[int, int], None]) -> Catalogue:
    """Read all index files. ``step(done, total)`` is called after each; damaged ones are findings.

    Found are: files that do not match their name, open or parse; packs that several files name (equal entries: one
    hint, others: damage); entries of a pack that overlap, leave gaps or lie outside of it.
    """
    catalogue = Catalogue()
    files = list(layout.listing(repository.storage, layout.INDEX))
    catalogue.index.reserve(sum(info.size for _, info in files) // _BYTES_PER_BLOB)
    twice: set[bytes] = set()
    for done, (identifier, plaintext) in enumerate(repository.read_many(layout.INDEX, files)):
        step(done, len(files))
        try:
            _take_file(plaintext(), catalogue, findings, twice)
        except NotFound:
            continue  # replaced by a prune since it was listed
        except DAMAGING as first:
            still_there(repository.storage, first)
            try:
                _take_file(repository.read_unpacked(layout.INDEX, identifier), catalogue, findings, set())
            except HoldfastError as error:
                findings.add("index.corrupt", f"Index {short(identifier)} is damaged: {error.message}")
            else:
                message = f"Index {short(identifier)}: {first.message}: correct at the second read."
                findings.add("index.unsteady", message, severity="hint")
    step(len(files), len(files))
    if twice:
        message = f"{len(twice):,} packs are in several index files with equal entries ({listed(twice)})."
        findings.add("pack.indexed-twice", message, severity="hint")
    for number in catalogue.broken:
        trouble = findings.pack(catalogue.index.packs[number])
        trouble.kind = "index.overlap"
        trouble.reasons["its index entries overlap or leave gaps"] = None
    mixed = [pack for pack, number in catalogue.numbers.items() if catalogue.contents[number] == MIXED]
    if mixed and repository.config.version > 1:  # version 1 mixed them on purpose
        message = f"{len(mixed):,} packs hold data and trees together ({listed(mixed)})."
        findings.add("pack.mixed", message, severity="hint")
    return catalogue


def _take_file(plaintext: bytes, catalogue: Catalogue, findings: Findings, twice: set[bytes]) -> None:
    for pack, entries in decode_entries(plaintext):
        if catalogue.add(pack, entries):
            continue
        blobs = entries.blobs()
        if _same(catalogue.index.blobs_of(pack), blobs):
            twice.add(pack)
        else:
            trouble = findings.pack(pack)
            trouble.kind = "pack.conflict"
            trouble.reasons["several index files name it with different entries"] = None
            trouble.lost.update(blob.id for blob in blobs if not catalogue.index.has(blob.id))


def _same(first: Iterable[Blob], second: Iterable[Blob]) -> bool:
    return sorted(map(_key, first)) == sorted(map(_key, second))


def _key(blob: Blob) -> tuple[int, int, int, int, bytes]:
    return blob.offset, blob.length, blob.raw_length or 0, blob.type, blob.id


def compare_with_storage(repository: Repository, catalogue: Catalogue, findings: Findings) -> None:
    """Every indexed pack must be there with the size that its entries make; packs in no index are counted."""
    for identifier, info in layout.listing(repository.storage, layout.DATA):
        number = catalogue.numbers.get(PackId(identifier))
        if number is None or info.name != layout.name_of(layout.DATA, identifier):
            catalogue.unused_packs += 1
            catalogue.unused_bytes += info.size
        else:
            catalogue.found[number] = info.size
    for number, (found, expected) in enumerate(zip(catalogue.found, catalogue.expected, strict=True)):
        if found == expected:
            continue
        pack = catalogue.index.packs[number]
        trouble = findings.pack(pack)
        if found == MISSING:
            trouble.kind = "pack.missing"
            trouble.reasons["it is not there"] = None
            trouble.lost.update(blob.id for blob in catalogue.index.blobs_of(pack))
        else:
            if number not in catalogue.broken:
                trouble.kind = "pack.size"
            trouble.reasons[f"it has {found:,} bytes instead of {expected:,}"] = None
            lost = [blob.id for blob in catalogue.index.blobs_of(pack) if blob.offset + blob.length > found]
            trouble.lost.update(lost)
    if catalogue.unused_packs:
        message = (
            f"{catalogue.unused_packs:,} packs ({catalogue.unused_bytes:,} bytes) are in no index: left by an "
            "interrupted backup, or just being written by one. They do no harm; a prune removes them."
        )
        findings.add("pack.unused", message, severity="hint")
