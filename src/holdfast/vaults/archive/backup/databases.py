"""SQLite files in saved folders: a consistent copy takes the live file's place, its companions are left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from holdfast.files.names import Names
from holdfast.files.xattrs import read_xattrs
from holdfast.format.chunker import MIN_SIZE
from holdfast.format.node import NodeWriter, Stat
from holdfast.kernel.cancel import Cancel
from holdfast.sources import sqlite
from holdfast.sources.directory import Item
from holdfast.vaults.archive.backup.content import ContentReader
from holdfast.vaults.archive.backup.frames import Frame
from holdfast.vaults.archive.backup.old import OldNodes, OldTrees
from holdfast.vaults.beside import AS_PLAIN, Beside

_BLOCK = 64 << 10
_MOST_BLOCKS = 65_536  # above 4 GiB blocks double, so that a node lists at most this many to twice as many


class Saved(NamedTuple):
    """A database in the vault: its node, the size of the copy, and how much was read for it (0: unchanged)."""

    node: bytes
    size: int
    read: int


class Databases:
    """Saves SQLite files for one process of a backup."""

    def __init__(
        self,
        reader: ContentReader,
        old_trees: OldTrees,
        nodes: NodeWriter,
        names: Names,
        cancel: Cancel,
        tell: Callable[[str, bytes, str], None],
    ) -> None:
        self._reader = reader
        self._old_trees = old_trees
        self._nodes = nodes
        self._names = names
        self._cancel = cancel
        self._tell = tell

    def save(
        self,
        frame: Frame,
        dir_fd: int | None,
        item: Item,
        folder: bytes,
        old_nodes: OldNodes,
        beside: Beside,
        *,
        force: bool,
    ) -> Saved | None:
        """Save a file if it is a database; None: it is none, or (as was told) it has to be saved as any other file.

        Raises ``OSError``.
        """
        name, st = item
        path = folder + b"/" + name
        if not sqlite.is_database(name if dir_fd is not None else path, dir_fd):
            return None
        seen = sqlite.seen(st, beside.databases.get(name, ()))
        if not force:
            node, old = self._old_trees.same_database(old_nodes, name, seen)
            if node is not None and old is not None:
                return Saved(node, int(old.fields.get("size") or 0), 0)
        from holdfast.sources.sqlitecopy import consistent_copy  # 3 ms that most backups can do without

        try:
            with consistent_copy(path, st, self._cancel) as copy:
                if copy.size <= MIN_SIZE:
                    blobs, size = self._reader.save(copy.fd, copy.size)
                else:
                    blobs, size = self._reader.save_blocks(copy.fd, block_size(copy.size))
                check = copy.check.result(self._cancel)
        except sqlite.Unfit as unfit:
            beside.release(name)
            frame.memoize = frame.memoize and not unfit.failed
            self._tell("failed" if unfit.failed else "warning", path, f"{unfit}: {AS_PLAIN}")
            return None
        if check == "ok":
            self._tell("checked", path, "integrity check: ok")
        else:
            self._tell("warning", path, f"saved, but its integrity check found: {check}")
        owner = self._names.user(st.st_uid), self._names.group(st.st_gid)
        stat = seen._replace(st_nlink=st.st_nlink)
        return Saved(self._nodes.file(name, stat, *owner, read_xattrs(path), blobs, size), size, size)


def may_be_database(st: Stat) -> bool:
    """Whether the size allows it: pages of at least 512 bytes. Saves opening 998 of 1,000 other files."""
    return st.st_size > 0 and not st.st_size & 511


def block_size(size: int) -> int:
    """How a database of ``size`` bytes is cut. Pages stay where they are: blocks of fixed size find each other again.

    A changed page costs one block: with 64 KiB, 500 changed pages all over 2 GB cost 1.6 % of it; with restic's
    boundaries (1.5 MiB) it would be 30 %.
    """
    block = _BLOCK
    while block * _MOST_BLOCKS < size:
        block *= 2
    return block
