"""Writing back: files, links and devices under one root, and nothing outside of it whatever a snapshot says."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from holdfast.files.placing import place, remove_entry, settle, temporary_names
from holdfast.files.safepath import Directories, check_name, split, translated
from holdfast.files.small import write_small
from holdfast.files.syncing import sync_file_system
from holdfast.kernel.errors import HoldfastError, Invalid

NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
"""What a file system answers that has no hard links, or no more of this file."""

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Handle:
    """A file that is being written under a temporary name beside its final one.

    Write to ``fd`` (it has its full length already: zeros may be skipped), give it its metadata, then
    :meth:`commit`. ``path`` is where it will be. Leaving a ``with`` block without a commit abandons it. A
    crash leaves at most the temporary file.
    """

    __slots__ = ("_directory", "_name", "_replace", "_temporary", "fd", "path")

    def __init__(self, fd: int, path: bytes, directory: int, temporary: bytes, name: bytes, replace: bool) -> None:
        self.fd = fd
        self.path = path
        self._directory = directory
        self._temporary = temporary
        self._name = name
        self._replace = replace

    def commit(self, *, fsync: bool = False) -> None:
        """Give the file its name, atomically, and close it. ``fsync`` first makes its content durable.

        Without ``replace`` an existing entry of that name raises ``Invalid``; with it a file is replaced, an
        empty directory too, a full one raises ``Invalid``. On an error the temporary file is gone.
        """
        try:
            if fsync:
                os.fsync(self.fd)
            settle(self._directory, self._temporary, self._name, replace=self._replace)
            if fsync:
                os.fsync(self._directory)
        except OSError as error:
            self.abandon()
            raise translated(error, "finish", self.path) from error
        self._close()

    def abandon(self) -> None:
        """Remove the temporary file. Does nothing after a commit."""
        if self.fd >= 0:
            with suppress(OSError):  # somebody was quicker, or the disk is failing: the name tells what it is
                os.unlink(self._temporary, dir_fd=self._directory)
            self._close()

    def _close(self) -> None:
        os.close(self.fd)
        os.close(self._directory)
        self.fd = self._directory = -1

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()


class Target:
    """The directory that a restore writes into.

    Every path is relative to ``root``, of raw bytes, and is walked by descriptor without following a link, so neither
    a hostile snapshot nor a link put there meanwhile leads outside; only ``root`` itself may lie behind links. Existing
    files are never opened for writing: content always goes to a new file. Impossible names raise ``Corrupt``,
    something in the way ``Invalid`` (with ``replace`` it is replaced), refusals of the system ``Denied``, ``NoSpace``
    and the like.

    Nothing is flushed to disk a file: call :meth:`sync` once at the end. Not for use by several threads or across a
    fork at once: open one target for each; several may write into the same root.
    """

    def __init__(self, root: bytes, *, replace: bool = False) -> None:
        """Open ``root``; if it is missing it is made, 0700 until it gets its metadata."""
        self.root = root
        self.replace = replace
        try:
            os.makedirs(root, mode=0o700, exist_ok=True)
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise translated(error, "open the target", root) from error
        self._directories = Directories(fd, replace=replace)
        self._names = temporary_names()

    def directory(self, path: bytes) -> int:
        """A descriptor of the directory ``path``, made if missing (parents too). Good until the next call here."""
        try:
            return self._directories.get(path, make=True)
        except OSError as error:
            raise translated(error, "make the directory", path) from error

    def create_file(self, path: bytes, size: int) -> Handle:
        """A new file of ``size`` bytes (all hole, 0600) that becomes ``path`` when it is committed."""
        parent, name = self._place(path)
        if self.replace:
            self._directories.forget(path)
        directory = fd = -1
        try:
            directory = os.dup(parent)
            temporary = next(self._names)
            fd = os.open(temporary, _CREATE, 0o600, dir_fd=directory)
            handle = Handle(fd, path, directory, temporary, name, self.replace)
            if size:
                os.ftruncate(fd, size)
        except OSError as error:
            if fd >= 0:
                handle.abandon()
            elif directory >= 0:
                os.close(directory)
            raise translated(error, "write", path) from error
        return handle

    def temporary(self) -> bytes:
        """A name for an unfinished file that nothing has."""
        return next(self._names)

    def put_small(
        self,
        path: bytes,
        data: bytes,
        *,
        st_mode: int,
        uid: int,
        gid: int,
        mtime_ns: int,
        atime_ns: int,
        owner: bool | None,
    ) -> bool:
        """A new file of this content and metadata as ``path``, complete when it gets its name; see ``write_small``.

        False: it cannot be made in one call, and nothing was done: use :meth:`create_file`.
        """
        if not self.replace:
            return False
        parent, name = self._place(path)
        self._directories.forget(path)
        made = write_small(
            parent, next(self._names), name, data,
            st_mode=st_mode, uid=uid, gid=gid, mtime_ns=mtime_ns, atime_ns=atime_ns, owner=owner,
        )  # fmt: skip
        return made != 0

    def symlink(self, path: bytes, target: bytes) -> None:
        """Make the symbolic link ``path``. ``target`` may be anything: it is stored, never followed."""
        self._make(path, lambda parent, name: os.symlink(target, name, dir_fd=parent))

    def hardlink(self, path: bytes, existing: bytes) -> bool:
        """Make ``path`` a second name of ``existing``, which is in this target too (``NotFound`` if it is not).

        False where the file system has no links, or no more of this file.
        """
        *above, last = split(existing) or [b""]
        check_name(last)
        try:
            source = os.dup(self._directories.get(b"/".join(above), make=False))
        except OSError as error:
            raise translated(error, "link to", existing) from error
        try:
            self._make(
                path,
                lambda parent, name: os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False),
            )
        except HoldfastError as error:
            if error.context.get("errno") in NO_LINKS:
                return False
            raise
        finally:
            os.close(source)
        return True

    def mknod(self, path: bytes, st_mode: int, rdev: int) -> None:
        """Make a device (root only) or another special file of the type in ``st_mode``, 0600 until its metadata."""
        kind = stat.S_IFMT(st_mode)
        self._make(path, lambda parent, name: os.mknod(name, kind | 0o600, rdev, dir_fd=parent))

    def mkfifo(self, path: bytes) -> None:
        """Make a named pipe, 0600 until its metadata."""
        self._make(path, lambda parent, name: os.mkfifo(name, 0o600, dir_fd=parent))

    def stat(self, path: bytes) -> os.stat_result | None:
        """What is at ``path`` (a link itself, not what it points to); None if nothing, or only through a link."""
        try:
            if not path:
                return os.fstat(self._directories.get(b"", make=False))
            above, _, name = path.rpartition(b"/")
            check_name(name)
            return os.lstat(name, dir_fd=self._directories.get(above, make=False))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise translated(error, "look at", path) from error

    def exists(self, path: bytes) -> bool:
        """Whether anything is at ``path``, a dangling link included."""
        return self.stat(path) is not None

    def remove(self, path: bytes) -> None:
        """Remove ``path``, a directory with all that is in it; links are removed, not followed.

        Does nothing if it is not there. A mounted file system below raises ``Invalid`` before it is touched; what
        stood beside it may be gone by then.
        """
        *above, name = split(path) or [b""]
        check_name(name)
        self._directories.forget(path)
        try:
            remove_entry(self._directories.get(b"/".join(above), make=False), name)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise translated(error, "remove", path) from error

    def sync(self) -> None:
        """Return when all that was written is on the disk (the file system of the root; elsewhere all of them)."""
        try:
            sync_file_system(self._directories.get(b"", make=False))
        except OSError as error:
            raise translated(error, "flush", self.root) from error

    def close(self) -> None:
        """Close all directories. Handles stay good."""
        self._directories.close()

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _place(self, path: bytes) -> tuple[int, bytes]:
        above, _, name = path.rpartition(b"/")
        check_name(name)
        if not above and b"/" in path:
            check_name(b"")  # an absolute path: its first component is empty
        return self.directory(above), name

    def _make(self, path: bytes, make: Callable[[int, bytes], None]) -> None:
        parent, name = self._place(path)
        if self.replace:
            self._directories.forget(path)
        try:
            place(parent, name, make, self._names if self.replace else None)
        except OSError as error:
            raise translated(error, "make", path) from error
        except ValueError as error:  # a NUL in the target of a link
            raise Invalid(f"cannot make {os.fsdecode(path)}: {error}", hint="The snapshot is damaged here.") from error
