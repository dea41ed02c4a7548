"""SQLite files that programs use, for vaults of plain files: a consistent copy stands in for the live one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.files.xattrs import read_xattrs
from holdfast.kernel.cancel import Cancel
from holdfast.sources.directory import Item
from holdfast.sources.sqlite import COMPANIONS, Plain, Unfit, seen
from holdfast.vaults.beside import AS_PLAIN, ENCRYPTED, Beside

if TYPE_CHECKING:
    from holdfast.format.node import Stat

SALT = b", databases"
"""Added to the salt of listings: what was compared without a look at databases is compared again."""


class StandIns:
    """Finds the databases in use in one folder after the other. ``tell`` gets a kind (``checked``, ``warning``,
    ``failed``), a path and a sentence. Where it is not ``on``, there are none."""

    def __init__(self, cancel: Cancel, tell: Callable[[str, bytes, str], None], *, on: bool) -> None:
        self._cancel = cancel
        self._tell = tell
        self._on = on
        self._beside = Beside((), None)
        self._items: list[Item] = []
        self._live: dict[bytes, Item] = {}

    def listed(self, fd: int, path: bytes, items: list[Item]) -> list[Item]:
        """What is to be saved of an open folder: databases in use have a ``Plain`` for their stat, which tells whether
        they have changed, and what is beside them is left out. Without any, these are the ``items``."""
        if not self._on or not any(item.name.endswith(COMPANIONS) for item in items):
            return items
        return self._chosen(Beside(items, fd), path, items)

    def named(self, path: bytes, item: Item) -> list[Item]:
        """The same for one file in the folder ``path``."""
        if not self._on or item.stat.st_mode & 0o170000 != 0o100000:
            return [item]
        return self._chosen(Beside.of_file(item, path + b"/" + item.name), path, [item])

    def _chosen(self, beside: Beside, path: bytes, items: list[Item]) -> list[Item]:
        for name in beside.encrypted:
            self._tell("warning", path + b"/" + name, ENCRYPTED)
        if not beside.databases:
            return items
        self._beside = beside
        self._live = {item.name: item for item in items if item.name in beside.databases}
        self._items = [self._now(item) for item in items if item.name not in beside.left_out]
        return self._items

    def _now(self, item: Item) -> Item:
        if item.name not in self._live:
            return item
        stat = seen(item.stat, self._beside.databases[item.name])
        return Item(item.name, stat._replace(st_size=item.stat.st_size, st_nlink=1))

    @contextmanager
    def copy(self, path: bytes, item: Item) -> Iterator[tuple[int, Stat]]:
        """A consistent copy of the database ``item`` of the folder ``path``, under its name in an open folder of its
        own, with its permissions and times. Raises ``Unfit`` where none can be made, ``OSError``, ``Cancelled``."""
        from holdfast.sources.sqlitecopy import consistent_copy  # most runs can do without

        name, st = item
        whole = path + b"/" + name
        with consistent_copy(whole, self._live[name].stat, self._cancel) as copy:
            check = copy.check.result(self._cancel)
            folder = os.open(os.path.dirname(copy.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.rename(copy.path, name, dst_dir_fd=folder)
                with contextlib.suppress(PermissionError):  # only root gives files away
                    os.chown(name, st.st_uid, st.st_gid, dir_fd=folder)
                os.chmod(name, st.st_mode & 0o7777, dir_fd=folder)
                os.utime(name, ns=(st.st_mtime_ns, st.st_mtime_ns), dir_fd=folder)
                if check == "ok":
                    self._tell("checked", whole, "integrity check: ok")
                else:
                    self._tell("warning", whole, f"saved, but its integrity check found: {check}")
                yield folder, os.lstat(name, dir_fd=folder)
            finally:
                os.close(folder)

    def as_plain(self, path: bytes, item: Item, unfit: Unfit) -> Item:
        """The live file instead, as it is; what is beside it follows at the end of the last list of this folder."""
        self._tell("failed" if unfit.failed else "warning", path + b"/" + item.name, f"{unfit}: {AS_PLAIN}")
        self._items += self._beside.databases.get(item.name, ())
        self._beside.release(item.name)
        return self._live.pop(item.name)


def is_stand_in(item: Item) -> bool:
    """Whether a copy has to be made of it first."""
    return isinstance(item.stat, Plain)


def attributes(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes of the live file. Raises ``OSError``."""
    return tuple(read_xattrs(path, problems=[]))
