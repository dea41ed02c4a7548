"""The lock of a vault of plain files: one writer or several readers at a time, gone with its process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from holdfast.files.safepath import translated
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Locked
from holdfast.vaults.versioned.layout import Layout

_NO_LOCKS = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})
"""What file systems without locks say: there is nothing to wait for then."""

_PAUSE = 0.2  # seconds between two tries while waiting


@contextlib.contextmanager
def locked(
    layout: Layout, *, exclusive: bool, clock: Clock, patience: float = 0.0, cancel: Cancel | None = None
) -> Iterator[None]:
    """Hold the lock. It is the kernel's (``flock``), so a process that is killed leaves nothing behind.

    Waits up to ``patience`` seconds, then raises ``Locked``. Readers need no permission to write; where the lock file
    is missing (a read-only copy of a vault) they go without.
    """
    try:
        fd = _open(layout, exclusive)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise translated(error, "lock the vault", layout.root) from error
    try:
        _acquire(fd, layout, exclusive, clock, patience, cancel)
        if exclusive:
            with contextlib.suppress(OSError):  # for people who wonder; nothing depends on it
                os.ftruncate(fd, 0)
                os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(fd)


def _open(layout: Layout, exclusive: bool) -> int:
    if exclusive:
        return os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    return os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _acquire(fd: int, layout: Layout, exclusive: bool, clock: Clock, patience: float, cancel: Cancel | None) -> None:
    deadline = clock.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise translated(error, "lock the vault", layout.root) from error
        if cancel is not None:
            cancel.check()
        if clock.monotonic() >= deadline:
            holder = os.pread(fd, 32, 0).strip().decode("ascii", "replace")
            shown = f"process {holder}" if holder else "another process"
            raise Locked(
                f"The vault {os.fsdecode(layout.root)} is in use by {shown}.",
                hint="Wait until it is done, or give --retry-lock 10m. The lock goes when that process ends.",
                holder=holder,
            )
        clock.sleep(_PAUSE)
