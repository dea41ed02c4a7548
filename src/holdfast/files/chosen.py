"""A choice of single files of a snapshot, as a restore takes it: exactly these paths, in place of patterns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Tree = dict[bytes, Any]
"""Name -> what is chosen in that folder; None: the file itself."""


class Chosen:
    """The files that are wanted in one folder and below. Handed to other processes with the folders that they visit."""

    __slots__ = ("_tree",)

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    @classmethod
    def of(cls, paths: Iterable[bytes]) -> Chosen:
        """``paths`` are absolute, as in the snapshot."""
        top: Tree = {}
        for path in paths:
            *folders, name = path.strip(b"/").split(b"/")
            tree = top
            for folder in folders:
                tree = tree.setdefault(folder, {})
            tree[name] = None
        return cls(top)

    def __reduce__(self) -> tuple[Any, ...]:
        return Chosen, (self._tree,)

    def root(self, path: bytes) -> Chosen:
        """The choice below the absolute ``path`` of the snapshot."""
        found = self
        for name in path.split(b"/"):
            found = found.enter(name) if name else found
        return found

    def excludes(self, name: bytes, is_dir: bool) -> bool:
        """Whether the entry is chosen. (The word is that of rules: for ``include`` a pattern that fits means wanted.)

        A folder is never chosen itself: what is in it may be.
        """
        return not is_dir and self._tree.get(name, self) is None

    def enter(self, name: bytes) -> Chosen:
        """What is chosen in the folder ``name`` of this one."""
        return Chosen(self._tree.get(name) or {})
