"""Makes the mirror's directories equal to their sources, one after the other, a directory after all that is in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.files.rules import Scope
from holdfast.files.xattrs import read_xattrs
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Cancelled, HoldfastError, NoSpace, Unavailable
from holdfast.sources.directory import NOTHING, Item, Lister, Listing, open_directory
from holdfast.vaults.marker import FOLDER
from holdfast.vaults.mirror.databases import Databases
from holdfast.vaults.mirror.entries import Entries
from holdfast.vaults.mirror.frames import VANISHED, Frame, Telling
from holdfast.vaults.mirror.glance import Glances
from holdfast.vaults.mirror.hands import MOST_WAITING, Answer, Hands
from holdfast.vaults.mirror.here import Here
from holdfast.vaults.mirror.records import NEVER, NO_HASH, Record, decode, encode, rows, stamp, stamp_here, unsure
from holdfast.vaults.mirror.shared import Shared
from holdfast.vaults.mirror.state import Directory, State

if TYPE_CHECKING:
    from holdfast.format.node import Stat

COMMIT_SECONDS = 30.0
"""How much work a killed run may cost the next one: it must read and compare again what no commit has named."""

_KIND, _DIR, _FILE = 0o170000, 0o040000, 0o100000
_RACE_NS = 20_000_000  # the file systems' clock stands still for up to 10 ms, so a second change may look like none
_UNMOUNTED = (
    "this folder is empty now, but the mirror holds what was in it: nothing was removed. Is its disk mounted? "
    "--allow-empty mirrors the empty folder"
)


class Walk:
    """One run over any number of sources.

    Protocol: an entry is made under a temporary name and renamed; a directory gets its metadata when all in it is done;
    then the state is told; the state is committed only when everything is on the medium. Whatever a crash leaves is
    found by the next run, because it does not look as the state says.
    """

    def __init__(
        self,
        lister: Lister,
        here: Here,
        state: State,
        telling: Telling,
        cancel: Cancel,
        clock: Clock,
        *,
        force: bool,
        dry_run: bool,
        allow_empty: bool,
        sqlite: bool = False,
        workers: int = 0,
    ) -> None:
        """``workers``: processes that copy files, once there are many to copy; 0: this one does."""
        self._lister = lister
        self._here = here
        self._state = state
        self._telling = telling
        self._cancel = cancel
        self._clock = clock
        self._force = force
        self._dry_run = dry_run
        self._allow_empty = allow_empty
        self._entries = Entries(here, telling, force=force, dry_run=dry_run)
        self._databases = Databases(self._entries, telling, cancel, on=sqlite, dry_run=dry_run)
        self._hands = Hands(here.root, protect=bool(here.mask), size=0 if dry_run else workers)
        glancing = not (state.is_new or force or telling.wants_everything)
        glancing = glancing and self._hands.threaded and lister.may_take_all
        self._glances = Glances(here.root, lister, state, clock, workers if glancing else 0)
        self._shared = Shared(self._hands, here, telling)
        self._entries.defer = self._shared.defer
        self._open: dict[int, Frame] = {}  # what was entered and is not done, by the number of its ticket
        self._ticket = 0
        self._committed = clock.monotonic()

    def mirror(self, top: Frame) -> None:
        """Mirror one source. Raises ``Cancelled``, ``NoSpace``, ``Unavailable`` and damage of the state."""
        stack = [top]
        try:
            while stack or self._hands.waiting:
                self._cancel.check()
                if stack and self._hands.waiting < MOST_WAITING:
                    self._glances.ask(stack)
                    frame = stack.pop()
                    children = self._visit(frame)
                    stack += reversed(children)
                    self._telling.tick(frame.path)
                for answer in self._hands.answers(wait=not stack or self._hands.waiting >= MOST_WAITING):
                    self._take(answer)
        except BaseException as error:
            if isinstance(error, Cancelled):
                self._hands.stop()
            self._hands.close(at_once=True)
            for frame in sorted(self._open.values(), key=lambda frame: frame.here.count(b"/"), reverse=True):
                self._close_up(frame)
            raise

    def close(self) -> None:
        """End the workers."""
        self._glances.close()
        self._hands.close()

    def _visit(self, frame: Frame) -> list[Frame]:
        """Enter a directory; it is done at once if it waits for nothing."""
        self._ticket += 1
        frame.ticket = self._ticket
        self._open[frame.ticket] = frame
        children = self._enter(frame)
        frame.waiting += len(children)
        self._shared.send(frame)
        self._close_done(frame)
        return children

    def _close_done(self, frame: Frame | None) -> None:
        """Leave a directory that waits for nothing any more, and so on upwards."""
        while frame is not None and not frame.waiting:
            self._leave(frame)
            del self._open[frame.ticket]
            frame = frame.parent
            if frame is not None:
                frame.waiting -= 1

    def _take(self, answer: Answer) -> None:
        """What came of one batch."""
        frame = self._open[answer.ticket]
        for name, error in self._shared.take(frame, answer):
            self._refused(frame, name, error)
        self._telling.tick(frame.path)
        frame.waiting -= 1
        self._close_done(frame)

    def commit(self) -> None:
        """Everything that is done becomes durable, first the tree and then what the state says of it."""
        if not self._dry_run:
            self._here.sync()
            self._state.commit()
        self._committed = self._clock.monotonic()

    # -- on the way down -------------------------------------------------------------------------------------------

    def _enter(self, frame: Frame) -> list[Frame]:
        """Do everything that is directly in a directory; returns the directories in it."""
        if (unchanged := self._glances.unchanged(frame)) is not None:
            row, names = unchanged
            self._telling.unchanged(row.files, row.bytes)
            return [self._kept_child(frame, name) for name in names]
        try:
            fd = open_directory(frame.path)
        except OSError as error:
            self._lose(frame, error)
            return []
        try:
            now = self._clock.now_ns()
            try:
                frame.st = os.fstat(fd)
                scope, listing = self._list(frame, fd)
                frame.xattrs = read_xattrs(fd)
            except OSError as error:
                self._lose(frame, error)
                return []
            frame.scope = scope
            return self._compare(frame, fd, listing, now if listing.at_ns is None else listing.at_ns)
        finally:
            os.close(fd)

    def _list(self, frame: Frame, fd: int) -> tuple[Scope, Listing]:
        if frame.only is not None:
            items = [Item(name, os.lstat(name, dir_fd=fd)) for name in sorted(frame.only)]
            return frame.scope, Listing(items, b"", 0)
        scope, listing = self._lister.look(fd, frame.scope, frame.name, frame.path)
        if not frame.here:  # the mirror of "/" cannot hold a second folder of the name of its own
            listing = listing._replace(items=[item for item in listing.items if item.name != FOLDER])
        return scope, listing

    def _lose(self, frame: Frame, error: OSError) -> None:
        """A directory that cannot be read: the mirror keeps what it has of it."""
        self._give_up(frame)
        if error.errno in VANISHED:
            self._telling.warning(frame.path, "vanished while the backup was running")
        else:
            self._telling.failed(frame.path, error.strerror or str(error))

    def _give_up(self, frame: Frame) -> None:
        frame.failed = True
        above = frame.parent
        if above is not None and not above.kept:
            above.complete = False
            above.records[frame.name] = NEVER, NO_HASH  # its metadata are not as its source's yet

    def _compare(self, frame: Frame, fd: int, listing: Listing, now: int) -> list[Frame]:
        telling = self._telling
        there, key = self._here.look(frame.here)
        row = self._state.directory(frame.here)
        if self._looks_unmounted(frame, listing, bool(there), row):
            self._give_up(frame)
            telling.failed(frame.path, _UNMOUNTED)
            return []
        telling.summary.excluded += listing.excluded
        for name, why in listing.reasons:
            telling.excluded(frame.source(name), why)
        frame.key = listing.key
        listing = listing._replace(items=self._databases.listed(frame, fd, listing.items))
        if row is not None and not self._force and listing.key and (row.source, row.here) == (listing.key, key):
            return self._keep(frame, listing, row, there)
        known = self._state.items(frame.here) if row is not None else {}
        if frame.only is None:
            wanted = {item.name for item in listing.items}
            for name in [name for name in there if name not in wanted]:
                self._tried(frame, name, self._entries.remove, frame, name, there.pop(name))
        children: list[Frame] = []
        fresh_ns = self._shared.fresh_ns = now - _RACE_NS
        items = listing.items
        if not there and row is None and frame.only is None:
            items = self._shared.hand_over(frame, items)
        for item in items:
            self._cancel.check()
            name, st = item
            kind = st.st_mode & _KIND
            before, record = there.get(name), known.get(name)
            if kind == _DIR:
                if self._tried(frame, name, self._directory, frame, item, before):
                    children.append(self._child(frame, item, before, record))
            else:
                act = self._databases.way(item)
                self._tried(frame, name, act, frame, fd, item, before, record)
                if name in frame.deferred:
                    continue
                if name not in frame.records and record is not None:
                    frame.records[name] = unsure(record.source), record.hash  # the copy of last time stays
                if st.st_ctime_ns > fresh_ns and name in frame.records:
                    source, digest = frame.records[name]
                    frame.complete, frame.records[name] = False, (unsure(source), digest)
        return children

    def _looks_unmounted(self, frame: Frame, listing: Listing, holds: bool, row: Directory | None) -> bool:
        if listing.items or listing.excluded or not holds or self._allow_empty or listing.key == NOTHING:
            return False
        if frame.only is not None or frame.st is None:
            return False
        return frame.parent is None or (row is not None and row.device != frame.st.st_dev)

    def _keep(self, frame: Frame, listing: Listing, row: Directory, there: dict[bytes, Stat]) -> list[Frame]:
        """Both sides are as the last run left them. Files here may have other names elsewhere, new to the mirror."""
        frame.kept = True
        if linked := [item for item in listing.items if item.stat.st_nlink > 1 and item.stat.st_mode & _KIND == _FILE]:
            known = self._state.items(frame.here)
            for item in linked:
                if item.name in known:
                    self._entries.remember(frame, item, known[item.name].hash, there[item.name].st_ino)
        self._telling.unchanged(row.files, row.bytes)
        children = []
        for item in listing.items:
            if item.stat.st_mode & _KIND == _DIR:
                children.append(self._kept_child(frame, item.name))
            elif self._telling.wants_everything:
                self._telling.other("unchanged", frame.source(item.name))
        return children

    def _kept_child(self, frame: Frame, name: bytes) -> Frame:
        self._telling.directory("unmodified")
        return Frame(frame.source(name), frame.copy(name), frame.scope, name=name, parent=frame)

    def _directory(self, frame: Frame, item: Item, before: Stat | None) -> None:
        """See to it that there is a directory in the mirror."""
        if before is not None:
            if stat.S_ISDIR(before.st_mode):
                return
            self._entries.remove(frame, item.name, before)
        if not self._dry_run:
            frame.wrote = True
            self._here.writable(frame.here)
            self._here.make_directory(frame.copy(item.name))

    def _child(self, frame: Frame, item: Item, before: Stat | None, record: Record | None) -> Frame:
        now = stamp(item.stat)
        frame.records[item.name] = now, NO_HASH
        word, fix = "new", True
        if before is not None and stat.S_ISDIR(before.st_mode):
            known = record is not None and record.source == now
            word = "unmodified" if known else "changed"
            fix = not known or record is None or record.here != stamp_here(before)
        else:
            self._telling.other("new", frame.source(item.name))
        self._telling.directory(word)
        return Frame(frame.source(item.name), frame.copy(item.name), frame.scope, name=item.name, parent=frame, fix=fix)

    def _tried(self, frame: Frame, name: bytes, act: Callable[..., object], *words: object) -> bool:
        """Do one thing to one entry. What the mirror refuses is a problem; a full or failing disk ends the run."""
        try:
            act(*words)
        except HoldfastError as error:
            self._refused(frame, name, error)
            return False
        return True

    def _refused(self, frame: Frame, name: bytes, error: HoldfastError) -> None:
        if isinstance(error, (NoSpace, Unavailable)):
            raise error
        frame.complete = False
        self._telling.failed(frame.source(name), error.message)

    # -- on the way up ---------------------------------------------------------------------------------------------

    def _leave(self, frame: Frame) -> None:
        """Everything below is done: the directory's own metadata, and what is known of it now."""
        if self._dry_run or frame.failed or frame.st is None:
            return
        if (frame.fix or frame.wrote) and frame.here:
            self._finish(frame)
            if frame.parent is not None:
                frame.parent.relook = True
        if frame.kept and not frame.relook:
            return
        sides = frame.records
        if frame.kept:
            known = self._state.items(frame.here)
            sides = {name: (record.source, record.hash) for name, record in known.items()}
        there, key = self._look_back(frame.here)
        data, files, size = rows(there, sides)
        if frame.only is not None:  # nothing is said of the others
            every = {**self._state.items(frame.here), **decode(data)}
            data = encode(every)
            _, files, size = rows(there, {name: (record.source, record.hash) for name, record in every.items()})
        trusted = frame.complete and frame.only is None
        self._state.put_rows(
            frame.here,
            Directory(frame.key if trusted else b"", key if trusted else b"", frame.st.st_dev, files, size),
            data,
        )
        if self._clock.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def _look_back(self, path: bytes) -> tuple[Iterable[tuple[bytes, Stat]] | bytes, bytes]:
        """What is in a directory of the mirror now, as ``rows`` takes it, and the hash of all of that."""
        if path:
            with suppress(OSError):  # what is wrong is told below
                packed, key = self._here.survey(path)
                if key:
                    return packed, key
        found, key = self._here.look(path)
        return found.items(), key

    def _finish(self, frame: Frame) -> None:
        assert frame.st is not None
        for why in self._here.finish(frame.here, frame.st, frame.xattrs):
            self._telling.warning(frame.path, why, once=True)

    def _close_up(self, frame: Frame) -> None:
        """After a stop: a directory that was opened up gets its permissions back; the state knows nothing of it."""
        if frame.wrote and frame.here and frame.st is not None:
            try:
                self._finish(frame)
            except HoldfastError:
                return
