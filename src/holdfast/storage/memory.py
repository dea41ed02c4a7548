"""A storage in this process's memory, for tests and trials: gone when the process ends."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.kernel.errors import Corrupt, Invalid, NotFound
from holdfast.storage.base import Info, Traits, check_folder, check_name, check_range, check_replaceable, is_hash
from holdfast.storage.oserrors import translated

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class MemoryStorage:
    """Named bytes in a dictionary. ``label`` only appears in messages: two storages never share anything."""

    traits = Traits(atomic_create=True, immediate_listing=True, fork_safe=False)

    def __init__(self, label: str = "") -> None:
        self.location = f"memory:{label}"
        self._files: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def prepare(self, folders: Sequence[str]) -> None:
        for folder in folders:
            check_folder(folder)

    def list(self, folder: str) -> Iterator[Info]:
        check_folder(folder)
        inside = f"{folder}/" if folder else ""
        with self._lock:
            found = [Info(name, len(data)) for name, data in self._files.items() if name.startswith(inside)]
        return iter(found)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        data = self._get(name)
        end = len(data) if length is None else offset + length
        if length != 0 and max(offset, end) > len(data):
            raise Corrupt(f"{name} is shorter than expected", name=name, size=len(data), offset=offset, length=length)
        return data[offset:end]

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        check_range(offset)
        view = memoryview(buffer).cast("B")
        piece = memoryview(self._get(name))[offset : offset + len(view)]
        view[: len(piece)] = piece
        return len(piece)

    def size(self, name: str) -> int:
        return len(self._get(name))

    def write(self, name: str, data: ReadableBuffer) -> None:
        check_name(name)
        new = bytes(data)
        with self._lock:
            old = self._files.setdefault(name, new)
        if is_hash(name):
            if len(old) != len(new):
                raise Corrupt(f"{name} exists with another size", name=name, size=len(old), expected=len(new))
        elif old != new:
            raise Invalid(f"{name} exists already, with other content", name=name)

    def staging(self) -> str | None:
        return None

    def adopt(self, path: str, name: str) -> None:
        check_name(name)
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise Invalid(f"not a regular file: {path}", path=path)
            data = Path(path).read_bytes()
        except OSError as error:
            raise translated(error, "read", path) from error
        self.write(name, data)
        try:
            Path(path).unlink()
        except OSError as error:
            raise translated(error, "remove", path) from error

    def replace(self, name: str, data: ReadableBuffer) -> None:
        check_replaceable(name)
        self._get(name)
        with self._lock:
            self._files[name] = bytes(data)

    def delete(self, name: str) -> None:
        check_name(name)
        with self._lock:
            self._files.pop(name, None)

    def close(self) -> None:
        pass

    def _get(self, name: str) -> bytes:
        check_name(name)
        try:
            return self._files[name]
        except KeyError:
            raise NotFound(f"{self.location} holds no file {name}", name=name) from None
