"""What of a folder a restore wants, and of the folders in it."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.files.chosen import Chosen
from holdfast.files.rules import Scope


class Selection(NamedTuple):
    """What of a folder is wanted. ``include`` None: everything from here on; ``exclude`` None: nothing is left out."""

    include: Scope | Chosen | None
    exclude: Scope | None

    def child(self, name: bytes, is_dir: bool) -> tuple[bool, Selection | None]:
        """Whether the entry ``name`` is wanted, and for a directory what is wanted of it (None: do not enter)."""
        include, exclude = self
        if exclude is not None and exclude.excludes(name, is_dir):
            return False, None
        wanted = include is None or include.excludes(name, is_dir)
        if not is_dir:
            return wanted, None
        inner = None if wanted or include is None else include.enter(name)
        return wanted, Selection(inner, None if exclude is None else exclude.enter(name))
