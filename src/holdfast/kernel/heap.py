"""Advice to the C library's memory allocator."""

from __future__ import annotations

_JUST_BELOW_LIMIT = 33_538_048  # glibc's largest dynamic threshold is 32 MiB


def keep_large_blocks() -> None:
    """Let freed blocks of several megabytes be used again instead of going back to the system.

    glibc maps every block above a threshold anew, and every page of it faults on first use: sealing 1 MiB blobs ran at
    1.0 GB/s so, and at 1.7 GB/s after this. The threshold follows the largest mapped block that was freed (mallopt(3),
    M_MMAP_THRESHOLD), so freeing one such block, untouched, raises it. Other C libraries are not harmed by it.
    """
    block = bytes(_JUST_BELOW_LIMIT)
    del block
