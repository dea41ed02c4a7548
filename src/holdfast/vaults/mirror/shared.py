"""Which files of a mirror the workers copy, and what is known of them when they are done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from holdfast.kernel.errors import HoldfastError
from holdfast.sources.directory import Item
from holdfast.vaults.mirror.frames import Deferred, Frame, Telling
from holdfast.vaults.mirror.hands import Answer, Hands, batches, new_batches
from holdfast.vaults.mirror.here import Here
from holdfast.vaults.mirror.records import NEVER, Record, unsure
from holdfast.vaults.mirror.writing import SMALL
from holdfast.vaults.standin import is_stand_in

if TYPE_CHECKING:
    from holdfast.format.node import Stat

_KIND, _FILE = 0o170000, 0o100000
_NEW = Deferred(b"", 0, "new", None, False)  # what is known of a file that was handed over


class Shared:
    """The files that a walk does not copy itself, once there are many. Frames wait for each batch of theirs.

    ``fresh_ns``: what changed after it, in the directory that is being entered, has to be looked at again.
    """

    def __init__(self, hands: Hands, here: Here, telling: Telling) -> None:
        self._hands = hands
        self._here = here
        self._telling = telling
        self._copies = 0
        self.fresh_ns = 0

    def defer(self, frame: Frame, item: Item, now: bytes, before: Stat | None, record: Record | None) -> bool:
        """Whether a worker copies this file: when there are many to copy, and it is an ordinary one."""
        self._copies += 1
        st = item.stat
        if self._copies <= self._hands.worth_from or not self._hands.size or st.st_nlink > 1:
            return False
        if before is not None and before.st_mode & _KIND != _FILE:
            return False
        word = "new" if before is None else "changed"
        known = None if record is None else record.hash
        frame.deferred[item.name] = Deferred(now, st.st_size, word, known, st.st_ctime_ns > self.fresh_ns)
        return True

    def send(self, frame: Frame) -> None:
        """Give what was deferred of a directory to the workers."""
        if frame.deferred:
            frame.wrote = True
            self._here.writable(frame.here)
        for batch in batches(frame):
            frame.waiting += 1
            self._hands.submit(batch)

    def hand_over(self, frame: Frame, items: list[Item]) -> list[Item]:
        """Have others copy what is small and ordinary of a directory that is new to the mirror; the rest comes back.
        With this, most of a first run, nothing is done file by file."""
        hands = self._hands
        if not hands.threaded or self._telling.wants_changes or self._copies + len(items) <= hands.worth_from:
            return items
        plain: list[Item] = []
        rest: list[Item] = []
        for item in items:
            st = item.stat
            is_plain = st.st_mode & _KIND == _FILE and st.st_nlink == 1 and st.st_size <= SMALL
            is_plain = is_plain and st.st_ctime_ns <= self.fresh_ns and not is_stand_in(item)
            (plain if is_plain else rest).append(item)
        new = new_batches(frame, plain)
        if new is None:
            return items
        self._copies += len(plain)
        if plain:
            frame.wrote = True
            self._here.writable(frame.here)
        for batch in new:
            frame.waiting += 1
            hands.submit(batch)
        return rest

    def take(self, frame: Frame, answer: Answer) -> Iterator[tuple[bytes, HoldfastError]]:
        """Note what came of one batch; yields what the mirror refused, by name."""
        frame.complete = frame.complete and answer.complete
        for path, why, once in answer.warnings:
            self._telling.warning(path, why, once=once)
        if answer.done:
            frame.records.update(answer.done)
            self._telling.new(len(answer.done), answer.size)
        for done in answer.files:
            deferred = frame.deferred.pop(done.name, _NEW)
            if done.record is not None:
                frame.records[done.name] = done.record
                self._telling.copied(deferred.word, frame.source(done.name), done.size)
            elif deferred.hash is not None:
                frame.records[done.name] = NEVER, deferred.hash
            if done.unreadable is not None:
                self._telling.unreadable(frame, done.name, done.unreadable)
            elif done.refused is not None:
                yield done.name, done.refused
            if deferred.fresh and done.record is not None:
                frame.complete, frame.records[done.name] = False, (unsure(done.record[0]), done.record[1])
