"""A storage from which nothing can be taken away: for a client that may back up and restore, but never delete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from holdfast.kernel.errors import Denied
from holdfast.storage.base import Info, Storage

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

DELETABLE = "locks/"
"""Beneath this folder deleting stays allowed: a run takes its own lock away when it ends."""


class AppendOnly:
    """Passes everything on to ``inner`` but deleting and replacing: they raise ``Denied`` for all that is no lock.

    It keeps this program from deleting by mistake. Against somebody who took over the machine only the place itself can
    help, by not letting this machine's credentials delete.
    """

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self.location = inner.location
        self.traits = replace(inner.traits, append_only=True)

    def prepare(self, folders: Sequence[str]) -> None:
        self._inner.prepare(folders)

    def list(self, folder: str) -> Iterator[Info]:
        return self._inner.list(folder)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._inner.read(name, offset, length)

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        return self._inner.read_into(name, buffer, offset)

    def size(self, name: str) -> int:
        return self._inner.size(name)

    def write(self, name: str, data: ReadableBuffer) -> None:
        self._inner.write(name, data)

    def staging(self) -> str | None:
        return self._inner.staging()

    def adopt(self, path: str, name: str) -> None:
        self._inner.adopt(path, name)

    def replace(self, name: str, data: ReadableBuffer) -> None:
        self._refuse(name)

    def delete(self, name: str) -> None:
        if not name.startswith(DELETABLE):
            self._refuse(name)
        self._inner.delete(name)

    def close(self) -> None:
        self._inner.close()

    def _refuse(self, name: str) -> NoReturn:
        raise Denied(
            f"nothing is taken away from {self.location}: it is used append-only",
            hint="Do this with credentials that may delete, from a machine that you trust.",
            location=self.location,
            name=name,
        )
