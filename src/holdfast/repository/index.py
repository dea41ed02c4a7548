"""Which blob lies where: a compact table in memory, shared with forked workers without copying.

Open addressing over anonymous shared memory, about 60 bytes a blob (restic: 62-64), against some 250 for a dictionary.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from holdfast.format.pack import Blob, BlobType
from holdfast.kernel.ids import BlobId, PackId

_ENTRY = struct.Struct("<IIII")  # pack number with the tree flag on top, offset, stored length, plaintext length (0: raw)
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
        ids, slots, mask = self._ids, self._slots, (1 << self._slot_bits) - 1
        slot = int.from_bytes(identifier[:8], "little") & mask
        while position := int.from_bytes(slots[slot * 4 : slot * 4 + 4], "little"):
            if ids[position * 32 - 32 : position * 32] == identifier:
                return True
            slot = (slot + 1) & mask
        return False

    def places(self, identifier: BlobId) -> list[Place]:
        """Every copy of the blob, first added first; empty if unknown. Duplicates are legal."""
        return [self._place(number) for number in self._find(identifier)]

    def place(self, identifier: BlobId) -> Place | None:
        """The first copy of the blob, or None."""
        for number in self._find(identifier):
            return self._place(number)
        return None

    def number(self, identifier: bytes) -> int:
        """The entry number of the blob's first copy, or -1: a small stand-in for the id in other tables."""
        for number in self._find(identifier):
            return number
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

    Levels of doubling size, all mapped before the fork; untouched pages cost nothing. A lost race only means that an id
    is not found and its blob is stored twice, which is legal and harmless; a torn write can never match a real id.
    Lookups probe at most ``_PROBES`` slots a level, so a full level only forgets.
    """

    _PROBES = 24
    _LEVELS = 10
    _SMALLEST = 14  # bits: 16,384 slots, half a MiB

    def __init__(self) -> None:
        self._levels = [mmap.mmap(-1, 32 << (self._SMALLEST + level)) for level in range(self._LEVELS)]
        self._top = mmap.mmap(-1, 1)  # the level that is being filled
        self._added = 0

    def add(self, identifier: bytes) -> bool:
        """Add an id; False if it was there."""
        key = int.from_bytes(identifier[:8], "little")
        top = self._top[0]
        for level in range(top, -1, -1):
            table, mask = self._levels[level], (1 << (self._SMALLEST + level)) - 1
            slot = key & mask
            for _ in range(self._PROBES):
                found = table[slot * 32 : slot * 32 + 32]
                if found == identifier:
                    return False
                if found == _EMPTY:
                    break
                slot = (slot + 1) & mask
        table, mask = self._levels[top], (1 << (self._SMALLEST + top)) - 1
        slot = key & mask
        for _ in range(self._PROBES):
            if table[slot * 32 : slot * 32 + 32] == _EMPTY:
                table[slot * 32 : slot * 32 + 32] = identifier
                return True
            slot = (slot + 1) & mask
        if self._top[0] == top and top + 1 < self._LEVELS:  # a run this long means: about two thirds full
            self._top[0] = top + 1
            return self.add(identifier)
        return True


_EMPTY = bytes(32)
