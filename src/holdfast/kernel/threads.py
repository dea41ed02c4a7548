"""Threads for a moment: a map whose threads have all ended when it returns, because the engine forks later."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

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


def _processors() -> int:
    if sys.platform.startswith("linux"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
