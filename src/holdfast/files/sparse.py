"""Writing at an offset, with runs of zeros left as holes."""

from __future__ import annotations

import os

PAGE = 4096
"""The block size of nearly every file system, so the smallest hole that saves anything."""

_ZEROS = bytes(PAGE)


def write_at(fd: int, offset: int, data: bytes | memoryview) -> None:
    """Write all of ``data`` at ``offset``. Raises ``OSError``."""
    written = os.pwrite(fd, data, offset)
    if written < len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.pwrite(fd, view[written:], offset + written)


def write_sparse(fd: int, offset: int, data: bytes | memoryview) -> int:
    """Write ``data`` at ``offset`` but for whole, aligned pages of zeros; returns how many bytes were written.

    The file must be new there (a hole), and have its full length already or be given it afterwards by ``ftruncate``:
    zeros at its end leave no trace. Raises ``OSError``. Looks at one byte a page first, so data without zero
    pages cost next to nothing.
    """
    size = len(data)
    lead = -offset % PAGE
    last_bytes = bytes(data[lead + PAGE - 1 :: PAGE])
    if 0 not in last_bytes:
        write_at(fd, offset, data)
        return size
    view = memoryview(data)
    start = written = 0
    at = last_bytes.find(0)
    while at >= 0:
        page = lead + at * PAGE
        if bytes(view[page : page + PAGE]) == _ZEROS:
            if page > start:
                write_at(fd, offset + start, view[start:page])
                written += page - start
            start = page + PAGE
        at = last_bytes.find(0, at + 1)
    if start < size:
        write_at(fd, offset + start, view[start:])
        written += size - start
    return written
