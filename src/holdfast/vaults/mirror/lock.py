"""One run at a time in a mirror: a lock that the system gives back when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Denied, HoldfastError, Locked, NotFound
from holdfast.vaults.marker import FOLDER

NAME = b"lock"
_POLL_SECONDS = 0.25
_NO_NEED = frozenset({errno.ENOENT, errno.EROFS, errno.EACCES, errno.EPERM})


@contextlib.contextmanager
def hold(root: bytes, *, exclusive: bool, patience: float, clock: Clock, cancel: Cancel | None) -> Iterator[None]:
    """Hold the mirror's lock: alone to write, together with other readers to read.

    Waits ``patience`` seconds for others, then raises ``Locked``. Readers change nothing: where nobody ever wrote, or
    on a read-only medium, they need no lock. Raises ``Denied``, ``NotFound``, ``Cancelled``.

    What a writer says of itself in the file goes when it is done: see :func:`unfinished`.
    """
    path = os.path.join(root, FOLDER, NAME)
    flags = os.O_RDWR | os.O_CREAT if exclusive else os.O_RDONLY
    try:
        file = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if exclusive or error.errno not in _NO_NEED:
            raise _cannot(path, error) from error
        yield
        return
    try:
        deadline = clock.monotonic() + patience
        while not _take(file, exclusive):
            if cancel is not None:
                cancel.check()
            left = deadline - clock.monotonic()
            if left <= 0:
                raise _locked(root, file)
            clock.sleep(min(left, _POLL_SECONDS))
        if exclusive:
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps({"pid": os.getpid(), "host": os.uname().nodename}).encode(), 0)
        yield
        if exclusive:
            os.ftruncate(file, 0)
    finally:
        os.close(file)


def _cannot(path: bytes, error: OSError) -> HoldfastError:
    words = f"cannot lock the mirror: {os.fsdecode(path)}: {error.strerror}"
    if error.errno == errno.ENOENT:
        return NotFound(words, hint="It is gone: removed, or its disk is no longer mounted.")
    if error.errno == errno.EROFS:
        return Denied(words, hint="The file system is mounted read-only; after an error Linux does that by itself.")
    return Denied(words, hint="Look at the owner and the permissions of the mirror, or run it as another user.")


def unfinished(root: bytes) -> bool:
    """Whether the last one who wrote was killed or failed, so that the state may not know all that is in the tree.

    The caller holds the lock; a run that goes on without that counts as unfinished, which it is.
    """
    try:
        return os.stat(os.path.join(root, FOLDER, NAME)).st_size > 0
    except OSError:
        return False


def _take(file: int, exclusive: bool) -> bool:
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise
    return True  # also on file systems without locks: there is nothing to wait for


def _locked(root: bytes, file: int) -> Locked:
    who = ""
    with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
        owner = json.loads(os.pread(file, 4096, 0))
        who = f" by process {int(owner['pid'])} on {owner['host']}"
    return Locked(
        f"the mirror {os.fsdecode(root)} is in use{who}",
        hint="Wait until that run has ended, or give --retry-lock 10m.",
        location=os.fsdecode(root),
    )
