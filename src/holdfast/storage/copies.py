"""A folder of copies on local disk: files named by their SHA-256, in bounds, for any number of processes at once.

Nothing here may break what uses it. A copy that is damaged, or that cannot be read, counts as missing and is removed;
what cannot be written is not kept, and somebody is told so once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING

from holdfast.kernel.clock import Clock
from holdfast.storage.base import STAGING_PREFIX, TEMPORARY, is_hash

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_HOUR_NS = 3600 * 1_000_000_000
_DAY_NS = 24 * _HOUR_NS
_USED_AGAIN_NS = _HOUR_NS  # how exactly the last use of a copy is remembered
_JOURNAL_STEP = 1 << 20  # bytes added between two entries in the journal of growth
_SHARE_BETWEEN_TRIMS = 16  # a trim looks at every file: once for each 16th of the limit that was added
_TRIMMED_TO = 0.9
_SPARE_BYTES = 256 << 20  # left free on the disk: somebody else will want it, and packs are built here as well
_PIECE = 1 << 20
_JOURNAL = "grown"
_SPOOL = "spool"
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class CopyFolder:
    """Copies of the files of one place, in a folder of their own beneath ``root``, which all places share.

    ``limit`` bounds the bytes beneath ``root``; those that were not used for longest go first. Names are those of the
    place and end with the SHA-256 of the content. Folders are 0700 and files 0600. Nothing is made before the first
    copy. ``tell`` gets a sentence, at most once, in the process that made this object.
    """

    def __init__(self, root: str, place: str, *, limit: int, clock: Clock, tell: Callable[[str], None]) -> None:
        self._root = root.rstrip("/") + "/"
        self._folder = f"{self._root}{sha256(os.fsencode(place)).hexdigest()}/"
        self._limit = limit
        self._clock = clock
        self._tell = tell
        self._owner = os.getpid()
        self._reason = mmap.mmap(-1, 1)  # why a copy could not be kept (errno), from any forked process
        self._told = False
        self._usable = True
        self._proven: set[str] = set()  # copies whose whole content was found right by this process
        self._added = 0

    def read(self, name: str) -> bytes | None:
        """The whole content, found right, or None without a copy."""
        file = self._open(name)
        if file < 0:
            return None
        try:
            data = os.pread(file, os.fstat(file).st_size, 0)
        except OSError:
            data = b""
        finally:
            os.close(file)
        if sha256(data).hexdigest() == name[-64:]:
            return data
        self.drop(name)
        return None

    def open(self, name: str) -> int:
        """A descriptor for reading ranges, which the caller closes, or -1 without a copy.

        The whole content is proved at the first call in each process: 12 ms for 16 MiB.
        """
        file = self._open(name)
        if file < 0 or name in self._proven:
            return file
        try:
            right = _digest(file) == name[-64:]
        except OSError:
            right = False
        if right:
            self._proven.add(name)
            return file
        os.close(file)
        self.drop(name)
        return -1

    def put(self, name: str, data: ReadableBuffer) -> bool:
        """Keep a copy; whether that worked. The content is not looked at."""
        path = self._spare()
        if path is None:
            return False
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                view = memoryview(data).cast("B")
                while view:
                    view = view[os.write(file, view) :]
            finally:
                os.close(file)
        except OSError as error:
            self._fail(error)
            _discard(path)
            return False
        return self.settle(path, name)

    def second(self, path: str) -> str | None:
        """A second name for the finished local file ``path`` (a copy where the file system needs one).

        Give it to :meth:`settle` or :meth:`discard`. None if that cannot be.
        """
        spare = self._spare()
        if spare is None:
            return None
        try:
            try:
                os.link(path, spare, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                    raise
                _copy(path, spare)
        except OSError as error:
            self._fail(error)
            _discard(spare)
            return None
        return spare

    def settle(self, path: str, name: str) -> bool:
        """Make a file that :meth:`second` gave the copy of ``name``; whether that worked."""
        final = self._folder + name
        try:
            size = os.stat(path).st_size
            try:
                os.replace(path, final)
            except FileNotFoundError:
                _make_folder(os.path.dirname(final))
                os.replace(path, final)
        except OSError as error:
            self._fail(error)
            _discard(path)
            return False
        self._proven.discard(name)
        self._grow(size)
        return True

    @staticmethod
    def discard(path: str) -> None:
        """Remove a file that :meth:`second` gave."""
        _discard(path)

    def drop(self, name: str) -> None:
        """Remove the copy, if there is one."""
        self._proven.discard(name)
        _discard(self._folder + name)

    def drop_others(self, folder: str, names: set[str]) -> None:
        """Remove the copies beneath ``folder`` that are none of ``names``.

        Those of the last hour stay: they may be newer than the list.
        """
        before = self._clock.now_ns() - _HOUR_NS
        for path, st in _files(os.path.join(self._folder, folder)):
            name = path[len(self._folder) :]
            if name not in names and is_hash(name) and st.st_mtime_ns < before:
                self.drop(name)

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """One process or thread at a time that fetches ``name``; the others wait here, and then look for the copy.

        Where the file system has no locks nobody waits.
        """
        file = -1
        path = f"{self._folder}{_SPOOL}/{STAGING_PREFIX}{name[-64:]}"
        try:
            if self.spool() is not None:
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass
        try:
            yield
        finally:
            if file >= 0:
                _discard(path)
                os.close(file)

    def spool(self) -> str | None:
        """A private folder beside the copies (made on demand) to prepare files in, or None if that cannot be, or if the
        disk is so full that it might not do."""
        if not self._usable:
            return None
        folder = self._folder + _SPOOL
        try:
            _make_folder(folder)
            disk = os.statvfs(folder)
            if disk.f_bavail * disk.f_frsize < _SPARE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._fail(error)
            return None
        return folder

    def trim(self) -> None:
        """Remove what was not used for longest until the limit is kept, and unfinished files that are a day old."""
        now = self._clock.now_ns()
        found: list[tuple[int, int, str]] = []
        total = 0
        for path, st in _files(self._root):
            if is_hash(path):
                found.append((st.st_mtime_ns, st.st_size, path))
                total += st.st_size
            elif TEMPORARY.fullmatch(os.path.basename(path)) and st.st_mtime_ns < now - _DAY_NS:
                _discard(path)
        if total > self._limit:
            found.sort()
            for _, size, path in found:
                if total <= self._limit * _TRIMMED_TO:
                    break
                _discard(path)
                total -= size

    def close(self) -> None:
        """Note how much was added, trim if it is time, and say what went wrong in forked processes."""
        self._note_growth()
        if self._reason[0]:
            self._say(self._reason[0])

    def _open(self, name: str) -> int:
        path = self._folder + name
        try:
            file = os.open(path, _READ)
        except OSError:
            return -1
        now = self._clock.now_ns()
        if os.fstat(file).st_mtime_ns < now - _USED_AGAIN_NS:
            with contextlib.suppress(OSError):
                os.utime(path, ns=(now, now))
        return file

    def _spare(self) -> str | None:
        """The path of a new file in the spool folder."""
        folder = self.spool()
        return None if folder is None else f"{folder}/{STAGING_PREFIX}{os.urandom(8).hex()}"

    def _grow(self, size: int) -> None:
        self._added += size
        if self._added >= _JOURNAL_STEP:
            self._note_growth()

    def _note_growth(self) -> None:
        """Write into the journal how much was added; all processes together trim when it is a sixteenth of the limit.

        Losing entries, or trimming twice at once, does no harm.
        """
        added, self._added = self._added, 0
        if not added:
            return
        journal = self._root + _JOURNAL
        try:
            file = os.open(journal, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(file, added.to_bytes(8, "little"))
                entries = os.pread(file, os.fstat(file).st_size, 0)
                grown = sum(int.from_bytes(entries[at : at + 8], "little") for at in range(0, len(entries), 8))
                if grown < self._limit // _SHARE_BETWEEN_TRIMS:
                    return
                os.ftruncate(file, 0)
            finally:
                os.close(file)
        except OSError as error:
            self._fail(error)
        self.trim()

    def _fail(self, error: OSError) -> None:
        """Keep no more copies in this process, and see to it that somebody hears why."""
        self._usable = False
        reason = min(error.errno or errno.EIO, 255)
        if os.getpid() == self._owner:
            self._say(reason)
        else:
            self._reason[0] = reason

    def _say(self, reason: int) -> None:
        if not self._told:
            self._told = True
            self._tell(
                f"The cache {self._root.rstrip('/')} cannot be written ({os.strerror(reason).lower()}): "
                "everything works, but what the vault holds is fetched again each time."
            )


def _make_folder(path: str) -> None:
    """Make a folder and those above it, all of them for the owner alone."""
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        _make_folder(os.path.dirname(path))
        _make_folder(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def _digest(file: int) -> str:
    digest = sha256()
    piece = bytearray(_PIECE)
    view = memoryview(piece)
    at = 0
    while count := os.preadv(file, [view], at):
        digest.update(view[:count])
        at += count
    return digest.hexdigest()


def _copy(path: str, target: str) -> None:
    with open(path, "rb") as source, open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while piece := source.read(_PIECE):
            file.write(piece)


def _files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Path and status of every file beneath ``folder``; what vanishes meanwhile, or cannot be read, is passed over."""
    pending = [folder.rstrip("/")]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                        elif entry.is_file(follow_symlinks=False):
                            yield entry.path, entry.stat(follow_symlinks=False)
        except OSError:
            continue


def _discard(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
