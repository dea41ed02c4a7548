"""A finished local file whose bytes a storage elsewhere takes over."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.kernel.errors import Invalid
from holdfast.storage.oserrors import printable, translated


@contextmanager
def handed_over(path: str) -> Iterator[memoryview]:
    """The bytes of the regular file at ``path``, without reading them into memory; the file goes if the block succeeds.

    After an exception in the block it is still there, unchanged. Raises ``NotFound`` for a missing file and ``Invalid``
    for a link or a folder.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise translated(error, "read", path) from error
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise Invalid(f"not a regular file: {printable(path)}", path=printable(path))
        if status.st_size:
            # Not closed by us: slices of it may still be in a request that broke off. It goes with the last of them.
            yield memoryview(mmap.mmap(file, status.st_size, access=mmap.ACCESS_READ))
        else:
            yield memoryview(b"")
    finally:
        os.close(file)
    try:
        os.unlink(path)
    except OSError as error:
        raise translated(error, "remove", path) from error
