"""Threads that end with what they are for, because the engine forks later: a map, and workers for many tasks."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_TURN_SECONDS = 0.0001
"""How long a thread keeps the interpreter while others want it. With the usual 5 ms, whoever comes back from a short
call of the system waits that long for his turn: a mirror of 5,815 files spent 0.16 s so."""

_MOST = 4  # what runs here holds memory for each thread: for scrypt 64 MiB


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], at_once: int | None = None
) -> list[Result]:
    """``[function(item) for item in items]``, several at a time: worth it where ``function`` releases the interpreter
    lock.

    The caller's thread is one of at most ``at_once``: by default of four, and of no more than there are processors;
    give it where ``function`` rather waits (for a network) than works. The first exception is raised again, and what
    was not begun then stays undone; a Ctrl-C counts as one. No thread is left when this returns.
    """
    waiting = list(enumerate(items))[::-1]
    results: dict[int, Result] = {}
    failed: list[BaseException] = []
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if failed or not waiting:
                    return
                index, item = waiting.pop()
            try:
                results[index] = function(item)
            except BaseException as error:
                failed.append(error)

    count = len(waiting)
    most = min(_processors(), _MOST) if at_once is None else at_once
    threads = [threading.Thread(target=work) for _ in range(min(count, most) - 1)]
    try:
        # Where the system allows no more threads, those that run do it all: this one is among them.
        with contextlib.suppress(RuntimeError):
            for thread in threads:
                thread.start()
        work()
    except BaseException as error:
        failed.append(error)
    while True:
        try:
            for thread in threads:
                if thread.is_alive():
                    thread.join()
            break
        except BaseException as error:  # a Ctrl-C: the threads end after the item that each has begun
            failed.append(error)
    if failed:
        raise failed[0]
    return [results[index] for index in range(count)]


class Workers(Generic[Item, Result]):
    """Some threads that carry out tasks which mostly release the interpreter lock. For the use of one thread alone.

    Nothing is started before the first task; call :meth:`close` at the end, whatever happened.
    """

    def __init__(self, start: Callable[[], Callable[[Item], Result]], count: int = 0) -> None:
        """``start`` is called in each thread and gives what does its tasks. ``count`` 0: one for each processor."""
        self._start = start
        self._count = count or _processors()
        self._threads: list[threading.Thread] = []
        self._tasks: deque[Item] = deque()
        self._done: deque[Result] = deque()
        self._failed: list[BaseException] = []
        self._changed = threading.Condition()
        self._closed = False
        self._usual_turn = sys.getswitchinterval()
        self.waiting = 0  # tasks without an answer

    def submit(self, task: Item) -> None:
        """Have a task done."""
        with self._changed:
            self._tasks.append(task)
            self.waiting += 1
            self._changed.notify_all()
        while len(self._threads) < self._count and len(self._threads) < self.waiting:
            thread = threading.Thread(target=self._work, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system allows no more
                self._count = len(self._threads)
                if not self._count:
                    self._work(forever=False)
                return
            self._threads.append(thread)
            if len(self._threads) == 1:
                sys.setswitchinterval(_TURN_SECONDS)

    def take(self, *, wait: bool) -> list[Result]:
        """The answers that are there; with ``wait`` at least one, if any is to come. Raises what a task raised."""
        with self._changed:
            while wait and self.waiting and not self._done and not self._failed:
                self._changed.wait(0.1)  # so that a signal's handler has its turn
            if self._failed:
                raise self._failed[0]
            found = list(self._done)
            self._done.clear()
            self.waiting -= len(found)
        return found

    def forget_waiting(self) -> list[Item]:
        """Do no more than what was begun; returns the rest."""
        with self._changed:
            left = list(self._tasks)
            self._tasks.clear()
            self.waiting -= len(left)
        return left

    def close(self) -> None:
        """Return when all threads have ended. What they had not begun stays undone."""
        with self._changed:
            self._closed = True
            self._tasks.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        if self._threads:
            sys.setswitchinterval(self._usual_turn)

    def _work(self, *, forever: bool = True) -> None:
        act: Callable[[Item], Result] | None = None
        while True:
            with self._changed:
                while forever and not self._tasks and not self._closed:
                    self._changed.wait()
                if not self._tasks or self._failed:
                    return
                task = self._tasks.popleft()
            try:
                act = act or self._start()
                answer = act(task)
            except BaseException as error:
                with self._changed:
                    self._failed.append(error)
                    self._changed.notify_all()
                return
            with self._changed:
                self._done.append(answer)
                self._changed.notify_all()


def _processors() -> int:
    if sys.platform.startswith("linux"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
