"""A storage in a folder of this machine, or of a network share that is mounted."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from holdfast.kernel.errors import Corrupt, HoldfastError, Invalid, NotFound, Unavailable
from holdfast.storage import durable, listing, mounts
from holdfast.storage.base import Info, Traits, check_folder, check_name, check_range, check_replaceable, is_hash
from holdfast.storage.oserrors import printable, translated

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

PRIVATE = (0o700, 0o400)
"""Modes of folders and of finished files when only the owner may see the vault."""

SHARED = (0o770, 0o440)
"""The same when the group may read ``config``: restic keeps such vaults open to the group. The umask still applies to
folders (0750 with the usual one)."""

LEFTOVER_AGE_NS = 24 * 3600 * 1_000_000_000
"""A temporary file that nobody touched for a day belongs to a write that died."""

_READ = os.O_RDONLY | os.O_CLOEXEC


class LocalStorage:
    """Files beneath the folder ``root``, written once, synced, and renamed into place.

    It holds no open files and no connection, so it is safe in threads and forked children. If the folder vanishes, or
    another file system appears in its place (an unmounted disk), everything raises ``Unavailable`` instead of taking
    the vault for empty.
    """

    def __init__(self, root: str | bytes) -> None:
        """Nothing is made or opened yet. A relative ``root`` is taken from the current folder of now."""
        if not root:
            raise Invalid("the folder of a storage has no name", hint="Give a path such as /srv/backups/home.")
        self._root = os.path.abspath(os.fsdecode(root))
        self._inside = self._root.rstrip("/") + "/"
        self._modes: tuple[int, int] | None = None
        self._device = _device(self._root)
        self.location = printable(self._root)
        kind = mounts.kind_of(os.path.realpath(self._root))
        self.traits = Traits(
            atomic_create=mounts.has_hard_links(kind), immediate_listing=mounts.lists_at_once(kind), fork_safe=True
        )

    @property
    def folder(self) -> bytes:
        """The folder itself, whether it is there or not."""
        return os.fsencode(self._root)

    def prepare(self, folders: Sequence[str]) -> None:
        for folder in folders:
            check_folder(folder)
        mode = self._mode_of()[0]
        try:
            durable.make_folders([os.path.dirname(self._root)], 0o777)
            durable.make_folders([self._root, *(self._inside + folder for folder in folders)], mode)
        except OSError as error:
            raise translated(error, "make the folder", error.filename or self._root) from error
        self._device = _device(self._root)

    def list(self, folder: str) -> Iterator[Info]:
        check_folder(folder)
        if gone := self._gone():
            raise gone
        return self._list(folder)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        check_range(offset, length)
        try:
            file = os.open(self._inside + name, _READ)
            try:
                if length is None:
                    length = max(os.fstat(file).st_size - offset, -1)
                data = os.pread(file, length, offset) if length > 0 else b""
                if 0 < len(data) < length:  # Linux reads at most 2 GiB less one page at a time
                    data = _read_on(file, data, length, offset)
            finally:
                os.close(file)
        except OSError as error:
            raise self._failed(error, "read", name) from error
        if len(data) != length:
            raise Corrupt(
                f"{self.location}: {name} ends at byte {offset + len(data)}, before the range that was asked for",
                hint="The file was cut off: check the vault and the disk.",
                name=name,
                offset=offset,
                length=length,
            )
        return data

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        check_name(name)
        check_range(offset)
        view = memoryview(buffer).cast("B")
        wanted = len(view)
        try:
            file = os.open(self._inside + name, _READ)
            try:
                done = os.preadv(file, [view], offset)
                while 0 < done < wanted:
                    more = os.preadv(file, [view[done:]], offset + done)
                    if not more:
                        break
                    done += more
            finally:
                os.close(file)
        except OSError as error:
            raise self._failed(error, "read", name) from error
        return done

    def size(self, name: str) -> int:
        check_name(name)
        try:
            found = os.stat(self._inside + name)
        except OSError as error:
            raise self._failed(error, "look at", name) from error
        if not stat.S_ISREG(found.st_mode):
            raise NotFound(f"{self.location} holds no file {name}", name=name)
        return found.st_size

    def write(self, name: str, data: ReadableBuffer) -> None:
        check_name(name)
        view = memoryview(data).cast("B")
        mode = self._mode_of()[1]
        temporary = self._temporary(name)
        try:
            if self._kept(name, len(view), lambda: view):
                return
            self._with_parent(name, lambda: durable.create(temporary, view, mode))
            self._place(temporary, name, len(view), lambda: view)
        except OSError as error:
            durable.discard(temporary)
            raise self._failed(error, "write", name) from error

    def staging(self) -> str | None:
        """The folder ``data`` itself (made on demand): restic and :meth:`list` pass over what is prepared there."""
        folder = self._inside + "data"
        if not os.path.isdir(folder):
            try:
                self._make_parent("data/")
            except OSError as error:
                raise translated(error, "make the folder", folder) from error
        return folder

    def adopt(self, path: str, name: str) -> None:
        check_name(name)
        mode = self._mode_of()[1]
        source = _open_regular(path)
        try:
            try:
                size = os.fstat(source).st_size
                if not self._kept(name, size, lambda: os.pread(source, size, 0)):
                    durable.seal(source, mode)
                    self._move(path, source, name, size)
                elif os.fstat(source).st_nlink == 1 and os.path.samefile(path, self._inside + name):
                    return  # it lies under its final name already: unlinking would lose it
            finally:
                os.close(source)
        except OSError as error:
            raise self._failed(error, "write", name) from error
        try:
            os.unlink(path)
        except FileNotFoundError:  # the usual end: it was renamed
            pass
        except OSError as error:
            raise translated(error, "remove", path) from error

    def replace(self, name: str, data: ReadableBuffer) -> None:
        check_replaceable(name)
        self.size(name)
        temporary = self._temporary(name)
        try:
            durable.create(temporary, memoryview(data).cast("B"), self._mode_of()[1])
            durable.place(temporary, self._inside + name, exclusive=False)
        except OSError as error:
            durable.discard(temporary)
            raise self._failed(error, "write", name) from error

    def delete(self, name: str) -> None:
        check_name(name)
        path = self._inside + name
        try:
            try:
                os.unlink(path)
            except PermissionError:  # SMB servers protect read-only files from removal
                os.chmod(path, 0o600)
                try:
                    os.unlink(path)
                except OSError:
                    os.chmod(path, self._mode_of()[1])
                    raise
        except OSError as error:
            failure = self._failed(error, "remove", name)
            if not isinstance(failure, NotFound) or self._device is None:
                raise failure from error

    def sweep(self, now_ns: int) -> int:
        """Remove what writes that died more than a day before ``now_ns`` left behind; returns how many files.

        Only files named like our own and restic's temporary files are touched. What cannot be removed stays.
        """
        removed = 0
        if gone := self._gone():
            raise gone
        try:
            for path in listing.leftovers(self._inside, now_ns - LEFTOVER_AGE_NS):
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    os.unlink(path)
                    removed += 1
        except OSError as error:
            raise self._failed(error, "look through", "") from error
        return removed

    def close(self) -> None:
        pass

    def _list(self, folder: str) -> Iterator[Info]:
        try:
            yield from listing.finished(self._inside, folder)
        except OSError as error:
            raise self._failed(error, "list", folder) from error
        if gone := self._gone():  # it went away half way: the list is not complete
            raise gone

    def _mode_of(self) -> tuple[int, int]:
        """Modes of folders and files; asked again until there is a ``config`` to look at."""
        if self._modes is None:
            try:
                shared = os.stat(self._inside + "config").st_mode & 0o040
            except OSError:
                return PRIVATE
            self._modes = SHARED if shared else PRIVATE
        return self._modes

    def _kept(self, name: str, size: int, content: Callable[[], ReadableBuffer]) -> bool:
        """Whether ``name`` holds this already, made durable for sure (its writer may have died before syncing).

        Raises ``Corrupt`` or ``Invalid`` if it holds something else.
        """
        path = self._inside + name
        try:
            found = os.stat(path).st_size
        except (FileNotFoundError, NotADirectoryError):
            return False
        if is_hash(name):
            if found != size:
                raise Corrupt(
                    f"{self.location}: {name} exists with {found} bytes instead of {size}",
                    hint="A file of the vault was cut off or changed: run a check, then repair.",
                    name=name,
                    size=found,
                    expected=size,
                )
        elif found != size or self.read(name) != content():
            raise Invalid(
                f"{self.location}: {name} exists already, with other content",
                hint="Somebody else made it first, perhaps at this moment: look at what is there.",
                name=name,
            )
        durable.flush_path(path)
        durable.flush_path(os.path.dirname(path))
        return True

    def _place(self, path: str, name: str, size: int, content: Callable[[], ReadableBuffer]) -> None:
        """Move a sealed file to its name; if a rival was faster, the file goes and the rival's is compared."""
        try:
            durable.place(path, self._inside + name, exclusive=not is_hash(name))
        except FileExistsError:
            durable.discard(path)
            if not self._kept(name, size, content):
                raise

    def _move(self, path: str, source: int, name: str, size: int) -> None:
        """Place a sealed file from anywhere: a rename where possible, else a copy."""
        final = self._inside + name
        exclusive = not is_hash(name)
        try:
            self._with_parent(name, lambda: durable.place(path, final, exclusive=exclusive))
        except FileExistsError:
            if not self._kept(name, size, lambda: os.pread(source, size, 0)):
                raise
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            temporary = self._temporary(name)
            self._with_parent(name, lambda: durable.create_copy(temporary, source, self._mode_of()[1]))
            self._place(temporary, name, size, lambda: os.pread(source, size, 0))

    def _temporary(self, name: str) -> str:
        return f"{self._inside}{name}-tmp-{os.urandom(8).hex()}"

    def _with_parent(self, name: str, step: Callable[[], None]) -> None:
        """Do a step that puts something beside ``name``, making the folders only when it turns out that they miss."""
        if "/" not in name and (gone := self._gone()):  # the mount point of an unmounted disk would take it
            raise gone
        try:
            step()
        except FileNotFoundError:
            self._make_parent(name)
            step()

    def _make_parent(self, name: str) -> None:
        """Make the folders above ``name``, but never the place itself: an unmounted disk must not be shadowed."""
        if gone := self._gone():
            raise gone
        durable.make_folders([os.path.dirname(self._inside + name)], self._mode_of()[0])

    def _failed(self, error: OSError, doing: str, name: str) -> HoldfastError:
        """The error to raise for ``name``; a missing file is told from a missing place."""
        absent = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR) if doing != "write" else (errno.ENOENT,)
        if error.errno in absent or (error.errno == errno.EPERM and os.path.isdir(self._inside + name)):
            return self._gone() or NotFound(
                f"{self.location} holds no file {name}", hint="If it should be there, check the vault.", name=name
            )
        return translated(error, doing, self._inside + name)

    def _gone(self) -> HoldfastError | None:
        """Why the whole place cannot be used, or None if it is there."""
        try:
            found = os.stat(self._root)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                return translated(error, "look at", self._root)
            if self._device is None:
                return NotFound(
                    f"there is no folder {self.location}",
                    hint="Check the path and whether the disk is mounted; a new vault is made with init.",
                    location=self.location,
                )
            return Unavailable(
                f"the folder {self.location} has disappeared",
                hint="Check that the disk is still connected and mounted, then run this again.",
                location=self.location,
            )
        if not stat.S_ISDIR(found.st_mode):
            return Invalid(f"{self.location} is not a folder", hint="Give the folder that holds the vault.")
        if self._device is None:
            self._device = found.st_dev
        if found.st_dev != self._device:
            return Unavailable(
                f"another file system is now mounted at {self.location}",
                hint="Mount the disk with the vault again, then run this again.",
                location=self.location,
            )
        return None


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def _open_regular(path: str) -> int:
    try:
        file = os.open(path, _READ | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise translated(error, "read", path) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise Invalid(f"not a regular file: {printable(path)}", path=printable(path))
    return file


def _read_on(file: int, data: bytes, length: int, offset: int) -> bytes:
    pieces, done = [data], len(data)
    while done < length and (piece := os.pread(file, length - done, offset + done)):
        pieces.append(piece)
        done += len(piece)
    return b"".join(pieces)
