"""Which blob lies where: a compact table in memory, shared with forked workers without copying.

Open addressing over anonymous shared memory, about 60 bytes a blob (restic: 62-64), against some 250 for a dictionary.
"""

from __future__ import annotations

import mmap
import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from holdfast.format.index import Entries
from holdfast.format.pack import Blob, BlobType
from holdfast.kernel.ids import BlobId, PackId
from holdfast.kernel.native import native as _native

# Pack number with the tree flag on top, offset, stored length, plaintext length (0: raw).
_ENTRY = struct.Struct("=IIII")
_ENTRY_SIZE = _ENTRY.size
_FIELDS = 4
_KEY = struct.Struct("=Q24x")  # what of an id chooses its slot
_TREE = 1 << 31
_NO_FLAG = _TREE - 1
_SLOT = 4
_FIRST, _FIRST_BITS = 1 << 12, 13
_TOP_BIT = bytes(byte >> 7 for byte in range(256))


class Place(NamedTuple):
    """Where one copy of a blob lies. ``raw_length`` is None where the blob is stored uncompressed."""

    pack: PackId
    type: BlobType
    offset: int
    length: int
    raw_length: int | None

    @property
    def size(self) -> int:
        """Bytes of plaintext (32 bytes of every stored blob are nonce and MAC)."""
        return self.length - 32 if self.raw_length is None else self.raw_length


class Index:
    """All blobs of a repository, added pack by pack. Lookups are safe in forked children; adding is not shared."""

    def __init__(self) -> None:
        self._count = 0
        self._room = _FIRST
        self._ids = mmap.mmap(-1, 32 * _FIRST)
        self._entries = mmap.mmap(-1, _ENTRY_SIZE * _FIRST)
        self._slots = _new_slots(_FIRST_BITS)
        self._mask = (1 << _FIRST_BITS) - 1
        self._packs: list[PackId] = []
        self._pack_numbers: dict[PackId, int] = {}
        self._pack_starts: list[int] = []  # first entry of each pack; a pack's entries are consecutive

    def __len__(self) -> int:
        return self._count

    @property
    def packs(self) -> Sequence[PackId]:
        """Every pack that some entry names, in the order of adding."""
        return self._packs

    def reserve(self, blobs: int) -> None:
        """Make room for ``blobs`` more at once."""
        self._grow(self._count + blobs)

    def add(self, pack: PackId, blobs: Iterable[Blob]) -> bool:
        """Add one pack with its blobs; False (and no change) if that pack is there already."""
        return self.add_entries(pack, Entries.of(list(blobs)))

    def add_entries(self, pack: PackId, added: Entries) -> bool:
        """What :meth:`add` does, for blobs in columns: 0.3 microseconds each."""
        if pack in self._pack_numbers:
            return False
        number = len(self._packs)
        self._packs.append(pack)
        self._pack_numbers[pack] = number
        self._pack_starts.append(self._count)
        begin, end = self._count, self._count + len(added.trees)
        if end > self._room:
            self._grow(max(end, self._room * 2))
        self._ids[begin * 32 : end * 32] = added.ids
        flags = {0: number, 1: number | _TREE}
        with memoryview(self._entries) as raw, raw.cast("I") as fields:
            rows = fields[begin * _FIELDS : end * _FIELDS]
            rows[0::_FIELDS] = array("I", map(flags.__getitem__, added.trees))
            rows[1::_FIELDS] = added.offsets
            rows[2::_FIELDS] = added.lengths
            rows[3::_FIELDS] = added.raw_lengths
            rows.release()
        self._count = end
        self._enter(added.ids, begin)
        return True

    def has(self, identifier: bytes) -> bool:
        """Whether any pack holds the blob."""
        return self.number(identifier) >= 0

    def places(self, identifier: BlobId) -> list[Place]:
        """Every copy of the blob, first added first; empty if unknown. Duplicates are legal."""
        return [self._place(number) for number in self._find(identifier)]

    def place(self, identifier: BlobId) -> Place | None:
        """The first copy of the blob, or None."""
        number = self.number(identifier)
        return None if number < 0 else self._place(number)

    def stored(self, identifier: bytes) -> tuple[PackId, int, int, int] | None:
        """Pack, offset, stored length and plaintext length (0: raw) of the first copy, at half the cost of a place."""
        number = self.number(identifier)
        if number < 0:
            return None
        flagged, offset, length, raw = _entry_at(self._entries, number * _ENTRY_SIZE)
        return self._packs[flagged & _NO_FLAG], offset, length, raw

    def number(self, identifier: bytes) -> int:
        """The entry number of the blob's first copy, or -1: a small stand-in for the id in other tables."""
        slots, ids, mask = self._slots, self._ids, self._mask
        if len(identifier) == 32:
            slot: int = _key_of(identifier)[0] & mask
            while position := slots[slot]:
                end = position * 32
                if ids[end - 32 : end] == identifier:
                    return position - 1
                slot = (slot + 1) & mask
        return -1

    def find(self, identifier: bytes, *, tree: bool) -> int:
        """The entry number of the blob's first copy of that type, or -1: a tree and a file may have equal bytes."""
        return next(self.copies(identifier, tree=tree), -1)

    def copies(self, identifier: bytes, *, tree: bool) -> Iterator[int]:
        """The entry numbers of all copies of the blob of that type, first added first."""
        if len(identifier) == 32:
            for number in self._find(identifier):
                if (_ENTRY.unpack_from(self._entries, number * _ENTRY_SIZE)[0] > _NO_FLAG) == tree:
                    yield number

    def tree_flags(self) -> bytes:
        """By entry number: 1 for a tree, 0 for data. A copy of one byte a blob."""
        top = 3 if sys.byteorder == "little" else 0
        with memoryview(self._entries) as raw, raw[top : self._count * _ENTRY_SIZE : _ENTRY_SIZE] as flags:
            return flags.tobytes().translate(_TOP_BIT)

    def id_of(self, number: int) -> BlobId:
        """The id of entry ``number``."""
        return BlobId(self._ids[number * 32 : number * 32 + 32])

    def entry(self, number: int) -> tuple[int, int, int, int]:
        """Of entry ``number``: its pack (position in ``packs``), offset, stored length, plaintext length (0: raw)."""
        flagged, offset, length, raw = _entry_at(self._entries, number * _ENTRY_SIZE)
        return flagged & _NO_FLAG, offset, length, raw

    def tree_packs(self) -> Iterator[PackId]:
        """Packs that begin with a tree: since format version 2 these hold nothing else."""
        with memoryview(self._entries) as raw, raw[: self._count * _ENTRY_SIZE].cast("I") as fields:
            end = self._count
            firsts = [fields[start * _FIELDS] if start < end else 0 for start in self._pack_starts]
        return (pack for pack, first in zip(self._packs, firsts, strict=True) if first > _NO_FLAG)

    def position(self, pack: PackId) -> int:
        """Where in ``packs`` a pack stands, or -1."""
        return self._pack_numbers.get(pack, -1)

    def span(self, pack: int) -> tuple[int, int]:
        """The entry numbers of the pack at that position in ``packs``: the first, and one past the last."""
        end = self._pack_starts[pack + 1] if pack + 1 < len(self._packs) else self._count
        return self._pack_starts[pack], end

    def lengths(self, begin: int, end: int) -> tuple[list[int], list[int]]:
        """Stored lengths and plaintext lengths (0: raw) of a range of entries."""
        with memoryview(self._entries) as raw, raw[begin * _ENTRY_SIZE : end * _ENTRY_SIZE].cast("I") as fields:
            return fields[2::_FIELDS].tolist(), fields[3::_FIELDS].tolist()

    def pack_number(self, number: int) -> int:
        """Which pack (position in ``packs``) holds entry ``number``."""
        flagged: int = _ENTRY.unpack_from(self._entries, number * _ENTRY_SIZE)[0]
        return flagged & _NO_FLAG

    def first_entry(self, pack: int) -> int:
        """The number of the first entry of pack number ``pack``; the others follow it."""
        return self._pack_starts[pack]

    def entries_of(self, pack: PackId) -> Entries:
        """The blobs of one pack as indexed, in the order of adding."""
        number = self._pack_numbers[pack]
        begin = self._pack_starts[number]
        end = self._pack_starts[number + 1] if number + 1 < len(self._packs) else self._count
        fields = array("I", self._entries[begin * _ENTRY_SIZE : end * _ENTRY_SIZE])
        trees = bytes([flagged > _NO_FLAG for flagged in fields[0::_FIELDS]])
        ids = self._ids[begin * 32 : end * 32]
        return Entries(ids, trees, fields[1::_FIELDS], fields[2::_FIELDS], fields[3::_FIELDS])

    def blobs_of(self, pack: PackId) -> list[Blob]:
        """The blobs of one pack as indexed, in the order of adding."""
        return self.entries_of(pack).blobs()

    def blobs(self) -> Iterator[tuple[PackId, Blob]]:
        """Every entry."""
        for pack in self._packs:
            for blob in self.blobs_of(pack):
                yield pack, blob

    def _find(self, identifier: bytes) -> Iterator[int]:
        slots, mask = self._slots, self._mask
        slot = _key_of(identifier)[0] & mask
        while position := slots[slot]:
            if self._ids[position * 32 - 32 : position * 32] == identifier:
                yield position - 1
            slot = (slot + 1) & mask

    def _place(self, number: int) -> Place:
        flagged, offset, length, raw = _entry_at(self._entries, number * _ENTRY_SIZE)
        if flagged & _TREE:
            return Place(self._packs[flagged & _NO_FLAG], BlobType.TREE, offset, length, raw or None)
        return Place(self._packs[flagged], BlobType.DATA, offset, length, raw or None)

    def _enter(self, ids: bytes | memoryview, begin: int) -> None:
        """Make blobs findable whose entries start at ``begin``."""
        slots, mask = self._slots, self._mask
        with memoryview(ids) as raw, raw.cast("Q") as words:
            keys = words[0::4].tolist()
        for position, key in enumerate(keys, begin + 1):
            slot = key & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = position

    def _grow(self, room: int) -> None:
        if room > self._room:
            self._ids = _larger(self._ids, 32 * self._count, 32 * room)
            self._entries = _larger(self._entries, _ENTRY_SIZE * self._count, _ENTRY_SIZE * room)
            self._room = room
        bits = (room * 3 // 2).bit_length()  # at most two thirds full
        if 1 << bits > len(self._slots):
            self._slots, self._mask = _new_slots(bits), (1 << bits) - 1
            with memoryview(self._ids) as raw, raw[: 32 * self._count] as ids:
                self._enter(ids, 0)


_key_of = _KEY.unpack
_entry_at = _ENTRY.unpack_from


def _new_slots(bits: int) -> memoryview:
    """An empty hash table; its memory goes with the last reference."""
    return memoryview(mmap.mmap(-1, _SLOT << bits)).cast("I")


def _larger(old: mmap.mmap, used: int, size: int) -> mmap.mmap:
    new = mmap.mmap(-1, size)
    new[:used] = old[:used]
    old.close()
    return new


class SharedIds:
    """A set of 32-byte ids that forked processes add to at the same time without a lock.

    Ids are appended to a shared log, whose blocks each belong to one process, and found through shared hash tables of
    positions in that log. A lost race only means that an id is not found and its blob is stored twice, which is legal
    and harmless. An id is compared in full, so nothing is ever found that is not there. Pages that nobody touches cost
    nothing.
    """

    _PROBES = 32
    _BITS = (20, 25)  # the second table serves once the first is so full that a run of 32 slots is taken
    _BLOCK = 4096
    _ROOM = 1 << 25

    def __init__(self) -> None:
        self._log = mmap.mmap(-1, 32 * self._ROOM, flags=_LAZY)
        self._tables = [mmap.mmap(-1, _SLOT << bits, flags=_LAZY) for bits in self._BITS]
        self._blocks_taken = mmap.mmap(-1, 8)

    def adder(self) -> Callable[[bytes], bool]:
        """A function for one process that adds an id and tells whether it was new. Make it after the fork."""
        if _native is not None:  # a tenth of the time
            small, large = self._tables
            return partial(_native.add_id, self._log, small, large, self._blocks_taken, bytearray(16))
        log, tables, probes = self._log, self._tables, range(self._PROBES)
        masks = [(1 << bits) - 1 for bits in self._BITS]
        from_bytes = int.from_bytes
        position = end = 0

        def add(identifier: bytes) -> bool:
            nonlocal position, end
            key = from_bytes(identifier[:8], "little")
            for table, mask in zip(tables, masks, strict=True):
                slot = (key & mask) * 4
                for _ in probes:
                    at = from_bytes(table[slot : slot + 4], "little")
                    if at == 0:
                        if position == end:
                            position = self._take_block()
                            end = position + self._BLOCK
                        if end <= self._ROOM:
                            log[position * 32 : position * 32 + 32] = identifier
                            position += 1
                            table[slot : slot + 4] = position.to_bytes(4, "little")
                        return True
                    if log[at * 32 - 32 : at * 32] == identifier:
                        return False
                    slot = (slot + 4) & (mask * 4)
            return True

        return add

    def _take_block(self) -> int:
        """The first position of an unused block. Two processes may get the same one:
        then ids are forgotten, not mixed up.
        """
        number = int.from_bytes(self._blocks_taken[:], "little")
        self._blocks_taken[:] = (number + 1).to_bytes(8, "little")
        return number * self._BLOCK


_LAZY = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
