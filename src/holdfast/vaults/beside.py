"""SQLite files of a folder that have files of SQLite beside them: which they are, and what belongs to them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from holdfast.sources import sqlite
from holdfast.sources.directory import Item, open_directory

AS_PLAIN = "saved as plain files, which may not fit together"
ENCRYPTED = f"looks like an encrypted database in use: {AS_PLAIN}"


class Beside:
    """The databases of one directory that have companions, and the companions' names, which are left out."""

    __slots__ = ("databases", "encrypted", "left_out")

    def __init__(self, items: Sequence[Item], dir_fd: int | None) -> None:
        self.databases: dict[bytes, list[Item]] = {}
        self.left_out: set[bytes] = set()
        self.encrypted: Sequence[bytes] = ()
        # Made for every directory of every backup: nearly all of them have nothing of the kind.
        beside = [item.name for item in items if item.name.endswith(sqlite.COMPANIONS)]
        if not beside:
            return
        self.databases = sqlite.companions(items, dir_fd)
        self.left_out = {item.name for found in self.databases.values() for item in found}
        if any(name.endswith(sqlite.WAL) and name not in self.left_out for name in beside):
            self.encrypted = sqlite.looks_encrypted(items, dir_fd)

    @classmethod
    def of_file(cls, item: Item, path: bytes) -> Beside:
        """The same for a single file that the user named."""
        folder = path.rpartition(b"/")[0] or b"/"
        items = [item]
        for ending in sqlite.COMPANIONS:
            with contextlib.suppress(OSError):
                items.append(Item(item.name + ending, os.lstat(path + ending)))
        fd = open_directory(folder)
        try:
            return cls(items, fd)
        finally:
            os.close(fd)

    def release(self, name: bytes) -> None:
        """The database is saved as it is: then so are its companions."""
        self.left_out -= {item.name for item in self.databases.pop(name, ())}
