"""The steps that put a local file under its final name so that it survives power loss, and never half."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable

COPY_STEP = 1 << 20
"""Bytes copied at a time between file systems."""

_CANNOT_FLUSH = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY})
_CANNOT_LINK = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_CANNOT_SET_MODE = frozenset({errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def flush(file: int) -> None:
    """Bring an open file or folder to the medium. File systems that cannot are forgiven, as restic does."""
    try:
        if sys.platform == "darwin":
            import fcntl

            # On macOS fsync stops at the drive's own cache.
            with contextlib.suppress(OSError):
                fcntl.fcntl(file, fcntl.F_FULLFSYNC)
                return
        os.fsync(file)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise


def flush_path(path: str) -> None:
    """:func:`flush` for a file or folder by name."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flush(file)
    finally:
        os.close(file)


def make_folders(paths: Iterable[str], mode: int) -> None:
    """Make folders with their parents, and flush once each folder that got a new entry. Existing ones stay the same."""
    changed: dict[str, None] = {}
    for path in paths:
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            try:
                os.mkdir(folder, mode)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise
            changed[os.path.dirname(folder)] = None
    for folder in changed:
        flush_path(folder)


def seal(file: int, mode: int) -> None:
    """Give an open file its final mode where that is possible, then flush it: the mode is flushed along."""
    try:
        os.fchmod(file, mode)
    except OSError as error:
        if error.errno not in _CANNOT_SET_MODE:
            raise
    flush(file)


def create(path: str, data: memoryview, mode: int) -> None:
    """A new, flushed file of these bytes. After an error nothing is left."""
    file = _new(path)
    try:
        try:
            _write_all(file, data)
            seal(file, mode)
        finally:
            os.close(file)
    except BaseException:
        discard(path)
        raise


def create_copy(path: str, source: int, mode: int) -> None:
    """A new, flushed file with everything that the open file ``source`` holds. After an error nothing is left."""
    file = _new(path)
    try:
        try:
            offset = 0
            while piece := os.pread(source, COPY_STEP, offset):
                _write_all(file, memoryview(piece))
                offset += len(piece)
            seal(file, mode)
        finally:
            os.close(file)
    except BaseException:
        discard(path)
        raise


def place(path: str, final: str, *, exclusive: bool) -> None:
    """Move a sealed file to its final name in a folder that exists, and flush that folder.

    ``exclusive`` raises ``FileExistsError`` if the name is taken, by means of a hard link: a rename overwrites. File
    systems without hard links are left with looking first. Raises ``OSError``.
    """
    if exclusive:
        try:
            os.link(path, final, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
            if os.path.lexists(final):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), final) from error
            os.rename(path, final)
        else:
            os.unlink(path)
    else:
        os.rename(path, final)
    flush_path(os.path.dirname(final))


def discard(path: str) -> None:
    """Remove a file of ours that is not wanted any more, if that is possible."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _new(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]
