"""A thread of its own for calls that may hang, so that whoever makes them waits for a bounded time only."""

from __future__ import annotations

import _thread
import contextlib
import sys
from collections import deque
from collections.abc import Callable

_MOST_WAITING = 1000  # calls kept while one of them hangs; later ones are refused


class Call:
    """One call that was handed to a lane."""

    __slots__ = ("_done", "_work", "over", "refused")

    def __init__(self, work: Callable[[], object]) -> None:
        self.refused = self.over = False
        self._work: Callable[[], object] | None = work
        self._done = _thread.allocate_lock()
        self._done.acquire()

    def run(self) -> None:
        """Make the call. Whatever it raises ends here: the thread belongs to somebody else's program."""
        work, self._work = self._work, None
        try:
            if work is not None:
                work()
        except BaseException:
            pass
        finally:
            self.over = True
            self._done.release()

    def wait(self, seconds: float) -> bool:
        """Whether the call is over, after waiting for at most so long."""
        if not self._done.acquire(timeout=max(seconds, 0.0)):
            return False
        self._done.release()
        return True


class Lane:
    """Makes calls one after the other in a thread, which lives only while there are some.

    A program with an idle thread cannot fork without a warning, and an exiting one would wait for it: hence no thread
    that stays, and none that the interpreter knows of. Nothing here waits for a lock, so a signal handler, a finalizer
    or a call within a call may submit as well. Where no thread can be started (the interpreter shuts down), the call is
    made at once by the caller, unless an earlier one is known to hang. A lane belongs to one process: after a fork,
    make another one.
    """

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._busy = _thread.allocate_lock()
        self._starting: set[int] = set()
        self._worker = 0
        self._hung: Call | None = None

    @property
    def hangs(self) -> bool:
        """Whether a call that was waited for in vain is still not over."""
        return self._hung is not None and not self._hung.over

    def submit(self, work: Callable[[], object]) -> Call:
        """Have ``work`` called after what was submitted before. Never raises and never waits."""
        call = Call(work)
        if self._worker == _thread.get_ident():
            call.run()
        elif sys.is_finalizing():
            self._at_the_end(call)
        elif self.hangs and len(self._calls) >= _MOST_WAITING:
            call.refused = True
        else:
            self._calls.append(call)
            self._start()
        return call

    def wait(self, call: Call, seconds: float) -> bool:
        """Whether ``call`` is over. While an earlier one hangs, nobody waits again."""
        if call.refused or self.hangs:
            return call.over
        done = call.wait(seconds)
        if not done:
            self._hung = call
        return done

    def rest(self, seconds: float) -> bool:
        """Whether everything that was submitted is over, after waiting for at most so long: for the way out."""
        return self.submit(_nothing).wait(seconds)

    def _start(self) -> None:
        me = _thread.get_ident()
        # In a signal handler the frame that it interrupted may be just here, and cannot go on before we return.
        again = me in self._starting
        self._starting.add(me)
        try:
            if again:
                _thread.start_new_thread(self._empty, ())
            elif self._busy.acquire(blocking=False):
                _thread.start_new_thread(self._work, ())
        except (RuntimeError, MemoryError):
            self._empty() if again else self._work()
        finally:
            if not again:
                self._starting.discard(me)

    def _work(self) -> None:
        """With the lock, which says that there is a worker. One that finds no lock relies on the last look here."""
        while True:
            self._worker = _thread.get_ident()
            self._empty()
            self._worker = 0
            self._busy.release()
            if not self._calls or not self._busy.acquire(blocking=False):
                return

    def _empty(self) -> None:
        with contextlib.suppress(IndexError, MemoryError, RecursionError):
            while True:
                self._calls.popleft().run()

    def _at_the_end(self, call: Call) -> None:
        """Threads are frozen by now: the one that may hang has the rest of the calls with it."""
        if self.hangs:
            call.refused = True
            return
        self._empty()
        call.run()


def _nothing() -> None:
    pass
