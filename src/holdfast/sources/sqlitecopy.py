"""Take one consistent copy of a live SQLite file by the online backup API, which is checked while it is read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote_from_bytes

from holdfast.format.node import Stat
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.values import dataclass
from holdfast.sources.sqlite import JOURNAL, WAL, Unfit, file_head
from holdfast.sources.sqlitecheck import Checking

WAIT = 5.0
"""Seconds that a locked database is waited for (the default of SQLite's own bindings for Python)."""

_WAL_VERSION = 18  # offset in the header: 2 is write-ahead logging (https://www.sqlite.org/fileformat2.html)
_MOST_PATH = 500  # SQLite takes paths of up to 512 bytes with the names of companions
_STEP = 16 << 20  # bytes that are copied between two looks at the stop button
_RESTARTS = 3  # a writer makes the copy begin anew; after this many it is made in one go, which keeps writers waiting
_SPARE = 16 << 20
_SCRATCH = "holdfast-sqlite-"


@dataclass(frozen=True, slots=True)
class Copy:
    """A consistent copy of ``size`` bytes in an open file, alone in a folder at ``path``, and its integrity check,
    which goes on meanwhile: the file stays where it is until that has its result."""

    fd: int
    size: int
    check: Checking
    path: bytes


@contextmanager
def consistent_copy(path: bytes, st: Stat, cancel: Cancel, wait: float = WAIT) -> Iterator[Copy]:
    """Copy a live database as of one instant, write-ahead log included, into a scratch file, and begin to check it.

    In write-ahead mode writers go on meanwhile. Nothing is written into the database: it is opened read-only (or, with
    a log still to be made, in the way that removes the log again). Raises ``Unfit`` and ``Cancelled``. The scratch file
    is removed on leaving; what a killed process left is removed by the next one.
    """
    if len(path) > _MOST_PATH:
        raise Unfit("its path is too long for SQLite", failed=False)
    log = _size(path + WAL)
    with _scratch(st.st_size + log) as scratch:
        try:
            with closing(_open(path, log)) as live:
                live.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}")
                _copy(live, scratch, cancel, wait)
            if os.lstat(path).st_ino != st.st_ino:
                raise Unfit("was replaced while it was being saved", failed=True)
            fd = os.open(scratch, os.O_RDONLY | os.O_CLOEXEC)
        except sqlite3.Error as error:
            raise _translated(error, wait) from error
        except OSError as error:
            raise Unfit(error.strerror or str(error), failed=True) from error
        try:
            with Checking(scratch) as check:
                yield Copy(fd, os.fstat(fd).st_size, check, scratch)
        finally:
            os.close(fd)


def connect(path: bytes, mode: str) -> sqlite3.Connection:
    """Open by a query of SQLite's URI (``mode=ro``, ``immutable=1``), in autocommit."""
    return sqlite3.connect(f"file:{quote_from_bytes(path)}?{mode}", uri=True, isolation_level=None, timeout=WAIT)


def _open(path: bytes, log: int) -> sqlite3.Connection:
    if os.statvfs(path).f_flag & os.ST_RDONLY and not log:
        return connect(path, "immutable=1")  # nobody can write there, and no log can be made
    if _size(path + JOURNAL) or log:
        return connect(path, "mode=ro")
    # Read-only would leave an empty log and its index behind; this way the last to close removes them.
    mode = "rw" if file_head(path, None, 20)[_WAL_VERSION : _WAL_VERSION + 1] == b"\2" else "ro"
    return connect(path, f"mode={mode}")


def _copy(live: sqlite3.Connection, scratch: bytes, cancel: Cancel, wait: float) -> None:
    live.execute("PRAGMA query_only = 1")
    in_wal = live.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    page = live.execute("PRAGMA page_size").fetchone()[0]
    if in_wal:
        live.execute("BEGIN")
        live.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # from here on we see one instant
    step = max(1, _STEP // page)
    for attempt in range(_RESTARTS + 1):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        with closing(sqlite3.connect(scratch, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            try:
                minder = _Minder(cancel, wait)
                live.backup(copy, pages=-1 if attempt == _RESTARTS else step, progress=minder.look, sleep=0.05)
                return
            except _Restarted:
                continue


class _Restarted(Exception):
    """A writer changed the database between two steps."""


class _Minder:
    """Called after every step: Python's loop would wait for a lock for ever."""

    def __init__(self, cancel: Cancel, wait: float) -> None:
        self._cancel = cancel
        self._wait = wait
        self._moved = time.monotonic()
        self._left: int | None = None

    def look(self, status: int, left: int, _total: int) -> None:
        self._cancel.check()
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            if time.monotonic() - self._moved > self._wait:
                raise Unfit(_LOCKED.format(self._wait), failed=True)
            return
        self._moved = time.monotonic()
        if self._left is not None and left >= self._left:
            raise _Restarted
        self._left = left


_LOCKED = "another program kept it locked for {:g} s"


def _translated(error: sqlite3.Error, wait: float) -> Unfit:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unfit(_LOCKED.format(wait), failed=True)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return Unfit(f"SQLite cannot read it ({error}): damaged or encrypted", failed=False)
    if code == sqlite3.SQLITE_FULL:
        return Unfit("there is no room for a scratch copy; set TMPDIR to a folder with more", failed=True)
    return Unfit(f"SQLite cannot copy it ({error})", failed=True)


@contextmanager
def _scratch(size: int) -> Iterator[bytes]:
    """The path of a file that is not there yet, in a folder of its own with room for ``size`` bytes."""
    above = _scratch_place()
    _sweep(above)
    room = os.statvfs(above)
    if room.f_bavail * room.f_frsize < size + _SPARE:
        raise Unfit(f"{above} has no room for a scratch copy; set TMPDIR to a folder with more", failed=True)
    folder = tempfile.mkdtemp(prefix=_SCRATCH, dir=above)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield os.fsencode(os.path.join(folder, "copy"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _scratch_place() -> str:
    """``TMPDIR``, or /var/tmp, which unlike /tmp is on a disk everywhere."""
    if "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK | os.X_OK):
        return "/var/tmp"
    return tempfile.gettempdir()


def _sweep(above: str) -> None:
    """Remove what processes of ours that were killed left there: their locks are gone with them."""
    with contextlib.suppress(OSError), os.scandir(above) as listed:
        left = [entry for entry in listed if entry.name.startswith(_SCRATCH)]
        for entry in left:
            st = entry.stat(follow_symlinks=False)
            # a minute: between making a folder and locking it, it looks like one that was left
            if st.st_uid != os.geteuid() or not entry.is_dir(follow_symlinks=False) or time.time() - st.st_mtime < 60:
                continue
            lock = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
            except BlockingIOError:
                pass
            finally:
                os.close(lock)


def _size(path: bytes) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
