"""Storages that fail on purpose: one whose n-th call raises, one that kills the process at its n-th change."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.kernel.errors import Unavailable
from holdfast.storage import Info, Storage

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

Result = TypeVar("Result")


class Faulty:
    """Passes every call on to ``inner`` and counts it; the call number ``fail_at`` (from 1) raises ``error`` instead.

    0 never fails: run once like that, read ``len(calls)``, then let each call fail in turn. ``lasting`` makes all later
    calls fail as well. ``calls`` holds (method, name) of everything that was asked, the failed call included; ``close``
    does not count.
    """

    def __init__(
        self, inner: Storage, fail_at: int = 0, error: Exception | None = None, *, lasting: bool = False
    ) -> None:
        self._inner = inner
        self._fail_at = fail_at
        self._error = error or Unavailable("the storage failed on purpose")
        self._lasting = lasting
        self.calls: list[tuple[str, str]] = []
        self.location = inner.location
        self.traits = inner.traits

    def prepare(self, folders: Sequence[str]) -> None:
        self._count("prepare", ",".join(folders))
        self._inner.prepare(folders)

    def list(self, folder: str) -> Iterator[Info]:
        self._count("list", folder)
        return self._inner.list(folder)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self._count("read", name)
        return self._inner.read(name, offset, length)

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        self._count("read_into", name)
        return self._inner.read_into(name, buffer, offset)

    def size(self, name: str) -> int:
        self._count("size", name)
        return self._inner.size(name)

    def write(self, name: str, data: ReadableBuffer) -> None:
        self._count("write", name)
        self._inner.write(name, data)

    def staging(self) -> str | None:
        self._count("staging", "")
        return self._inner.staging()

    def adopt(self, path: str, name: str) -> None:
        self._count("adopt", name)
        self._inner.adopt(path, name)

    def replace(self, name: str, data: ReadableBuffer) -> None:
        self._count("replace", name)
        self._inner.replace(name, data)

    def delete(self, name: str) -> None:
        self._count("delete", name)
        self._inner.delete(name)

    def close(self) -> None:
        self._inner.close()

    def _count(self, method: str, name: str) -> None:
        self.calls.append((method, name))
        number = len(self.calls)
        if self._fail_at and (number == self._fail_at or (self._lasting and number > self._fail_at)):
            raise self._error


class Late(Faulty):
    """As :class:`Faulty`, but a change takes effect before it fails: an answer that was lost on the way."""

    _lost = False

    def write(self, name: str, data: ReadableBuffer) -> None:
        super().write(name, data)
        self._answer()

    def adopt(self, path: str, name: str) -> None:
        super().adopt(path, name)
        self._answer()

    def replace(self, name: str, data: ReadableBuffer) -> None:
        super().replace(name, data)
        self._answer()

    def delete(self, name: str) -> None:
        super().delete(name)
        self._answer()

    def _count(self, method: str, name: str) -> None:
        try:
            super()._count(method, name)
        except Exception:
            if method not in ("write", "adopt", "replace", "delete"):
                raise
            self._lost = True

    def _answer(self) -> None:
        if self._lost:
            self._lost = False
            raise self._error


class Killing:
    """Passes every call on to ``inner``; SIGKILLs this process at the change number ``at`` (from 1; 0 never).

    Changes are prepare, write, adopt, replace and delete. ``after`` kills once the change was made, else just before
    it. Use it in a forked child or a child process only.
    """

    def __init__(self, inner: Storage, at: int, *, after: bool = False) -> None:
        self._inner = inner
        self._at = at
        self._after = after
        self.changes = 0
        self.location = inner.location
        self.traits = inner.traits

    def prepare(self, folders: Sequence[str]) -> None:
        self._change(self._inner.prepare, folders)

    def list(self, folder: str) -> Iterator[Info]:
        return self._inner.list(folder)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._inner.read(name, offset, length)

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        return self._inner.read_into(name, buffer, offset)

    def size(self, name: str) -> int:
        return self._inner.size(name)

    def write(self, name: str, data: ReadableBuffer) -> None:
        self._change(self._inner.write, name, data)

    def staging(self) -> str | None:
        return self._inner.staging()

    def adopt(self, path: str, name: str) -> None:
        self._change(self._inner.adopt, path, name)

    def replace(self, name: str, data: ReadableBuffer) -> None:
        self._change(self._inner.replace, name, data)

    def delete(self, name: str) -> None:
        self._change(self._inner.delete, name)

    def close(self) -> None:
        self._inner.close()

    def _change(self, make: Callable[..., None], *arguments: Any) -> None:
        self.changes += 1
        if self.changes == self._at and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        make(*arguments)
        if self.changes == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked child; returns 0, 1 if it raised, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            work()
            outcome = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(outcome)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
