"""The lines that differ between two versions of one text file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from holdfast.kernel.errors import Invalid

LARGEST = 8 << 20
"""Bytes a side: beyond that, comparing lines in Python takes minutes."""

_BINARY_WITHIN = 8000  # git's rule: a NUL in the first 8,000 bytes


def text_diff(before: Iterable[bytes], after: Iterable[bytes], before_name: str, after_name: str) -> Iterator[str]:
    """The unified diff of two files, line by line, each with its line end; nothing if they are equal.

    Contents come in pieces; None of a side is an empty iterable. Bytes that are not UTF-8 are surrogate escapes, so
    that ``os.fsencode`` gives the exact bytes back. Where one side is binary, one line says that they differ. Raises
    ``Invalid`` if a side is longer than :data:`LARGEST`.
    """
    old, new = _joined(before, before_name), _joined(after, after_name)
    if old == new:
        return
    if b"\0" in old[:_BINARY_WITHIN] or b"\0" in new[:_BINARY_WITHIN]:
        yield f"Binary files {before_name} and {after_name} differ\n"
        return
    for line in difflib.unified_diff(_lines(old), _lines(new), before_name, after_name):
        yield line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"


def _joined(pieces: Iterable[bytes], name: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size > LARGEST:
            raise Invalid(
                f"{name} is too long for a diff of its text (more than {LARGEST >> 20} MiB)",
                hint="Write both versions to files with 'holdfast dump' and compare those.",
            )
    return b"".join(parts)


def _lines(data: bytes) -> list[str]:
    # Not str.splitlines, which also cuts at form feeds, U+2028 and the like.
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    last = lines.pop()
    return [line + "\n" for line in lines] + ([last] if last else [])
