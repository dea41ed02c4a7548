"""A storage that keeps copies of what is read again and again on local disk, as the sealed bytes that it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from holdfast.kernel.errors import Corrupt
from holdfast.storage.base import Info, Storage, check_name, check_range, is_hash
from holdfast.storage.copies import CopyFolder

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class Cached:
    """Passes everything on to ``inner``, but reads from ``copies`` what is there.

    Kept are files whose names are hashes: all in the folders ``whole`` from their first reading or writing on, and
    those that :meth:`keep` names, which are fetched whole as soon as a part of them is wanted. What comes from a copy
    was compared with its name; a damaged copy is fetched again. A listing always comes from the place itself, and
    drops the copies of what is not there any more. A file whose place holds something else than its name says is never
    kept. Safe for several processes and threads at once.
    """

    def __init__(self, inner: Storage, copies: CopyFolder, whole: Sequence[str]) -> None:
        self._inner = inner
        self._copies = copies
        self._whole = tuple(f"{folder}/" for folder in whole)
        self._kept: set[str] = set()
        self._passed_on: set[str] = set()  # kept names whose copy could not be had
        self.location = inner.location
        self.traits = inner.traits

    def keep(self, names: Iterable[str]) -> None:
        """These files are worth a copy: they are fetched whole when they are first read, and kept when written."""
        self._kept.update(names)

    def copy_of(self, name: str) -> bytes | None:
        """The whole content of a file of which there is a copy, without asking the place; else None."""
        return self._copies.read(name) if self._is_whole(name) else None

    def spool(self) -> str | None:
        """A private local folder to prepare files in, from where keeping a copy costs nothing, or None."""
        return self._copies.spool()

    def prepare(self, folders: Sequence[str]) -> None:
        self._inner.prepare(folders)

    def list(self, folder: str) -> Iterator[Info]:
        return self._listed(folder, self._inner.list(folder))

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        check_range(offset, length)
        if self._is_whole(name):
            data = self._fetched(name)
            return data if offset == 0 and length is None else _cut(name, data, offset, length)
        if length == 0 or name not in self._kept:
            return self._inner.read(name, offset, length)
        file = self._file(name)
        if file < 0:
            return self._inner.read(name, offset, length)
        try:
            size = os.fstat(file).st_size
            wanted = max(size - offset, 0) if length is None else length
            data = os.pread(file, wanted, offset)
        except OSError:
            data, wanted = b"", 1
        finally:
            os.close(file)
        return data if len(data) == wanted and offset <= size else self._inner.read(name, offset, length)

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        check_name(name)
        check_range(offset)
        if name in self._kept and (file := self._file(name)) >= 0:
            try:
                return os.preadv(file, [buffer], offset)
            except OSError:
                pass
            finally:
                os.close(file)
        elif self._is_whole(name):
            view = memoryview(buffer).cast("B")
            piece = memoryview(self._fetched(name))[offset : offset + len(view)]
            view[: len(piece)] = piece
            return len(piece)
        return self._inner.read_into(name, buffer, offset)

    def size(self, name: str) -> int:
        return self._inner.size(name)

    def write(self, name: str, data: ReadableBuffer) -> None:
        self._inner.write(name, data)
        if self._is_whole(name) or name in self._kept:
            self._copies.put(name, data)

    def replace(self, name: str, data: ReadableBuffer) -> None:
        self._inner.replace(name, data)

    def staging(self) -> str | None:
        return self._inner.staging()

    def adopt(self, path: str, name: str) -> None:
        copy = self._copies.second(path) if name in self._kept else None
        try:
            self._inner.adopt(path, name)
        except BaseException:
            if copy is not None:
                self._copies.discard(copy)
            raise
        if copy is not None:
            self._copies.settle(copy, name)

    def delete(self, name: str) -> None:
        self._inner.delete(name)
        self._copies.drop(name)

    def close(self) -> None:
        self._copies.close()
        self._inner.close()

    def _is_whole(self, name: str) -> bool:
        return name.startswith(self._whole) and is_hash(name)

    def _listed(self, folder: str, found: Iterator[Info]) -> Iterator[Info]:
        names: set[str] = set()
        for info in found:
            names.add(info.name)
            yield info
        self._copies.drop_others(folder, names)

    def _fetched(self, name: str) -> bytes:
        """A whole file, from its copy or from the place."""
        data = self._copies.read(name)
        if data is None:
            data = self._inner.read(name)
            self._copies.put(name, data)  # one that does not fit its name is found out at the next reading
        return data

    def _file(self, name: str) -> int:
        """A descriptor of a kept file's copy, which is made if need be; -1 if that cannot be."""
        file = self._copies.open(name)
        if file >= 0 or name in self._passed_on or self._copies.spool() is None:
            return file
        with self._copies.alone(name):
            file = self._copies.open(name)  # another process may have been faster
            if file < 0:
                data = self._inner.read(name)
                if sha256(data).hexdigest() == name[-64:] and self._copies.put(name, data):
                    file = self._copies.open(name)
        if file < 0:
            self._passed_on.add(name)  # or each small part would fetch the whole again
        return file


def _cut(name: str, data: bytes, offset: int, length: int | None) -> bytes:
    end = len(data) if length is None else offset + length
    if length != 0 and max(offset, end) > len(data):
        raise Corrupt(f"{name} is shorter than expected", name=name, size=len(data), offset=offset, length=length)
    return data[offset:end]
