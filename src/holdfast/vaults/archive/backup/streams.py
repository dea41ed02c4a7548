"""Streamed entries (database dumps, output of commands): their folders in the tree, and the tasks that save them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError, Invalid
from holdfast.sources.base import PLACE, ROOT, Source, StreamEntry, as_path
from holdfast.sources.sqlite import Plain
from holdfast.vaults.archive.backup.assembly import Assembly
from holdfast.vaults.archive.backup.frames import Frame
from holdfast.vaults.archive.backup.roots import Target
from holdfast.vaults.archive.backup.saver import Saver
from holdfast.vaults.archive.backup.tasks import BigFile, OldTree, Task
from holdfast.vaults.archive.backup.tasks import Stream as StreamTask

_DIR, _FILE = 0o040700, 0o100600


class Planned(NamedTuple):
    """An entry that is to be saved; ``source`` is its source's number in the options."""

    source: int
    entry: StreamEntry


Folder = dict[bytes, "Folder | Planned"]


def plan(sources: Iterable[Source], cancel: Cancel, failed: Callable[[bytes, str], None]) -> Folder:
    """What the sources have to save now, arranged below ``ROOT``. A source that cannot tell has failed, not the run.

    Raises ``Invalid`` where two entries would have the same place.
    """
    top: Folder = {}
    for number, source in enumerate(sources):
        try:
            entries = source.entries(cancel)
        except HoldfastError as error:
            failed(as_path(source.place), f"{error.message} {error.hint}".strip())
            continue
        for entry in entries:
            level = top
            for part in (*PLACE[1:], *entry.place[:-1]):
                deeper = level.setdefault(part, {})
                if isinstance(deeper, Planned):
                    raise _twice(entry)
                level = deeper
            if entry.place[-1] in level:
                raise _twice(entry)
            level[entry.place[-1]] = Planned(number, entry)
    return top


def _twice(entry: StreamEntry) -> Invalid:
    return Invalid(
        f"two databases or commands would both be saved as {os.fsdecode(as_path(entry.place))}",
        hint="Give one of them another name: NAME=...",
    )


def refuse_taken_places(targets: Iterable[Target]) -> None:
    """Raise ``Invalid`` where a saved path would stand in the folder of the streamed entries."""
    for target in targets:
        if target.parts[:1] == (ROOT,):
            raise Invalid(
                f"{os.fsdecode(target.path)} cannot be saved together with databases: /{ROOT.decode()} is their place",
                hint="Save it in a backup of its own.",
            )


class Grafting:
    """Gives the assembly the folders of the streamed entries, and submits a task for each entry."""

    def __init__(
        self,
        saver: Saver,
        assembly: Assembly,
        submit: Callable[[Task, bool], None],
        ticket: Callable[[], int],
        now: int,
    ) -> None:
        self._saver = saver
        self._assembly = assembly
        self._submit = submit
        self._ticket = ticket
        self._now = now
        self._files = 0

    def head(self, name: bytes) -> bytes:
        """The node of one of the folders, up to its tree's id."""
        return self._saver.entries.nodes.directory_head(name, self._stat(_DIR), *self._owner(), ())

    def level(self, folder: Folder, path: bytes, above: int, order: int, old: OldTree) -> None:
        """One folder; ``path`` is for people."""
        frame = Frame(self._ticket(), above, order, b"")
        frame.memoize = False
        frame.old_tree = self._saver.entries.old_trees.resolve(old)
        known = self._saver.entries.old_trees.nodes(frame.old_tree)
        deeper: list[tuple[bytes, Folder, int]] = []
        tasks: list[tuple[BigFile, Planned]] = []
        for name in sorted(folder):
            value = folder[name]
            frame.missing += 1
            if isinstance(value, Planned):
                self._files += 1
                before = known.find(name) is not None
                stat = self._stat(_FILE)
                position = len(frame.parts)
                tasks.append(
                    (BigFile(-self._files, frame.ticket, position, path + b"/" + name, name, 0, before, stat), value)
                )
                frame.parts.append(None)
            else:
                deeper.append((name, value, len(frame.subtrees)))
                frame.subtrees.append((len(frame.parts), None))
                frame.parts.append(self.head(name))
        self._assembly.expect(frame)
        for big, planned in tasks:
            self._assembly.share(big)
            self._submit(StreamTask(big.file, planned.source, planned.entry), False)
        for name, below, position in deeper:
            inner: OldTree = None if frame.old_tree is None else (frame.old_tree, name)
            self.level(below, path + b"/" + name, frame.ticket, position, inner)

    def _stat(self, mode: int) -> Plain:
        return Plain(mode, self._now, self._now, os.getuid(), os.getgid(), st_nlink=1 if mode == _FILE else 0)

    def _owner(self) -> tuple[str, str]:
        names = self._saver.entries.names
        return names.user(os.getuid()), names.group(os.getgid())
