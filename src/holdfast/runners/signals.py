"""Signals as something to wait for: caught while a child runs, so that they can be passed on to it."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_TAKEN = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


class Signals:
    """Those that came, oldest first. ``wake`` is a descriptor that can be read when something happened."""

    def __init__(self, wake: int) -> None:
        self.wake = wake
        self.came: list[int] = []
        self.first = 0
        """The first of all that came; 0 while there was none."""

    def take(self) -> list[int]:
        """Those that came since the last call."""
        with suppress(BlockingIOError):
            while os.read(self.wake, 512):
                pass
        came, self.came = self.came, []
        return came

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until a signal that asks to end has come; whether one has."""
        if not self.first:
            select.select([self.wake], [], [], max(seconds, 0.0))
            self.take()
        return bool(self.first)

    def _note(self, number: int) -> None:
        self.first = self.first or number
        self.came.append(number)


@contextmanager
def caught() -> Iterator[Signals]:
    """Catch what asks this process to end (SIGINT, SIGTERM, SIGHUP, SIGQUIT), and hear when a child changes.

    What is ignored stays ignored, as nohup wants it. For the main thread only; afterwards all is as it was before.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signals = Signals(reading)
    before: dict[int, object] = {}

    def note(number: int, _frame: object) -> None:
        signals._note(number)

    def ignore(_number: int, _frame: object) -> None:
        """A handler has to be there, or nothing is written to the pipe."""

    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        for name in _TAKEN:
            number = getattr(signal, name)
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, ignore)
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        signal.set_wakeup_fd(wakeup)
        os.close(reading)
        os.close(writing)
