"""Tries again, with growing random pauses, what failed because a place was out of reach."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from holdfast.kernel.backoff import wait_seconds
from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import Corrupt, HoldfastError, NoSpace, NotFound, Unavailable
from holdfast.storage.base import Info, Storage
from holdfast.storage.manner import Manner
from holdfast.storage.trouble import Trouble, duration

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

Result = TypeVar("Result")

Pause = Callable[[float], bool]
"""Waits so many seconds; true, and at once, when nobody wants the result any more."""

SHORT_READS = 2
"""How often a read that ended early is tried again: a connection may break without an error, a file stays short."""


def sleep(seconds: float) -> bool:
    """A :data:`Pause` that nobody ends early."""
    time.sleep(seconds)
    return False


class Retrying:
    """Repeats a call of ``inner`` that raises ``Unavailable`` for as long as ``manner`` has patience.

    Repeating is safe: files never change, and writing what is there already succeeds. The pauses grow up to a minute,
    and are at least as long as the server asks for (``retry_after`` seconds in the error's context). Not tried again
    are ``NoSpace``, whatever is not ``Unavailable``, and calls that come when all have failed for so long already. A
    read that ended early (``Corrupt``) is tried twice more. ``list`` starts again and passes over the names already
    given.

    ``pause`` waits, and says when the caller is gone; ``tell`` takes sentences for a person when it takes long.
    """

    def __init__(
        self,
        inner: Storage,
        manner: Manner,
        *,
        pause: Pause = sleep,
        tell: Callable[[str], None] | None = None,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._manner = manner
        self._pause = pause
        self._clock = clock or SystemClock()
        self._draw = draw
        self._trouble = Trouble(tell, self._clock)
        self.location = inner.location
        self.traits = inner.traits

    def prepare(self, folders: Sequence[str]) -> None:
        self._persist(lambda: self._inner.prepare(folders))

    def list(self, folder: str) -> Iterator[Info]:
        given: set[str] = set()
        effort = _Effort(self._clock.monotonic())
        while True:
            before = len(given)
            try:
                for info in self._inner.list(folder):
                    if info.name not in given:
                        given.add(info.name)
                        yield info
            except Unavailable as error:
                if len(given) > before:
                    effort = _Effort(self._clock.monotonic())  # it got on: another stretch of trouble
                self._wait(effort, error)
            else:
                self._trouble.over()
                return

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        for _ in range(SHORT_READS):
            try:
                return self._persist(lambda: self._inner.read(name, offset, length))
            except Corrupt:
                if self._pause(wait_seconds(1, self._draw)):
                    raise
        return self._persist(lambda: self._inner.read(name, offset, length))

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        return self._persist(lambda: self._inner.read_into(name, buffer, offset))

    def size(self, name: str) -> int:
        return self._persist(lambda: self._inner.size(name))

    def write(self, name: str, data: ReadableBuffer) -> None:
        self._persist(lambda: self._inner.write(name, data))

    def staging(self) -> str | None:
        return self._inner.staging()

    def adopt(self, path: str, name: str) -> None:
        self._persist(lambda: self._inner.adopt(path, name))

    def replace(self, name: str, data: ReadableBuffer) -> None:
        tries = 0

        def again() -> None:
            nonlocal tries
            tries += 1
            try:
                self._inner.replace(name, data)
            except NotFound:
                if tries == 1:
                    raise
                self._inner.write(name, data)  # a try before took the old content away, and no more

        self._persist(again)

    def delete(self, name: str) -> None:
        self._persist(lambda: self._inner.delete(name))

    def close(self) -> None:
        self._inner.close()

    def _persist(self, call: Callable[[], Result]) -> Result:
        effort = _Effort(self._clock.monotonic())
        while True:
            try:
                result = call()
            except Unavailable as error:
                self._wait(effort, error)
            except HoldfastError:
                self._trouble.over()
                raise
            else:
                self._trouble.over()
                return result

    def _patience(self) -> float:
        longest = self._manner.patience
        return longest if self._trouble.ever_answered else min(longest, self._manner.first_patience)

    def _wait(self, effort: _Effort, error: Unavailable) -> None:
        """Pause after a failure, or raise if another try makes no sense."""
        if isinstance(error, NoSpace):
            raise error
        effort.failures += 1
        now = self._clock.monotonic()
        if effort.failed_at is None:
            effort.failed_at = now
        patience = self._patience()
        give_up_at = effort.failed_at + patience
        pause = wait_seconds(effort.failures, self._draw, asked=_asked(error))
        since = self._trouble.failed(error.message, effort.began, now + pause, give_up_at)
        if now + pause > min(give_up_at, since + patience) or self._pause(pause):
            raise effort.given_up(error, self._clock.monotonic()) from error


class _Effort:
    """One call with all its tries."""

    __slots__ = ("began", "failed_at", "failures")

    def __init__(self, began: float) -> None:
        self.began = began
        self.failed_at: float | None = None
        self.failures = 0

    def given_up(self, error: Unavailable, now: float) -> Unavailable:
        if self.failures < 2:
            return error
        tried = f"tried {self.failures} times in {duration(now - self.began)}"
        context = {**error.context, "tries": self.failures}
        return type(error)(f"{error.message.rstrip('.')} ({tried})", hint=error.hint, **context)


def _asked(error: Unavailable) -> float:
    """The seconds for which the server wants to be left alone."""
    asked = error.context.get("retry_after")
    return float(asked) if isinstance(asked, (int, float)) else 0.0
