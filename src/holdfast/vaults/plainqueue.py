"""Small files of a restore from plain files: copied by threads, a folder's together, verified before they are named."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple, Protocol

from holdfast.files.safepath import check_name
from holdfast.files.small import File, to_copy
from holdfast.files.target import Target
from holdfast.kernel.errors import HoldfastError, NoSpace, Unavailable
from holdfast.sources.directory import open_directory
from holdfast.vaults.batches import Batches, Result
from holdfast.vaults.items import Browsable, Item

LARGEST = 1 << 16
MOST_AT_ONCE = 64


class Stored(NamedTuple):
    """An ordinary file (one name, no attributes) in a vault that holds all of an item's content: where it is, the
    content's SHA-256, and the metadata of what was saved."""

    path: bytes
    digest: bytes
    st_mode: int
    uid: int
    gid: int
    mtime_ns: int


class Readable(Browsable, Protocol):
    """A vault of plain files."""

    def whole(self, file: Item) -> bytes:
        """All bytes of a small file, verified. Raises ``Corrupt``, ``Invalid``."""
        ...

    def stored(self, file: Item) -> Stored | None:
        """The file that can be copied as it is; None where there is none."""
        ...


class Queue:
    """``done`` is told of what was restored, ``slowly`` (item, path) restores what cannot be in one call."""

    def __init__(
        self,
        vault: Readable,
        target: Target,
        batches: Batches,
        owner: bool | None,
        *,
        done: Callable[[Item], None],
        slowly: Callable[[Item, bytes], None],
    ) -> None:
        self._vault = vault
        self._target = target
        self._batches = batches
        self._owner = owner
        self._done = done
        self._slowly = slowly
        self._folders = b"", b""
        self._items: list[tuple[Item, bytes]] = []
        self._files: list[File] = []

    def put(self, item: Item, path: bytes) -> bool:
        """Take a file that is to become ``path``, where no folder is; False if it is not of this kind."""
        if not self._batches.usable or item.size > LARGEST or (stored := self._vault.stored(item)) is None:
            return False
        source, _, source_name = stored.path.rpartition(b"/")
        above, _, name = path.rpartition(b"/")
        check_name(name)
        if (source, above) != self._folders or len(self._items) >= MOST_AT_ONCE:
            self.flush()
            self._folders = source, above
        file = to_copy(
            source_name, self._target.temporary(), name, size=item.size, st_mode=stored.st_mode, uid=stored.uid,
            gid=stored.gid, mtime_ns=stored.mtime_ns, atime_ns=stored.mtime_ns, owner=self._owner, digest=stored.digest,
        )  # fmt: skip
        if file is None:
            return False
        self._items.append((item, path))
        self._files.append(file)
        return True

    def flush(self) -> None:
        """Give what waits to the threads."""
        items, files = self._items, self._files
        if not items:
            return
        self._items, self._files = [], []

        def done(results: list[Result]) -> None:
            for (item, path), result in zip(items, results, strict=True):
                if result is None:
                    self._slowly(item, path)
                else:
                    self._done(item)

        try:
            source = open_directory(self._folders[0])
            try:
                target = os.dup(self._target.directory(self._folders[1]))
            except BaseException:
                os.close(source)
                raise
        except (NoSpace, Unavailable):
            raise
        except (OSError, HoldfastError):
            done([None] * len(items))  # each is told what is wrong
            return
        self._batches.submit(source, target, files, done)

    def finish(self) -> None:
        """Return when all files are there, or told of."""
        self.flush()
        self._batches.drain()
