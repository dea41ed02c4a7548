"""Small files of our own, written whole: in place of what is there, or only where nothing is."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from holdfast.kernel.errors import Denied, HoldfastError, NoSpace


def replace_file(path: Path, data: bytes, mode: int, *, flush: bool = True) -> None:
    """Put ``data`` under ``path`` with the permissions ``mode``. Raises ``OSError``; what was there stays then.

    After a crash it is the old file or the new one, whole; without ``flush`` only unless the power failed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        _write(temporary, data, mode, os.O_TRUNC, flush=flush)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if flush:
        _flush_folder(path.parent)


def create_file(path: Path, data: bytes, mode: int) -> None:
    """The same, durably, where nothing is there yet, with the folders (0700) above it. Raises ``OSError``:
    ``FileExistsError`` where something is. After a crash the file is absent or whole."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    _write(temporary, data, mode, os.O_EXCL, flush=True)
    try:
        os.link(temporary, path)  # unlike rename, it refuses to replace what is there
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def cannot_write(place: object, error: OSError) -> HoldfastError:
    """The failure to write, in our words."""
    kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else Denied
    return kind(f"cannot write {place}: {error.strerror}")


def _write(path: Path, data: bytes, mode: int, flag: int, *, flush: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | flag, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)  # whatever the umask says
        file.write(data)
        file.flush()
        if flush:
            os.fsync(fd)


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some file systems cannot flush a folder
            os.fsync(folder)
    finally:
        os.close(folder)
