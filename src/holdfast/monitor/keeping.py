"""Keeps facts for a script and tells people of them, within a second whatever the disk and the terminal do."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import sys
from _thread import LockType
from collections.abc import Callable
from typing import TextIO

from holdfast.kernel.events import Fact
from holdfast.monitor.asking import Asker
from holdfast.monitor.lanes import Call, Lane
from holdfast.monitor.outbox import Outbox
from holdfast.monitor.place import outbox_folder, state_folder

KEEP_SECONDS, ASK_SECONDS, TELL_SECONDS = 0.5, 0.25, 0.15
"""The longest that the host waits for the disk, for a delivery to be started, and for standard error: 0.9 s in all."""


class Keeping:
    """What one process has for it: a lane each for the disk, for asking, and for standard error, and its outboxes."""

    def __init__(self) -> None:
        self._disk, self._asking, self._voice = Lane(), Lane(), Lane()
        self._asker = Asker()
        self._outboxes: dict[tuple[str, str], Outbox] = {}
        self._complained = self._waits = False

    def keep(self, name: str, make: Callable[[], Fact]) -> bool:
        """Append the fact that ``make`` gives; whether it is known to be kept when this returns.

        ``make`` is called in another thread: it may read source files, and has a stack of its own.
        """
        kept: list[bool] = []

        def work() -> None:
            kept.append(self._append(name, make()))

        call = self._disk.submit(work)
        if self._disk.wait(call, KEEP_SECONDS):
            return kept == [True]
        self._wait_at_the_end()
        self._complain(
            "what happens here could not be recorded within half a second: the disk of the state folder does not "
            "answer. The work goes on; what is recorded meanwhile may be lost."
        )
        return False

    def write(self, work: Callable[[], None]) -> str:
        """Do ``work``, which writes to the disk; returns what went wrong, in words, or ""."""
        failed: list[str] = []

        def attempt() -> None:
            try:
                work()
            except OSError as error:
                failed.append(f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "))
            except Exception as error:
                failed.append(f"{type(error).__name__}: {error}")

        call = self._disk.submit(attempt)
        if not self._disk.wait(call, KEEP_SECONDS):
            self._wait_at_the_end()
            return "the disk does not answer"
        return failed[0] if failed else ""

    def ask(self) -> bool:
        """Ask for the delivery of notices; whether there is somebody to deliver to."""
        asked: list[bool] = []

        def work() -> None:
            asked.append(self._asker.ask(dict(os.environ)))

        return self._asking.wait(self._asking.submit(work), ASK_SECONDS) and asked == [True]

    def tell(self, words: str) -> None:
        """Write ``words`` and a line end to standard error, if there is one that takes them."""
        self._voice.wait(self._say(words), TELL_SECONDS)

    def flush(self) -> None:
        """Write out what standard output and standard error hold back, if they take it."""

        def work() -> None:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    with contextlib.suppress(Exception):
                        stream.flush()

        self._voice.wait(self._voice.submit(work), TELL_SECONDS)

    def _append(self, name: str, fact: Fact) -> bool:
        environ = os.environ
        state = state_folder(environ)
        outbox = self._outboxes.get((str(state), name))
        if outbox is None:
            outbox = Outbox(outbox_folder(state), role=name, on_trouble=self._complain)
            self._outboxes[str(state), name] = outbox
        # Inside `holdfast run` a script's facts belong to that run.
        run, plan = environ.get("HOLDFAST_RUN", ""), environ.get("HOLDFAST_RUN_NAME", "")
        return outbox.append(fact, run=run, operation="run" if run else "", plan=plan) is not None

    def _wait_at_the_end(self) -> None:
        """What waits for a disk that hangs now may still be written when the program ends."""
        if not self._waits:
            self._waits = True
            atexit.register(self._disk.rest, KEEP_SECONDS)

    def _complain(self, words: str) -> None:
        if not self._complained:
            self._complained = True
            self._say(f"holdfast: {words}")

    def _say(self, words: str) -> Call:
        def work() -> None:
            _write_out(sys.stderr, f"{words}\n")

        return self._voice.submit(work)


def _write_out(stream: TextIO | None, text: str) -> None:
    """Past the stream's own buffer where it has a descriptor: a thread that hangs while it holds the buffer's lock
    would take the host with it when the interpreter flushes the streams on its way out."""
    if stream is None:
        return
    with contextlib.suppress(Exception):
        try:
            number = stream.fileno()
        except Exception:
            stream.write(text)  # a stream in memory, or one that somebody put in its place
            stream.flush()
            return
        data = text.encode(stream.encoding or "utf-8", "backslashreplace")
        while data:
            data = data[os.write(number, data) :]


_by_process: dict[int, Keeping] = {}


def here() -> Keeping:
    """This process's. After a fork the child has its own: the parent's threads, and the locks they held, are gone."""
    pid = os.getpid()
    found = _by_process.get(pid)
    return _by_process.setdefault(pid, Keeping()) if found is None else found


def unless_broken(work: Callable[[], None]) -> None:
    """Do ``work`` for a host that must not notice when it fails: then standard error hears of it, and nobody else.

    A host that is at the end of its stack gets the work done in a thread, which has a stack of its own.
    ``KeyboardInterrupt`` is the host's and goes on to it.
    """
    try:
        work()
    except RecursionError:
        try:
            # Calls of C functions only: there is no room for one of Python's.
            done = _thread.allocate_lock()
            done.acquire()
            _thread.start_new_thread(_elsewhere, (work, done))
            done.acquire(True, KEEP_SECONDS)
        except (RuntimeError, MemoryError):
            return  # not even for that: the host itself is about to hear of it
    except Exception as error:
        _failed(error)


def _elsewhere(work: Callable[[], None], done: LockType) -> None:
    try:
        work()
    except Exception as error:
        _failed(error)
    finally:
        done.release()


def _failed(error: Exception) -> None:
    with contextlib.suppress(Exception):
        here().tell(f"holdfast: the monitor failed ({type(error).__name__}: {error}); the work goes on.")
