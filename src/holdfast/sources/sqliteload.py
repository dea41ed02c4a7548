"""Put a saved SQLite file in the place of a live one: atomically, with the former state kept aside."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Denied, Invalid, Locked
from holdfast.sources.sqlite import COMPANIONS
from holdfast.sources.sqlitecheck import check_file
from holdfast.sources.sqlitecopy import connect


def look(path: bytes, *, replace: bool) -> bool:
    """Whether there is something at ``path`` already. Raises ``Invalid`` where it may not be replaced."""
    if not os.path.lexists(path):
        return False
    shown = os.fsdecode(path)
    if os.path.islink(path) or not os.path.isfile(path):
        raise Invalid(f"{shown} is not a regular file", hint="Name the file itself.")
    if os.path.getsize(path) and not replace:
        raise Invalid(f"{shown} exists", hint="Name a new file, or give --replace: then the former one is kept aside.")
    return True


def put(path: bytes, pieces: Iterable[bytes], cancel: Cancel, *, mode: int, replace: bool, stamp: str) -> bytes:
    """Write a database to ``path``, which must be absolute. Returns where the former one is kept, or nothing.

    The new file is written beside, checked and made durable first; then it takes the name in one step, while the former
    one is locked and nobody else has it open. At any moment there is a whole database at ``path``; after a crash at
    most a hidden file ``.NAME.holdfast-...`` is left. The former file is kept as ``NAME.before-STAMP``, with all that
    was in its log. Raises ``Invalid``, ``Locked`` (somebody has it open), ``Corrupt`` (the saved one), ``Denied``.
    """
    exists = look(path, replace=replace)
    folder, name = os.path.split(path)
    fresh = os.path.join(folder, b"." + name + b".holdfast-" + os.urandom(4).hex().encode())
    try:
        try:
            _write(fresh, pieces, cancel, os.stat(path) if exists else None, mode)
            found = check_file(fresh)
            if found != "ok":
                raise Corrupt(
                    f"the saved database fails its integrity check: {found}",
                    hint="Restore it as a plain file (SNAPSHOT:PATH --target DIR), and look into it with sqlite3.",
                )
            kept = path + b".before-" + stamp.encode() if exists else b""
            with _alone(path) if exists else contextlib.nullcontext():
                if exists:
                    _keep(path, kept)
                os.replace(fresh, path)
            _sync(folder)
            return kept
        except OSError as error:
            raise Denied(f"cannot write {os.fsdecode(path)}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)


def _write(fresh: bytes, pieces: Iterable[bytes], cancel: Cancel, like: os.stat_result | None, mode: int) -> None:
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        for piece in pieces:
            cancel.check()
            file.write(piece)
        file.flush()
        if like is not None and os.geteuid() == 0:
            os.fchown(fd, like.st_uid, like.st_gid)
        os.fchmod(fd, (like.st_mode if like is not None else mode) & 0o7777)
        os.fsync(fd)


@contextmanager
def _alone(path: bytes) -> Iterator[None]:
    """Hold the live database for us alone, its log worked in. What SQLite cannot read needs no such care."""
    try:
        live = connect(path, "mode=rw")
    except sqlite3.Error:
        yield
        return
    with closing(live):
        try:
            # Turning the log off takes that nobody else has the database open; it removes -wal and -shm.
            live.execute("PRAGMA journal_mode = DELETE")
            live.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise Locked(
                    f"another program has {os.fsdecode(path)} open", hint="Stop that program, then try again."
                ) from error
        yield
        with contextlib.suppress(sqlite3.Error):
            live.execute("ROLLBACK")


def _keep(path: bytes, kept: bytes) -> None:
    """Give the former file, and what is beside it, another name as well; what is beside it loses its own."""
    try:
        os.link(path, kept)
    except PermissionError:  # a file system without hard links
        shutil.copy2(path, kept)
    for ending in COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + ending, kept + ending)


def _sync(folder: bytes) -> None:
    fd = os.open(folder or b".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
