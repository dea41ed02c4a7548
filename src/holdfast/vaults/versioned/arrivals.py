"""Files that are new in a folder of the source: the small ones are staged by threads, a folder at a time."""

from __future__ import annotations

import os
from collections.abc import Callable

from holdfast.files.names import Names
from holdfast.files.small import File
from holdfast.sources.directory import Item
from holdfast.vaults.batches import Batches, Result
from holdfast.vaults.versioned.compare import is_fresh
from holdfast.vaults.versioned.draft import Draft, version_of
from holdfast.vaults.versioned.model import Change, Version, join
from holdfast.vaults.versioned.staging import Content
from holdfast.vaults.versioned.tally import Tally

FEWEST = 8
"""Fewer new files in a folder are not worth it."""

MOST_AT_ONCE = 64
"""Files that one thread copies in one go."""

LARGEST = 1 << 16
_KIND, _FILE = 0o170000, 0o100000


class Arrivals:
    """Takes new files of one folder after the other. What cannot be done at once is given to ``slowly``."""

    def __init__(self, batches: Batches, draft: Draft, tally: Tally, names: Names) -> None:
        self._batches = batches
        self._draft = draft
        self._tally = tally
        self._names = names

    def pick(self, items: list[Item], known: dict[bytes, Version]) -> list[Item]:
        """Those of a folder's entries that can be staged so; none if there are few."""
        if self._draft.dry_run or not self._batches.usable:
            return []
        found = [
            item
            for item in items
            if item.name not in known and item.stat.st_mode & _KIND == _FILE and item.stat.st_size <= LARGEST
        ]
        return found if len(found) >= FEWEST else []

    def stage(self, fd: int, folder: bytes, items: list[Item], began: int, slowly: Callable[[int, Item], None]) -> None:
        """Stage files of the open ``folder``, which was listed at ``began`` (ns). ``slowly`` gets that folder, and
        what is no ordinary file, or not as it was listed any more. Drain the batches before a commit of the draft."""
        staging, source = self._draft.staging, os.dup(fd)
        picked: list[Item] = []
        files: list[File] = []
        for item in items:
            file = staging.reserve(item.name, item.stat)
            if file is None:
                slowly(source, item)
            else:
                picked.append(item)
                files.append(file)

        def done(results: list[Result]) -> None:
            for item, file, result in zip(picked, files, results, strict=True):
                if result is None:
                    slowly(source, item)
                else:
                    self._add(folder, item, file, result[0], began)

        self._batches.submit(source, staging.folder(), files, done)

    def _add(self, folder: bytes, item: Item, file: File, digest: bytes, began: int) -> None:
        name, st = item
        draft, tally = self._draft, self._tally
        content = Content(digest, st.st_size, (), False, None)
        after = version_of(name, st, draft.number, self._names, content=content, trusted=not is_fresh(st, began))
        draft.add(Change(folder, name, None, after, int(file[1])))
        tally.copied += st.st_size
        tally.count(st.st_mode, st.st_size, "new")
        tally.change("new", join(folder, name), "")
