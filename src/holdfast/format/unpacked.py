"""What is inside an encrypted file that is no pack: a marker byte and compressed JSON, or bare JSON (version 1)."""

from __future__ import annotations

from holdfast.format.compression import Compressor, decompress
from holdfast.format.crypto import Buffer
from holdfast.kernel.errors import Corrupt

_COMPRESSED = 2
_PLAIN_JSON = b"{["
UNPACKED_LIMIT = 1 << 30
"""Bytes of JSON that a single index, snapshot or lock may hold; restic writes about 10 MB for a full index."""


def encode_unpacked(json_bytes: bytes, compressor: Compressor) -> bytes:
    """The plaintext of an index, snapshot or lock file in a version 2 repository (ready to be sealed)."""
    return b"\x02" + compressor.compress(json_bytes)


def decode_unpacked(plain: Buffer, *, limit: int = UNPACKED_LIMIT) -> bytes:
    """The JSON inside an opened index, snapshot or lock file of version 1 or 2.

    Raises ``Corrupt`` for any other first byte, for a damaged frame, and for more than ``limit`` bytes.
    """
    first = plain[0] if len(plain) else None
    if first == _COMPRESSED:
        with memoryview(plain) as whole:
            return decompress(whole[1:], limit=limit)
    if first is None or first not in _PLAIN_JSON:
        raise Corrupt(
            "a repository file holds neither compressed nor plain JSON",
            hint="The file is damaged or was written by a newer program; run a check of the vault.",
        )
    if len(plain) > limit:
        raise Corrupt("a repository file is larger than allowed", hint="Run a check of the vault.", limit=limit)
    return bytes(plain)
