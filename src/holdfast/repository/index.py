"""Which blob lies where: a compact table in memory, shared with forked workers without copying.

Open addressing over anonymous shared memory, about 60 bytes a blob (restic: 62-64), against some 250 for a dictionary.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from holdfast.format.pack import Blob, BlobType
from holdfast.kernel.ids import BlobId, PackId

_ENTRY = struct.Struct(
    "<IIII"
)  # pack number with the tree flag on top, offset, stored length, plaintext length (0: raw)
_TREE = 1 << 31
_SLOT = 4
_FIRST = 1 << 12


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
        self._room = 0
        self._ids = mmap.mmap(-1, 32 * _FIRST)
        self._entries = mmap.mmap(-1, _ENTRY.size * _FIRST)
        self._room = _FIRST
        self._slot_bits = 13
        self._slots = mmap.mmap(-1, _SLOT << self._slot_bits)
        self._packs: list[PackId] = []
        self._pack_numbers: dict[PackId, int] = {}
        self._pack_starts: list[int] = []  # first entry of each pack; a pack's entries are consecutive

    def __len__(self) -> int:
        return self._count

    @property
    def packs(self) -> Sequence[PackId]:
        """Every pack that some entry names, in the order of adding."""
        return self._packs

    def has_pack(self, pack: PackId) -> bool:
        """Whether the pack was added."""
        return pack in self._pack_numbers

    def reserve(self, blobs: int) -> None:
        """Make room for ``blobs`` more at once."""
        self._grow(self._count + blobs)

    def add(self, pack: PackId, blobs: Iterable[Blob]) -> bool:
        """Add one pack with its blobs; False (and no change) if that pack is there already."""
        if pack in self._pack_numbers:
            return False
        listed = blobs if isinstance(blobs, list) else list(blobs)
        number = len(self._packs)
        self._packs.append(pack)
        self._pack_numbers[pack] = number
        self._pack_starts.append(self._count)
        if self._count + len(listed) > self._room:
            self._grow(max(self._count + len(listed), self._room * 2))
        ids, entries, slots, mask = self._ids, self._entries, self._slots, (1 << self._slot_bits) - 1
        position = self._count
        pack_info, size, from_bytes = _ENTRY.pack_into, _ENTRY.size, int.from_bytes
        for blob in listed:
            identifier = blob.id
            ids[position * 32 : position * 32 + 32] = identifier
            flagged = number | _TREE if blob.type == BlobType.TREE else number
            pack_info(entries, position * size, flagged, blob.offset, blob.length, blob.raw_length or 0)
            position += 1
            slot = from_bytes(identifier[:8], "little") & mask
            while slots[slot * 4 : slot * 4 + 4] != b"\0\0\0\0":
                slot = (slot + 1) & mask
            slots[slot * 4 : slot * 4 + 4] = position.to_bytes(4, "little")
        self._count = position
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

    def number(self, identifier: bytes) -> int:
        """The entry number of the blob's first copy, or -1: a small stand-in for the id in other tables."""
        ids, slots, mask = self._ids, self._slots, (1 << self._slot_bits) - 1
        slot = int.from_bytes(identifier[:8], "little") & mask
        while position := int.from_bytes(slots[slot * 4 : slot * 4 + 4], "little"):
            if ids[position * 32 - 32 : position * 32] == identifier:
                return position - 1
            slot = (slot + 1) & mask
        return -1

    def pack_number(self, number: int) -> int:
        """Which pack (position in ``packs``) holds entry ``number``."""
        flagged: int = _ENTRY.unpack_from(self._entries, number * _ENTRY.size)[0]
        return flagged & ~_TREE

    def blobs_of(self, pack: PackId) -> list[Blob]:
        """The blobs of one pack as indexed, in the order of adding."""
        number = self._pack_numbers[pack]
        start = self._pack_starts[number]
        end = self._pack_starts[number + 1] if number + 1 < len(self._packs) else self._count
        return [self._blob(position) for position in range(start, end)]

    def blobs(self) -> Iterator[tuple[PackId, Blob]]:
        """Every entry."""
        for pack in self._packs:
            for blob in self.blobs_of(pack):
                yield pack, blob

    def _find(self, identifier: bytes) -> Iterator[int]:
        ids, slots, mask = self._ids, self._slots, (1 << self._slot_bits) - 1
        slot = int.from_bytes(identifier[:8], "little") & mask
        while position := int.from_bytes(slots[slot * 4 : slot * 4 + 4], "little"):
            if ids[position * 32 - 32 : position * 32] == identifier:
                yield position - 1
            slot = (slot + 1) & mask

    def _place(self, number: int) -> Place:
        flagged, offset, length, raw = _ENTRY.unpack_from(self._entries, number * _ENTRY.size)
        kind = BlobType.TREE if flagged & _TREE else BlobType.DATA
        return Place(self._packs[flagged & ~_TREE], kind, offset, length, raw or None)

    def _blob(self, number: int) -> Blob:
        flagged, offset, length, raw = _ENTRY.unpack_from(self._entries, number * _ENTRY.size)
        kind = BlobType.TREE if flagged & _TREE else BlobType.DATA
        return Blob(BlobId(self._ids[number * 32 : number * 32 + 32]), kind, offset, length, raw or None)

    def _grow(self, room: int) -> None:
        if room > self._room:
            self._ids = _larger(self._ids, 32 * self._count, 32 * room)
            self._entries = _larger(self._entries, _ENTRY.size * self._count, _ENTRY.size * room)
            self._room = room
        bits = max(self._slot_bits, (room * 3 // 2).bit_length())  # at most two thirds full
        if bits > self._slot_bits:
            self._slot_bits = bits
            self._slots.close()
            self._slots = slots = mmap.mmap(-1, _SLOT << bits)
            ids, mask, from_bytes = self._ids, (1 << bits) - 1, int.from_bytes
            for position in range(self._count):
                slot = from_bytes(ids[position * 32 : position * 32 + 8], "little") & mask
                while slots[slot * 4 : slot * 4 + 4] != b"\0\0\0\0":
                    slot = (slot + 1) & mask
                slots[slot * 4 : slot * 4 + 4] = (position + 1).to_bytes(4, "little")


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
