"""Everything that was written to a file system, brought to its medium by one call."""

from __future__ import annotations

import errno
import os

from holdfast.kernel.native import native as _native


def sync_file_system(fd: int) -> None:
    """Return when all that was written to the file system of an open file is on the medium; where the system can only
    do that for all file systems together (no Linux), for all of them. Raises ``OSError`` for what could not be written,
    as far as the system tells (Linux 5.8 and later: syncfs(2))."""
    if not (_native.sync(fd) if _native is not None else _by_library(fd)):
        os.sync()


def _by_library(fd: int) -> bool:
    import ctypes  # 5 ms, which those that have the extension save

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    if syncfs(fd) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.ENOSYS:
        return False
    raise OSError(code, os.strerror(code))
