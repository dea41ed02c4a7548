"""A local note of which directory listings became which trees, so that an unchanged directory costs one comparison.

The key of a directory is a hash over what ``stat`` says of every entry in it; the value is the tree it became and a
hash of the ids of its subdirectories' trees. Content-addressed, so no paths are kept. The file is only ever a
shortcut: it is tied to one snapshot and to the index files of that moment, authenticated with a key derived from the
vault's, and dropped at the first doubt. Without it, the parent snapshot's trees are read instead.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from hashlib import blake2b
from pathlib import Path

from holdfast.kernel.ids import BlobId, SnapshotId

_MAGIC = b"holdfast memo 1\n"
_RECORD = 64  # listing hash 16, children hash 16, tree id 32
_EMPTY = bytes(16)


class Memo:
    """Lookups in a finished memo. An instance without table finds nothing."""

    def __init__(self, table: bytes = b"", snapshot: SnapshotId | None = None) -> None:
        self._table = table
        self._mask = len(table) // _RECORD - 1
        self.snapshot = snapshot

    def __bool__(self) -> bool:
        return bool(self._table)

    def find(self, listing: bytes) -> tuple[bytes, BlobId] | None:
        """(hash of the children's tree ids, tree id) for the hash of a listing, or None."""
        if not self._table:
            return None
        table, mask = self._table, self._mask
        slot = int.from_bytes(listing[:8], "little") & mask
        while True:
            at = slot * _RECORD
            found = table[at : at + 16]
            if found == listing:
                return table[at + 16 : at + 32], BlobId(table[at + 32 : at + 64])
            if found == _EMPTY:
                return None
            slot = (slot + 1) & mask


def record(listing: bytes, children: bytes, tree: BlobId) -> bytes:
    """One directory's line for :func:`save`: 64 bytes."""
    return listing + children + tree


def load(path: Path, key: bytes, salt: bytes, snapshots: set[SnapshotId], index_files: set[bytes]) -> Memo:
    """Read a memo; an empty one if anything about it is in doubt.

    In doubt: damaged or foreign, made under other names or another time zone (``salt``), its snapshot is gone, or an
    index file that it relied on was replaced (then blobs may be gone, and a backup has to look at every one).
    """
    try:
        data = path.read_bytes()
    except OSError:
        return Memo()
    head = len(_MAGIC) + 32
    if (
        data[: len(_MAGIC)] != _MAGIC
        or blake2b(data[head:], key=key, digest_size=32).digest() != data[len(_MAGIC) : head]
    ):
        return Memo()
    body = data[head:]
    snapshot, count = SnapshotId(body[16:48]), int.from_bytes(body[48:56], "little")
    end = 56 + 32 * count
    relied_on = {body[at : at + 32] for at in range(56, end, 32)}
    if body[:16] != salt or snapshot not in snapshots or not relied_on <= index_files:
        return Memo()
    return Memo(body[end:], snapshot)


def save(
    path: Path, key: bytes, salt: bytes, snapshot: SnapshotId, index_files: set[bytes], records: bytes | bytearray
) -> None:
    """Write a memo (0600, atomically). Failing to is no failure of the backup: the next one is only slower."""
    count = len(records) // _RECORD
    slots = 1 << max(4, (count * 3 // 2).bit_length())
    table, mask = bytearray(slots * _RECORD), slots - 1
    for at in range(0, len(records), _RECORD):
        listing = bytes(records[at : at + 16])
        slot = int.from_bytes(listing[:8], "little") & mask
        while table[slot * _RECORD : slot * _RECORD + 16] not in (_EMPTY, listing):
            slot = (slot + 1) & mask
        table[slot * _RECORD : (slot + 1) * _RECORD] = records[at : at + _RECORD]
    body = b"".join((salt, snapshot, len(index_files).to_bytes(8, "little"), *sorted(index_files), table))
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(fd, "wb") as file:
            file.write(_MAGIC + blake2b(body, key=key, digest_size=32).digest() + body)
        os.replace(temporary, path)
