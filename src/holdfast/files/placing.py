"""Entries of one open directory: put in place of what stands there, or removed with all that is below."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count

from holdfast.files.safepath import open_own_directory
from holdfast.kernel.native import native as _native

TEMPORARY = b".holdfast-tmp-"
"""How unfinished files are called; a crash may leave some."""

_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
_DEEPEST = 64
"""How many directories are held open while a tree is removed; deeper ones are first moved up."""


def temporary_names() -> Iterator[bytes]:
    """Endless names for unfinished entries that nobody else uses: 64 random bits and a counter."""
    start = TEMPORARY + os.urandom(8).hex().encode()
    return (b"%b-%x" % (start, number) for number in count())


def place(directory: int, name: bytes, make: Callable[[int, bytes], None], names: Iterator[bytes] | None) -> None:
    """Call ``make(directory, name)``. If the name is taken, and ``names`` gives temporary ones, make the new entry
    under one of those and put it in the old one's place atomically. Raises ``OSError``."""
    try:
        make(directory, name)
    except FileExistsError:
        if names is None:
            raise
        temporary = next(names)
        make(directory, temporary)
        try:
            settle(directory, temporary, name, replace=True)
        finally:  # it is still there after an error, and where both were links to one file: rename does nothing then
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)


def settle(directory: int, temporary: bytes, name: bytes, *, replace: bool) -> None:
    """Give the finished entry ``temporary`` its ``name``. Raises ``OSError``, and then it keeps the temporary one.

    With ``replace`` a file of that name is replaced atomically, and an empty directory removed first. Without, the
    name must be free: a hard link sees to that; where there are none, a look before renaming.
    """
    if replace:
        try:
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=directory)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        return
    try:
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        with suppress(FileNotFoundError):
            os.stat(name, dir_fd=directory, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    else:
        os.unlink(temporary, dir_fd=directory)


def remove_entry(directory: int, name: bytes) -> None:
    """Remove ``name`` with everything below. Follows no link, stops with ``EBUSY`` before another file system, and
    opens up directories that forbid it to their owner. Raises ``OSError``; what is gone by then stays gone."""
    try:
        os.unlink(name, dir_fd=directory)
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):  # what Linux and macOS say of a directory
            raise
        refused = error
    try:
        top = open_own_directory(directory, name)
    except NotADirectoryError:
        raise refused from None
    try:
        _same_file_system(directory, top)
        names = temporary_names()
        pending = _empty(top, top, names, 0)
        while pending:
            deep = pending.pop()
            fd = open_own_directory(top, deep)
            try:
                pending += _empty(fd, top, names, 0)
            finally:
                os.close(fd)
            os.rmdir(deep, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=directory)


def _clear(directory: int) -> list[bytes]:
    """Remove all that is no directory; returns the directories."""
    with os.scandir(directory) as entries:
        found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_dir in found:
        if not is_dir:
            os.unlink(name, dir_fd=directory)
    return [name for name, is_dir in found if is_dir]


def _empty(directory: int, top: int, names: Iterator[bytes], depth: int) -> list[bytes]:
    """Remove what is in ``directory``; too deep ones are moved to ``top`` instead, under the names returned."""
    moved = []
    for name in _native.clear(directory) if _native is not None else _clear(directory):
        child = open_own_directory(directory, name)
        try:
            _same_file_system(directory, child)
            if depth < _DEEPEST:
                moved += _empty(child, top, names, depth + 1)
        finally:
            os.close(child)
        if depth < _DEEPEST:
            os.rmdir(name, dir_fd=directory)
        else:
            moved.append(next(names))
            os.rename(name, moved[-1], src_dir_fd=directory, dst_dir_fd=top)
    return moved


def _same_file_system(above: int, directory: int) -> None:
    if os.fstat(above).st_dev != os.fstat(directory).st_dev:
        raise OSError(errno.EBUSY, "another file system is mounted here")
