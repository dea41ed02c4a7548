"""The few calls of obstore that are used, with its exceptions let through; importing this imports obstore."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, Any

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore

PART = 16 << 20
"""Bytes in each part of an upload in parts (S3: 5 MiB at least, and 10,000 parts at most)."""
_PARTS_AT_ONCE = 3
_PAGE = 1000  # most that a page of a listing holds, in every service


class Client:
    """One obstore client; names are relative to the prefix that it was made with."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def get(self, name: str) -> bytes:
        """A whole object."""
        return obstore.get(self._store, name).bytes().to_bytes()

    def get_range(self, name: str, start: int, length: int | None) -> obstore.Bytes:
        """At most ``length`` bytes, at least one: a range that begins at or after the end fails with status 416."""
        if length is None:
            return obstore.get(self._store, name, options={"range": {"offset": start}}).bytes()
        return obstore.get_range(self._store, name, start=start, length=length)

    def size(self, name: str) -> int:
        """Size in bytes (HEAD)."""
        return obstore.head(self._store, name)["size"]

    def put(self, name: str, body: bytes, *, new: bool) -> bool:
        """One PUT; ``new`` makes it conditional. Returns False where the object exists and the condition failed."""
        try:
            obstore.put(self._store, name, body, mode="create" if new else "overwrite", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def put_parts(self, name: str, body: bytes | IO[bytes]) -> None:
        """An upload in parts, without any condition: the object appears when the last part is there."""
        obstore.put(self._store, name, body, use_multipart=True, chunk_size=PART, max_concurrency=_PARTS_AT_ONCE)

    def delete(self, name: str) -> None:
        """Delete an object; some services fail where it is missing."""
        obstore.delete(self._store, name)

    def pages(self, folder: str) -> Iterator[Sequence[Any]]:
        """Everything beneath a folder, a page of dictionaries with ``path`` and ``size`` at a time."""
        return iter(obstore.list(self._store, folder or None, chunk_size=_PAGE))

    def look(self) -> None:
        """List the uppermost level: proves that the bucket is there and may be listed."""
        obstore.list_with_delimiter(self._store)
