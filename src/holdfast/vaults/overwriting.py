"""Whether a restore writes an item whose name is taken in the target. Pure."""

from __future__ import annotations

import os
import stat
from typing import Literal

from holdfast.vaults.base import Overwrite

Verdict = Literal["write", "keep", "same"]
"""``same``: what is there looks as the item does, and is a file, so that its content may be compared."""


def verdict(overwrite: Overwrite, found: os.stat_result, st_mode: int, mtime_ns: int, size: int) -> Verdict:
    """What to do about ``found``, which is no folder, where an item with the other values is to be."""
    if overwrite == Overwrite.NEVER:
        return "keep"
    if overwrite == Overwrite.IF_NEWER:
        return "write" if mtime_ns > found.st_mtime_ns else "keep"
    same_kind = stat.S_IFMT(found.st_mode) == stat.S_IFMT(st_mode)
    if overwrite == Overwrite.IF_CHANGED and same_kind and mtime_ns == found.st_mtime_ns:
        if not stat.S_ISREG(st_mode):
            return "keep"
        return "same" if size == found.st_size else "write"
    return "write"
