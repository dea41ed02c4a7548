"""The list of blobs at the end of a pack file, and the four bytes behind it that say how long the list is."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from struct import Struct

from holdfast.format.crypto import OVERHEAD, Buffer
from holdfast.kernel.errors import Corrupt, Invalid
from holdfast.kernel.ids import BlobId
from holdfast.kernel.values import dataclass

TRAILER_SIZE = 4
MAX_HEADER = 16 * 1024 * 1024
"""Bytes that an encrypted header may take, overhead included, the trailer not."""

_PLAIN_ENTRY = Struct("<BI32s")
_COMPRESSED_ENTRY = Struct("<BII32s")
_COMPRESSED_FLAG = 2
_UINT32 = 1 << 32
_HINT = "The pack file is damaged; run a check of the vault, then repair it."


class BlobType(IntEnum):
    """What a blob holds, with the number that pack headers use."""

    DATA = 0
    TREE = 1


@dataclass(slots=True)
class Blob:
    """One blob in a pack. ``offset`` and ``length`` (as stored, overhead included) are bytes in the pack file.

    ``raw_length`` is the length of the plaintext, or None if it is stored uncompressed.
    """

    id: BlobId
    type: BlobType
    offset: int
    length: int
    raw_length: int | None

    @property
    def is_compressed(self) -> bool:
        """Whether the opened blob is a zstd frame."""
        return self.raw_length is not None

    @property
    def plain_length(self) -> int:
        """Bytes of plaintext."""
        return self.length - OVERHEAD if self.raw_length is None else self.raw_length


def encode_header(entries: Iterable[Blob]) -> bytes:
    """The plaintext of a header for blobs that lie back to back from offset 0, in this order.

    Raises ``Invalid`` if a length does not fit the format, or a compressed blob claims an empty plaintext.
    """
    parts: list[bytes] = []
    for blob in entries:
        if not OVERHEAD <= blob.length < _UINT32 or not 0 < (blob.raw_length or 1) < _UINT32 or blob.raw_length == 0:
            raise Invalid("a blob's length does not fit a pack header", hint="Store empty blobs uncompressed.")
        if blob.raw_length is None:
            parts.append(_PLAIN_ENTRY.pack(blob.type, blob.length, blob.id))
        else:
            parts.append(_COMPRESSED_ENTRY.pack(blob.type | _COMPRESSED_FLAG, blob.length, blob.raw_length, blob.id))
    return b"".join(parts)


Listed = tuple[BlobId, int, int | None]
"""A blob on its way into a pack: id, stored length, plaintext length (None: stored uncompressed)."""


def describe(blob_type: BlobType, listed: Iterable[Listed]) -> tuple[bytes, bytes]:
    """(the plaintext of a header, the JSON by which an index lists the same blobs), for blobs back to back from 0.

    One pass for both, without an object a blob: 1.5 us a blob instead of 5. The caller keeps to the format's limits:
    see :func:`encode_header`.
    """
    parts: list[bytes] = []
    texts: list[str] = []
    name = "tree" if blob_type == BlobType.TREE else "data"
    plain, compressed = _PLAIN_ENTRY.pack, _COMPRESSED_ENTRY.pack
    kind, compressed_kind = int(blob_type), int(blob_type) | _COMPRESSED_FLAG
    offset = 0
    for identifier, length, raw_length in listed:
        text = f'{{"id":"{identifier.hex()}","type":"{name}","offset":{offset},"length":{length}'
        if raw_length is None:
            parts.append(plain(kind, length, identifier))
            texts.append(text + "}")
        else:
            parts.append(compressed(compressed_kind, length, raw_length, identifier))
            texts.append(f'{text},"uncompressed_length":{raw_length}}}')
        offset += length
    return b"".join(parts), ",".join(texts).encode("ascii")


def decode_header(plain: Buffer) -> list[Blob]:
    """The blobs of a pack, with offsets from summing lengths. Raises ``Corrupt`` unless every byte makes sense."""
    blobs: list[Blob] = []
    at = offset = 0
    end = len(plain)
    types = (BlobType.DATA, BlobType.TREE)
    while at < end:
        kind = plain[at]
        entry = _COMPRESSED_ENTRY if kind & _COMPRESSED_FLAG else _PLAIN_ENTRY
        if kind > 3 or at + entry.size > end:
            raise Corrupt("a pack header has an unknown or incomplete entry", hint=_HINT, at=at)
        raw_length: int | None = None
        if entry is _COMPRESSED_ENTRY:
            _, length, raw_length, blob_id = entry.unpack_from(plain, at)
        else:
            _, length, blob_id = entry.unpack_from(plain, at)
        if length < OVERHEAD or raw_length == 0:
            raise Corrupt("a pack header has an entry with an impossible length", hint=_HINT, at=at)
        blobs.append(Blob(blob_id, types[kind & 1], offset, length, raw_length))
        offset += length
        at += entry.size
    if not blobs:
        raise Corrupt("a pack header is empty", hint=_HINT)
    if offset >= _UINT32:
        raise Corrupt("a pack header describes more than 4 GiB", hint=_HINT)
    return blobs


def header_size(entries: Iterable[Blob]) -> int:
    """Bytes that the end of a pack with these blobs takes: the encrypted header and the trailer."""
    size = OVERHEAD + TRAILER_SIZE
    for blob in entries:
        size += _PLAIN_ENTRY.size if blob.raw_length is None else _COMPRESSED_ENTRY.size
    return size


def encode_trailer(header_length: int) -> bytes:
    """The last four bytes of a pack, for an encrypted header of ``header_length`` bytes (overhead included)."""
    if header_length > MAX_HEADER:
        raise Invalid("a pack has too many blobs for its header", hint="Close packs earlier.", length=header_length)
    return header_length.to_bytes(TRAILER_SIZE, "little")


def parse_trailer(last4: Buffer) -> int:
    """Bytes of the encrypted header (overhead included), from the last four bytes of a pack.

    Raises ``Corrupt`` if no header can have that length. Whether the file is long enough is for the caller to see.
    """
    if len(last4) != TRAILER_SIZE:
        raise Corrupt("a pack file is too short", hint=_HINT, length=len(last4))
    length = int.from_bytes(last4, "little")
    if not OVERHEAD + _PLAIN_ENTRY.size <= length <= MAX_HEADER:
        raise Corrupt("a pack file ends with an impossible header length", hint=_HINT, length=length)
    return length
