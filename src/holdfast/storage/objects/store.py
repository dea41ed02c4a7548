"""A storage in a bucket: every file is an object, and what was written is asked for again before it counts."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.kernel.errors import Corrupt, Invalid, NotFound
from holdfast.storage.base import (
    Info,
    Traits,
    check_folder,
    check_name,
    check_range,
    check_replaceable,
    is_hash,
    is_name,
)
from holdfast.storage.objects import putting
from holdfast.storage.objects.link import Link
from holdfast.storage.objects.place import Place
from holdfast.storage.oserrors import translated

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from holdfast.storage.objects.client import Client


class ObjectStorage:
    """A folder of a bucket.

    Listings are immediate: Amazon S3 since December 2020 ("Amazon S3 data consistency model"), Google Cloud Storage
    ("Consistency") and Azure Blob Storage promise it, and so do MinIO and Ceph. Creating is atomic where the service is
    known to honour conditional writes; other servers are tried at the first write. Not for forked children: the client
    library has threads.
    """

    def __init__(self, place: Place) -> None:
        """Nothing is imported or contacted yet."""
        self._link = Link(place)
        self.location = place.location
        self.traits = Traits(
            atomic_create=self._link.conditional is True, immediate_listing=True, fork_safe=False, connections=8
        )

    def prepare(self, folders: Sequence[str]) -> None:
        """Only looks whether the bucket is there: folders need not be made, and a bucket has settings that people
        choose. Raises ``NotFound`` with the command that makes it.
        """
        for folder in folders:
            check_folder(folder)
        self._link.ask("open", "", lambda client: client.look())

    def list(self, folder: str) -> Iterator[Info]:
        check_folder(folder)
        return self._list(folder)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        check_range(offset, length)
        if length == 0:
            self.size(name)
            return b""
        if length is None and not offset:
            return self._link.ask("read", name, lambda client: client.get(name))
        try:
            data = self._link.ask("read", name, lambda client: client.get_range(name, offset, length)).to_bytes()
        except Invalid as error:
            if error.context.get("status") != putting.BEYOND_THE_END:
                raise
            if length is None and self.size(name) == offset:
                return b""
            data = b""
        if not data or (length is not None and len(data) != length):
            raise Corrupt(
                f"{self.location}: {name} ends before the range that was asked for",
                hint="The object was cut off: check the vault.",
                name=name, offset=offset, length=length, got=len(data),
            )  # fmt: skip
        return data

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        check_name(name)
        check_range(offset)
        view = memoryview(buffer).cast("B")
        if not view:
            self.size(name)
            return 0
        try:
            piece = self._link.ask("read", name, lambda client: client.get_range(name, offset, len(view)))
        except Invalid as error:
            if error.context.get("status") != putting.BEYOND_THE_END:
                raise
            return 0
        count = len(piece)
        view[:count] = memoryview(piece)
        return count

    def size(self, name: str) -> int:
        check_name(name)
        return putting.size(self._link, name)

    def write(self, name: str, data: ReadableBuffer) -> None:
        check_name(name)
        # A copy: the client library may hold on to the bytes for a moment after it returned.
        self._put(name, data if type(data) is bytes else bytes(memoryview(data).cast("B")))

    def staging(self) -> str | None:
        return None

    def adopt(self, path: str, name: str) -> None:
        check_name(name)
        try:
            with open(path, "rb", opener=_plainly) as source:
                status = os.fstat(source.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise Invalid(f"not a regular file: {path}", path=path)
                if status.st_size > putting.SINGLE and is_hash(name):
                    putting.keep(self._link, name, source, status.st_size)
                else:
                    self._put(name, source.read())
            os.unlink(path)
        except OSError as error:
            raise translated(error, "take over", path) from error

    def replace(self, name: str, data: ReadableBuffer) -> None:
        check_replaceable(name)
        putting.replace(self._link, name, bytes(memoryview(data).cast("B")))

    def delete(self, name: str) -> None:
        check_name(name)
        try:
            self._link.ask("delete", name, lambda client: client.delete(name))
        except NotFound as error:
            if error.context.get("missing") == "place":
                raise

    def close(self) -> None:
        self._link.close()

    def _put(self, name: str, body: bytes) -> None:
        if is_hash(name):
            putting.keep(self._link, name, body, len(body))
        else:
            putting.create(self._link, name, body)

    def _list(self, folder: str) -> Iterator[Info]:
        def first(client: Client) -> tuple[Iterator[Sequence[Any]], Sequence[Any] | None]:
            pages = client.pages(folder)
            return pages, next(pages, None)

        pages, page = self._link.ask("list", folder, first)
        while page is not None:
            for found in page:
                name, size = found["path"], found["size"]
                # Consoles and hierarchical namespaces put an empty object where a folder is.
                if is_name(name) and (size or is_hash(name)):
                    yield Info(name, size)
            page = self._link.ask("list", folder, lambda _client: next(pages, None))


def _plainly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
