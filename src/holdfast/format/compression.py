"""Zstandard frames as restic writes them: no checksum, and a reader that no frame can make allocate without bound."""

from __future__ import annotations

import zstandard

from holdfast.format.crypto import Buffer
from holdfast.kernel.errors import Corrupt

_HINT = "Run a check of the vault; another copy of the same data may still be intact."
_UNKNOWN_SIZE = -1
# RFC 8878, 3.1.1.2: a block's header is 3 bytes, and no block yields more than 128 KiB.
_BLOCK_HEADER = 3
_BLOCK_YIELD = 128 * 1024
_CHECKSUM = 4


class Compressor:
    """A reused compression context. Not for use by two threads at once.

    ``level`` None takes parameters of our own, chosen by measurement: decision 0005.
    """

    def __init__(self, level: int | None = None) -> None:
        if level is None:
            own = zstandard.ZstdCompressionParameters(
                strategy=zstandard.STRATEGY_FAST,
                window_log=20,
                hash_log=14,  # 64 KiB: beside the data in a core's second cache
                chain_log=12,  # which this strategy does not use
                min_match=5,
                write_content_size=True,
                write_checksum=False,
            )
            self._context = zstandard.ZstdCompressor(compression_params=own)
        else:
            self._context = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)

    def compress(self, data: Buffer) -> bytes:
        """``data`` as one zstd frame."""
        return self._context.compress(data)


class Decompressor:
    """A reused decompression context. Not for use by two threads at once."""

    def __init__(self) -> None:
        self._context = zstandard.ZstdDecompressor()

    def decompress(self, data: Buffer, *, size: int) -> bytes:
        """The plaintext of one frame whose plaintext length is known to be ``size`` bytes.

        Raises ``Corrupt`` for anything else: another length, a damaged or incomplete frame, bytes after it.
        """
        plain = self.decompress_bounded(data, limit=size)
        if len(plain) != size:
            raise Corrupt("compressed data has the wrong length", hint=_HINT, expected=size, actual=len(plain))
        return plain

    def decompress_own(self, data: bytes) -> bytes:
        """The plaintext of a frame that :class:`Compressor` has just made: its size is known to be honest."""
        try:
            return self._context.decompress(data)
        except zstandard.ZstdError as error:
            raise Corrupt("what was compressed does not decompress", detail=str(error)) from error

    def decompress_bounded(self, data: Buffer, *, limit: int) -> bytes:
        """The plaintext of one frame, at most ``limit`` bytes; see :func:`decompress`."""
        try:
            declared = zstandard.frame_content_size(data)
            if declared > limit:
                raise Corrupt("compressed data claims to be larger than allowed", hint=_HINT, limit=limit)
            room = declared
            if declared == _UNKNOWN_SIZE:
                room = min(limit, _walk_frame(data))
            # 0 would mean "no limit" to zstandard.
            return self._context.decompress(data, max_output_size=room or 1, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise Corrupt("compressed data is damaged or larger than allowed", hint=_HINT, detail=str(error)) from error


def _walk_frame(data: Buffer) -> int:
    """The most bytes that a frame without content size can yield, from its block headers alone.

    Raises ``Corrupt`` if the frame is incomplete or bytes follow it: zstandard notices neither for such frames.
    """
    at = zstandard.frame_header_size(data)
    end = len(data)
    most = 0
    last = False
    while not last and at + _BLOCK_HEADER <= end:
        header = int.from_bytes(data[at : at + _BLOCK_HEADER], "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        # Kinds: 0 stored, 1 one byte repeated, 2 compressed, 3 reserved (zstandard refuses it).
        at += _BLOCK_HEADER + (1 if kind == 1 else size)
        most += _BLOCK_YIELD if kind >= 2 else size
    if zstandard.get_frame_parameters(data).has_checksum:
        at += _CHECKSUM
    if not last or at != end:
        raise Corrupt("a compressed frame is incomplete, or something follows it", hint=_HINT)
    return most


def decompress(data: Buffer, *, limit: int) -> bytes:
    """The plaintext of one zstd frame, with or without a content size in its header.

    Never allocates more than ``limit`` bytes. Raises ``Corrupt`` for a plaintext longer than that, a damaged or
    incomplete frame, or bytes after the frame.
    """
    return Decompressor().decompress_bounded(data, limit=limit)
