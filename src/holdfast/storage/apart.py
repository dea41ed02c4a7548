"""A storage in a process of its own, the clerk, so that forked children and threads may use it as they use a folder."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Unavailable
from holdfast.storage import wire
from holdfast.storage.base import Info, Storage, check_folder, check_name, check_range, check_replaceable
from holdfast.storage.hiring import Connection, Gone, Hired
from holdfast.storage.manner import Manner
from holdfast.storage.wire import Opening

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

Result = TypeVar("Result")

_TRY_AGAIN = (
    "The machine may be out of memory: look at its log, then run the command again. "
    "With HOLDFAST_DEBUG=1 the process tells more."
)
OPENER = "holdfast.storage.locations:open_directly"


class Apart:
    """The place that ``text`` names, opened in the clerk by ``open_directly(text, manner)``.

    ``plain`` is the same place opened here: it is asked for its location and traits only, which contacts nothing. The
    clerk starts with :meth:`start` or the first call, serves this process and all that are forked from it, and ends
    when the last of them is gone, even if they were killed. A call has a line to the clerk for itself; lines are used
    again. A clerk that dies during a call is replaced once and the call is repeated (calls may be: see ``Retrying``);
    where that does not help, and in the middle of a listing, ``Unavailable`` says so.

    ``cancel``: once it is pressed, failed calls are not repeated for longer than a few seconds. ``on_trouble`` gets
    sentences such as "waiting for the storage ..." in the process that made this: while it waits for a call of its own,
    and when it calls :meth:`hear`.

    Measured on 2 processors with a folder in memory behind it: 37 us for a small call, 1.2 GB/s for writes of 16 MiB,
    1.9 GB/s for such reads; from the start to the first answer 0.07 s and what the place's library takes to import.
    """

    def __init__(
        self,
        text: str,
        manner: Manner,
        plain: Storage,
        *,
        cancel: Cancel | None = None,
        on_trouble: Callable[[str], None] | None = None,
        opener: str = OPENER,
    ) -> None:
        self.location = plain.location
        self.traits = replace(plain.traits, fork_safe=True)
        self._opening = Opening(opener, text, manner)
        self._cancel = cancel
        self._on_trouble = on_trouble
        self._home = os.getpid()
        self._hired: Hired | None = None
        self._begin_process()

    def start(self) -> None:
        """Start the clerk, if none runs, without waiting for it: it gets ready while the caller does other things."""
        self._clerk()

    def hear(self) -> None:
        """Pass on what the clerk has to tell, without waiting. Cheap enough to be called before every event."""
        if self._hired is not None and self._hired.is_ours:
            self._hired.hear(self._tell)

    def prepare(self, folders: Sequence[str]) -> None:
        for folder in folders:
            check_folder(folder)
        self._ask(wire.PREPARE, "\0".join(folders))

    def list(self, folder: str) -> Iterator[Info]:
        check_folder(folder)
        return self._list(folder)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        check_range(offset, length)
        return self._ask(wire.READ, name, offset, -1 if length is None else length)

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        check_name(name)
        check_range(offset)
        view = memoryview(buffer).cast("B")
        done = 0
        while True:
            piece = view[done : done + wire.LARGEST_FILL]
            count = self._fill(name, piece, offset + done)
            done += count
            if count < len(piece) or done == len(view):
                return done

    def size(self, name: str) -> int:
        check_name(name)
        size: int = wire.SIZE_ONLY.unpack(self._ask(wire.SIZE, name))[0]
        return size

    def write(self, name: str, data: ReadableBuffer) -> None:
        check_name(name)
        view = memoryview(data).cast("B")
        self._ask(wire.WRITE, name, len(view), content=view)

    def staging(self) -> str | None:
        """None: the clerk reads what it adopts and sends it away."""
        return None

    def adopt(self, path: str, name: str) -> None:
        check_name(name)
        self._ask(wire.ADOPT, f"{name}\0{os.path.abspath(path)}")

    def replace(self, name: str, data: ReadableBuffer) -> None:
        check_replaceable(name)
        view = memoryview(data).cast("B")
        self._ask(wire.REPLACE, name, len(view), content=view)

    def delete(self, name: str) -> None:
        check_name(name)
        self._ask(wire.DELETE, name)

    def close(self) -> None:
        self._in_this_process()
        while self._free:
            self._free.pop().close()
        if self._hired is not None:
            hired, self._hired = self._hired, None
            hired.dismiss(self._tell)

    # -- calls -----------------------------------------------------------------------------------------------------

    def _ask(
        self, operation: int, name: str, offset: int = 0, length: int = 0, content: memoryview | None = None
    ) -> bytes:
        return self._call(lambda line: line.ask(operation, name, offset, length, content).finish())

    def _fill(self, name: str, piece: memoryview, offset: int) -> int:
        def fill(line: Connection) -> int:
            _, size = line.ask(wire.FILL, name, offset, len(piece)).answer()
            line.take_into(piece[:size])
            return size

        return self._call(fill)

    def _call(self, call: Callable[[Connection], Result]) -> Result:
        """Make ``call`` on a line of its own; once more with a new clerk if the clerk dies."""
        try:
            with self._line() as line:
                return call(line)
        except Gone as gone:
            self._replace(gone.hired)
        try:
            with self._line() as line:
                return call(line)
        except Gone as gone:
            raise self._lost(gone.hired) from None
        except Corrupt as error:
            # Perhaps only the part of a file that the dead clerk had sent: the next run gives its packs other names.
            raise Unavailable(f"{error.message}; the process that wrote there died", hint=_TRY_AGAIN) from error

    def _list(self, folder: str) -> Iterator[Info]:
        begun = False
        for is_last in (False, True):
            try:
                with self._line() as line:
                    line.ask(wire.LIST, folder)
                    while True:
                        kind, size = line.answer()
                        if kind == wire.DONE:
                            line.take(size)
                            return
                        begun = True
                        for name, length in pickle.loads(line.take(size)):
                            yield Info(name, length)
            except Gone as gone:
                if begun or is_last:
                    raise self._lost(gone.hired) from None
                self._replace(gone.hired)

    # -- the clerk -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _line(self) -> Iterator[Connection]:
        """A line that nobody else uses meanwhile. Raises :class:`Gone`, and ``Unavailable`` where no clerk starts."""
        self._in_this_process()
        line = self._free_line() or Connection(self._clerk(), self._tell, self._in_hurry)
        try:
            yield line
        finally:
            if line.is_usable and line.hired is self._hired:
                self._free.append(line)
            else:
                line.close()

    def _free_line(self) -> Connection | None:
        try:
            return self._free.pop()
        except IndexError:
            return None

    def _clerk(self) -> Hired:
        with self._lock:
            if self._hired is None:
                self._hired = Hired(self._opening)
            return self._hired

    def _replace(self, dead: Hired) -> None:
        """Forget a clerk that died: the next call starts another one."""
        with self._lock:
            if self._hired is not dead:
                return  # another thread was here already
            self._hired = None
        while line := self._free_line():
            line.close()
        self._tell(f"the process that talks to {self.location} died{_how(dead)}; a new one is started")

    def _lost(self, dead: Hired) -> Unavailable:
        self._replace(dead)
        return Unavailable(
            f"The process that talks to {self.location} died{_how(dead)}.",
            hint=_TRY_AGAIN,
            location=self.location,
        )

    def _in_this_process(self) -> None:
        """After a fork: leave the parent's lines to the parent."""
        if self._pid != os.getpid():
            for line in self._free:
                line.close()
            self._begin_process()

    def _begin_process(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._free: list[Connection] = []

    def _tell(self, words: str) -> None:
        if self._on_trouble is not None and os.getpid() == self._home:
            self._on_trouble(words)

    def _in_hurry(self) -> bool:
        return self._cancel is not None and self._cancel.requested


def _how(dead: Hired) -> str:
    how = dead.how_it_ended()
    return f" ({how})" if how else ""
