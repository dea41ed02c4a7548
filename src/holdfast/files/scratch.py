"""A private, marked folder for work that leaves nothing behind, and the removal of those that killed processes left."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from holdfast.files.placing import remove_entry
from holdfast.files.safepath import open_own_directory
from holdfast.files.small import has_extension
from holdfast.kernel.errors import Denied, Invalid, NoSpace
from holdfast.kernel.pool import Pool, default_size
from holdfast.kernel.threads import map_in_threads
from holdfast.kernel.values import dataclass

PREFIX = b"holdfast-drill-"
MARK = b".holdfast-drill"
"""The file that says whose folder it is. It is locked while its process lives; the kernel ends the lock with it."""

_NEW = MARK + b".new"
_KEPT = MARK + b".kept"
_UNFINISHED_SECONDS = 3600.0  # between making a folder and its mark lies less than a second
_LONGEST = 1 << 16
_LEVELS, _ENOUGH_FOLDERS = 12, 64  # folders on one level: then several remove faster than one
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Left:
    """A folder of a dead process that was removed, and the notes that were in its mark."""

    path: bytes
    notes: dict[str, Any]


class Scratch:
    """An open scratch folder. ``path`` is absolute; what is made in it goes away with it."""

    def __init__(self, path: bytes, mark: int, notes: dict[str, Any]) -> None:
        self.path = path
        self._mark = mark
        self._notes = notes
        self.kept = False

    def note(self, **notes: Any) -> None:
        """Write into the mark what whoever removes this folder after our death has to know. Durable on return. Raises
        ``NoSpace``, ``Denied``."""
        self._notes.update(notes)
        try:
            os.pwrite(self._mark, json.dumps(self._notes).encode(), 0)  # notes are only added: it grows
            os.fsync(self._mark)
        except OSError as error:
            kind = NoSpace if error.errno in _FULL else Denied
            message = f"cannot write into the scratch folder {os.fsdecode(self.path)}: {error.strerror}"
            raise kind(message, hint="Name another with --scratch.") from error

    def add(self, key: str, value: Any) -> None:
        """Add to a list among the notes."""
        self.note(**{key: [*self._notes.get(key, ()), value]})

    def keep(self) -> None:
        """Let the folder stay when this one is left: nobody removes it any more but its user."""
        os.rename(os.path.join(self.path, MARK), os.path.join(self.path, _KEPT))
        self.kept = True


@contextmanager
def scratch_folder(base: bytes, *, owner: tuple[int, int] | None = None) -> Iterator[Scratch]:
    """A new empty folder (0700) in ``base``, which is made if it is missing; removed on leaving, unless it is kept.

    ``owner`` (user, group) gets the folder, and can do in it as it likes; the mark stays ours. Raises ``Denied``,
    ``Invalid``, ``NoSpace``. After a kill :func:`sweep` removes it.
    """
    shown = os.fsdecode(base)
    try:
        os.makedirs(base, 0o700, exist_ok=True)
        path = os.path.join(os.path.abspath(base), PREFIX + os.urandom(5).hex().encode())
        os.mkdir(path, 0o700)
        mark = _mark(path)
    except NotADirectoryError:
        raise Invalid(f"{shown} is no folder", hint="Name another folder with --scratch.") from None
    except FileExistsError:
        raise Invalid(f"{shown} is no folder", hint="Name another folder with --scratch.") from None
    except OSError as error:
        kind = NoSpace if error.errno in _FULL else Denied
        raise kind(f"cannot make a folder in {shown}: {error.strerror}", hint="Name another with --scratch.") from error
    scratch = Scratch(path, mark, {})
    try:
        scratch.note(pid=os.getpid(), began=time.time_ns())
        if owner is not None:
            os.chown(path, *owner)
        yield scratch
    finally:
        try:
            if not scratch.kept:
                remove(path)
        finally:
            os.close(mark)


def sweep(base: bytes) -> list[Left]:
    """Remove the folders in ``base`` that belong to no living process. What cannot be removed stays, silently.

    Only folders of ours (name, owner and mark say so) are touched, links are not followed, and what is mounted in one
    keeps it from being removed.
    """
    found: list[Left] = []
    try:
        names = [name for name in map(os.fsencode, os.listdir(base)) if name.startswith(PREFIX)]
    except OSError:
        return found
    for name in sorted(names):
        path = os.path.join(base, name)
        with contextlib.suppress(OSError):
            st = os.lstat(path)
            if stat.S_ISDIR(st.st_mode) and (st.st_uid == os.geteuid() or os.geteuid() == 0):
                notes = _sweep_one(path, st)
                if notes is not None:
                    found.append(Left(path, notes))
    return found


def remove(path: bytes) -> None:
    """Remove a scratch folder, whatever permissions are in it, the mark last: killed here, it is still known as ours.

    Large ones by several threads or processes. Raises ``OSError``. Links are not followed, and mounts stop it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _remove_together(fd)
        for name in map(os.fsencode, os.listdir(fd)):
            if name != MARK:
                remove_entry(fd, name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(MARK, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(path)


def _remove_together(top: int) -> None:
    """Have threads remove folders far below, where there are many; what they leave is for the caller.

    Without the extension, which lets go of the interpreter's lock, processes do it.
    """
    size = default_size(0)
    if size < 2 or (not has_extension() and threading.active_count() > 1):
        return
    level: list[tuple[bytes, ...]] = [()]
    for _ in range(_LEVELS):
        inner = [(*folder, name) for folder in level for name in _folders(top, folder)]
        if not inner:
            return
        level = inner
        if len(level) >= _ENOUGH_FOLDERS:
            break
    if len(level) < _ENOUGH_FOLDERS:
        return
    if has_extension():
        map_in_threads(lambda folder: _remove_below(top, folder), level)
        return

    def start() -> Callable[[tuple[bytes, ...]], list[None]]:
        return lambda folder: _remove_below(top, folder)

    with Pool(start, size) as pool:
        for folder in level:
            pool.submit(folder)
        for _ in pool.results():
            pass


def _folders(top: int, folder: tuple[bytes, ...]) -> list[bytes]:
    with contextlib.suppress(OSError), _entered(top, folder) as fd, os.scandir(fd) as entries:
        return [os.fsencode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _remove_below(top: int, folder: tuple[bytes, ...]) -> list[None]:
    with contextlib.suppress(OSError), _entered(top, folder[:-1]) as fd:
        remove_entry(fd, folder[-1])
    return []


@contextmanager
def _entered(top: int, folder: tuple[bytes, ...]) -> Iterator[int]:
    """A descriptor of a folder below ``top``, without following a link on the way."""
    fd = os.dup(top)
    try:
        for name in folder:
            inner = open_own_directory(fd, name)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _mark(path: bytes) -> int:
    """Make and lock the mark; it gets its name when it is locked, so that nobody takes it for a dead one's."""
    mark = os.open(os.path.join(path, _NEW), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(mark, fcntl.LOCK_EX)
    os.rename(os.path.join(path, _NEW), os.path.join(path, MARK))
    return mark


def _sweep_one(path: bytes, st: os.stat_result) -> dict[str, Any] | None:
    """Remove one folder if it is a dead process's; returns its notes then."""
    try:
        mark = os.open(os.path.join(path, MARK), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        unfinished = set(os.listdir(path)) <= {os.fsdecode(_NEW)} and time.time() - st.st_mtime > _UNFINISHED_SECONDS
        if not unfinished:
            return None
        remove(path)
        return {}
    try:
        if os.fstat(mark).st_uid != os.geteuid():
            return None
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: it is alive
        try:
            notes = json.loads(os.pread(mark, _LONGEST, 0))
        except ValueError:
            notes = {}
        remove(path)
        return notes if isinstance(notes, dict) else {}
    finally:
        os.close(mark)
