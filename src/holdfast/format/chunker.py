"""Where a file is cut into blobs: restic's Rabin boundaries from C, or a cutter of our own where there is no C.

**Native.** A chunk ends where the low 20 bits of the Rabin fingerprint of the last 64 bytes are zero, but is never
shorter than `MIN_SIZE` (the last one of a file excepted) nor longer than `MAX_SIZE`. With the repository's polynomial
these are byte for byte the boundaries of restic (github.com/restic/chunker), so both find each other's blobs. About
2 GB/s, 4 GB/s with AVX2, 8 GB/s with AVX-512 and GFNI; the global interpreter lock is released meanwhile.

**Fallback**, where the extension was not built. Any partition into blobs is a valid file, so everything still works and
restic reads it, but blobs are not shared with those that restic (or a native Holdfast) wrote. A chunk of the fallback
ends 1 to 1.5 MiB after its start, before the line whose CRC-32 is smallest in that half mebibyte (lines of at least
32 bytes count, by their first 256); where there is no such line, at 1.5 MiB. An insertion therefore moves only the
boundaries around it, in texts and in binaries (where a "line" ends at any byte that happens to be 10). Pure Python
reaches 2 MB/s with the real fingerprint; this, made of three C calls a chunk, 0.7 GB/s on text, 1.3 GB/s on binaries.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from holdfast.kernel.errors import Invalid, Unsupported
from holdfast.kernel.native import native as _native

Buffer = bytes | bytearray | memoryview
"""What can be cut; a memoryview must be contiguous. Wrap anything else (an ``mmap``) in a ``memoryview``."""

MIN_SIZE: Final = 512 * 1024
"""No chunk is shorter, in bytes, but the last one of a file: a file of at most this size is always one chunk."""

MAX_SIZE: Final = 8 * 1024 * 1024
"""No chunk is longer, in bytes."""

AVERAGE_SIZE: Final = MIN_SIZE + 1024 * 1024
"""The mean length of restic's chunks on random data, in bytes: once past the smallest size, a hit every mebibyte."""

POLYNOMIAL_DEGREE: Final = 53

_MASK: Final = (1 << 20) - 1

_FALLBACK_MIN: Final = 1024 * 1024
_FALLBACK_SPAN: Final = 512 * 1024
_LINE: Final = re.compile(rb"\n([^\n]{32,256})")


def native_available() -> bool:
    """Whether the C extension was built, so that boundaries are restic's."""
    return _native is not None


class Chunker:
    """Cuts data into chunks; stateless between calls, so that one object serves all files and threads of a process.

    ``polynomial`` is the repository's ``chunker_polynomial``. ``native`` None takes the extension where it exists;
    False asks for the fallback; True raises `Unsupported` if there is no extension. Raises `Invalid` if the polynomial
    is not of degree 53 (restic makes no others). Whether it is irreducible is for whoever opens the repository to test.

    The attribute ``native`` says which of the two is at work.
    """

    __slots__ = ("_tables", "native", "polynomial")

    def __init__(self, polynomial: int, *, native: bool | None = None) -> None:
        if polynomial >> POLYNOMIAL_DEGREE != 1:
            raise Invalid(
                f"The chunker polynomial {polynomial:#x} is not of degree {POLYNOMIAL_DEGREE}",
                hint="The configuration of the repository is damaged, or was made by a tool that restic cannot read.",
                polynomial=f"{polynomial:x}",
            )
        if native and _native is None:
            raise Unsupported(
                "The native chunker was not built",
                hint="Install a C compiler, then: pip install --force-reinstall --no-binary holdfast holdfast",
            )
        self.polynomial = polynomial
        self.native = native_available() if native is None else native
        self._tables: bytes = _native.tables(polynomial) if self.native and _native is not None else b""

    def cuts(self, data: Buffer, *, final: bool, scanned: int = 0) -> list[int]:
        """The lengths, in bytes, of the chunks at the front of ``data``.

        ``data`` must begin at the start of the file or just after a chunk. If ``final``, it ends the file: the lengths
        add up to ``len(data)``, and an empty ``data`` has none. Otherwise the bytes after the last complete chunk,
        fewer than `MAX_SIZE`, must be offered again at the front of the next call; the result does not depend on how a
        file is divided into calls. A ``data`` of at least `MAX_SIZE` bytes always yields a chunk.

        ``scanned`` saves looking twice for the end of the first chunk: pass how many bytes are being offered again, as
        the call before left them over. Zero is always right, only slower.
        """
        size = len(data) if not isinstance(data, memoryview) else data.nbytes
        if size <= MIN_SIZE and (final or size < MIN_SIZE):
            return [size] if final and size else []
        if self.native and _native is not None:
            return _native.cuts(self._tables, data, scanned, final, MIN_SIZE, MAX_SIZE, _MASK)
        return _fallback_cuts(memoryview(data).cast("B"), final)


def _fallback_cuts(data: memoryview, final: bool) -> list[int]:
    lengths: list[int] = []
    start = 0
    while len(data) - start >= _FALLBACK_MIN + _FALLBACK_SPAN:
        length = _fallback_length(data[start + _FALLBACK_MIN : start + _FALLBACK_MIN + _FALLBACK_SPAN])
        lengths.append(length)
        start += length
    if final and start < len(data):
        lengths.append(len(data) - start)
    return lengths


def _fallback_length(span: memoryview) -> int:
    """The length of a chunk whose possible ends lie in ``span``, which begins `_FALLBACK_MIN` bytes after the chunk."""
    text = bytes(span)
    lines: list[bytes] = _LINE.findall(text)
    if not lines:
        return _FALLBACK_MIN + _FALLBACK_SPAN
    return _FALLBACK_MIN + text.index(b"\n" + min(lines, key=zlib.crc32)) + 1
