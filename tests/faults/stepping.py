"""Processes that work on one vault and wait before every step that others could notice: a test decides who goes on.

So any interleaving of several writers, a pruner and a reader can be played, killed in the middle, and played again.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.kernel.errors import HoldfastError
from holdfast.storage import Info, Storage

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

Work = Callable[[Storage], Any]
"""What an actor does with the storage; what it returns must be JSON."""

_QUIET = ("data/",)  # reading these is no step: they never change


class Stepping:
    """Passes every call on to ``inner`` once ``gate`` lets it through: ``b"W"`` changes something, ``b"R"`` looks."""

    def __init__(self, inner: Storage, gate: Callable[[bytes], None]) -> None:
        self._inner = inner
        self._gate = gate
        self.location = inner.location
        self.traits = inner.traits

    def prepare(self, folders: Sequence[str]) -> None:
        self._gate(b"W")
        self._inner.prepare(folders)

    def list(self, folder: str) -> Iterator[Info]:
        self._gate(b"R")
        return iter(list(self._inner.list(folder)))

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        if not name.startswith(_QUIET):
            self._gate(b"R")
        return self._inner.read(name, offset, length)

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        if not name.startswith(_QUIET):
            self._gate(b"R")
        return self._inner.read_into(name, buffer, offset)

    def size(self, name: str) -> int:
        self._gate(b"R")
        return self._inner.size(name)

    def write(self, name: str, data: ReadableBuffer) -> None:
        self._gate(b"W")
        self._inner.write(name, data)

    def staging(self) -> str | None:
        return self._inner.staging()

    def adopt(self, path: str, name: str) -> None:
        self._gate(b"W")
        self._inner.adopt(path, name)

    def replace(self, name: str, data: ReadableBuffer) -> None:
        self._gate(b"W")
        self._inner.replace(name, data)

    def delete(self, name: str) -> None:
        self._gate(b"W")
        self._inner.delete(name)

    def close(self) -> None:
        self._inner.close()


class Actor:
    """One process that does ``work`` step by step. ``outcome`` is None until it has ended.

    Then it is what the work returned, ``{"error": code, "message": text}`` for an expected failure, ``{"crash": text}``
    for any other, or ``"killed"``.
    """

    def __init__(self, work: Work, storage: Callable[[], Storage]) -> None:
        self.outcome: Any = None
        self.next_is_change = False
        go_out, self._go = os.pipe()
        self._said, say = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._go)
            os.close(self._said)
            _play(work, storage, go_out, say)
        os.close(go_out)
        os.close(say)
        self._listen()

    @property
    def is_alive(self) -> bool:
        """Whether it has something left to do."""
        return self._pid != 0

    def step(self, count: int = 1) -> None:
        """Let it go on for so many steps, or to its end."""
        for _ in range(count):
            if not self.is_alive:
                return
            os.write(self._go, b"g")
            self._listen()

    def advance(self, changes: int) -> None:
        """Let it go on until it stands just before a change, so many changes later than now, or to its end."""
        for _ in range(changes):
            self.step()
            while self.is_alive and not self.next_is_change:
                self.step()

    def finish(self) -> Any:
        """Let it go on to its end; its outcome."""
        while self.is_alive:
            self.step()
        return self.outcome

    def kill(self) -> None:
        """SIGKILL it where it stands."""
        if self.is_alive:
            os.kill(self._pid, signal.SIGKILL)
            self._end("killed")

    def _listen(self) -> None:
        """Wait until it stands before its next step, or has ended."""
        said = os.read(self._said, 1)
        if said in (b"R", b"W"):
            self.next_is_change = said == b"W"
            return
        rest = b""
        while piece := os.read(self._said, 1 << 16):
            rest += piece
        self._end(json.loads(rest) if rest else {"crash": "it ended without a word"})

    def _end(self, outcome: Any) -> None:
        os.waitpid(self._pid, 0)
        os.close(self._go)
        os.close(self._said)
        self._pid = 0
        self.outcome = outcome


def _play(work: Work, storage: Callable[[], Storage], go: int, say: int) -> None:
    def gate(kind: bytes) -> None:
        os.write(say, kind)
        if not os.read(go, 1):
            os._exit(3)  # the test is gone

    try:
        try:
            outcome = work(Stepping(storage(), gate))
        except HoldfastError as error:
            outcome = {"error": error.code, "message": error.message}
        except BaseException:
            outcome = {"crash": traceback.format_exc()}
        message = b"d" + json.dumps(outcome).encode()
        while message:
            message = message[os.write(say, message) :]
    finally:
        os._exit(0)
