"""SQLite files in use: the mirror gets a consistent copy under the file's name, and nothing that is beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.kernel.cancel import Cancel
from holdfast.sources.directory import Item
from holdfast.sources.sqlite import Plain, Unfit
from holdfast.vaults.mirror.entries import Entries
from holdfast.vaults.mirror.frames import Frame, Telling
from holdfast.vaults.mirror.records import Record, stamp, unstamp
from holdfast.vaults.standin import StandIns, attributes, is_stand_in

if TYPE_CHECKING:
    from holdfast.format.node import Stat


class Databases:
    """Looks for databases in use, and copies them; with ``on`` False there are none."""

    def __init__(self, entries: Entries, telling: Telling, cancel: Cancel, *, on: bool, dry_run: bool) -> None:
        self._entries = entries
        self._telling = telling
        self._dry_run = dry_run
        self._stand_ins = StandIns(cancel, telling.tell, on=on)

    def listed(self, frame: Frame, fd: int, items: list[Item]) -> list[Item]:
        """What is to be mirrored of the entries of a directory. While it is gone through, it may grow."""
        if frame.only is None:
            return self._stand_ins.listed(fd, frame.source(b"")[:-1], items)
        return [one for item in items for one in self._stand_ins.named(frame.source(b"")[:-1], item)]

    def way(self, item: Item) -> Callable[[Frame, int, Item, Stat | None, Record | None], None]:
        """What has to be done to something that is no directory."""
        if item.stat.st_mode & 0o170000 != 0o100000:
            return self._entries.other
        return self.save if is_stand_in(item) else self._entries.file

    def save(self, frame: Frame, fd: int, item: Item, before: Stat | None, record: Record | None) -> None:
        """Like ``Entries.file``, for what is a database in use."""
        name, st = item
        assert isinstance(st, Plain)
        if record is not None:
            st = st._replace(st_size=unstamp(record.source).st_size)  # the live file has another length than its copy
        if self._entries.unchanged(frame, Item(name, st), before, record):
            return
        path = frame.source(name)
        if self._dry_run:
            self._telling.copied("new" if before is None else "changed", path, item.stat.st_size)
            return
        folder = path[: -len(name) - 1]
        try:
            with self._stand_ins.copy(folder, item) as (scratch, copied):
                self._entries.read(frame, scratch, Item(name, copied), before, record)
                attached = attributes(path)
        except Unfit as unfit:
            frame.complete = False
            self._entries.file(frame, fd, self._stand_ins.as_plain(folder, item, unfit), before, record)
            return
        except OSError as error:
            self._telling.unreadable(frame, name, error)
            return
        if name in frame.records:
            now = Item(name, st._replace(st_size=copied.st_size))
            self._entries.give(frame, now, attached)
            frame.records[name] = stamp(now.stat), frame.records[name][1]
