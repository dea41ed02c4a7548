"""A storage that looks but never touches: for browsing a vault without a lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from holdfast.kernel.errors import Denied
from holdfast.storage.base import Info, Storage

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class ReadOnly:
    """Passes reading on to ``inner``; every change raises ``Denied`` before anything happens."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self.location = inner.location
        self.traits = replace(inner.traits, read_only=True)

    def prepare(self, folders: Sequence[str]) -> None:
        self._refuse()

    def list(self, folder: str) -> Iterator[Info]:
        return self._inner.list(folder)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._inner.read(name, offset, length)

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        return self._inner.read_into(name, buffer, offset)

    def size(self, name: str) -> int:
        return self._inner.size(name)

    def write(self, name: str, data: ReadableBuffer) -> None:
        self._refuse()

    def staging(self) -> str | None:
        return None

    def adopt(self, path: str, name: str) -> None:
        self._refuse()

    def replace(self, name: str, data: ReadableBuffer) -> None:
        self._refuse()

    def delete(self, name: str) -> None:
        self._refuse()

    def close(self) -> None:
        self._inner.close()

    def _refuse(self) -> NoReturn:
        raise Denied(
            f"nothing is written into {self.location}: it was opened read-only",
            hint="--no-lock is for commands that only read. Leave it away to change the vault.",
            location=self.location,
        )
