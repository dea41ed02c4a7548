"""The map that works in threads: order, errors, and that no thread outlives it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from holdfast.kernel import threads
from holdfast.kernel.threads import map_in_threads


@pytest.fixture(params=[1, 2, 3, 64])
def processors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(threads, "_processors", lambda: request.param)
    return int(request.param)


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_come_in_the_order_of_the_items(processors: int, count: int) -> None:
    before = threading.active_count()
    assert map_in_threads(lambda item: item * item, iter(range(count))) == [item * item for item in range(count)]
    assert threading.active_count() == before


def test_items_are_worked_on_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_processors", lambda: 3)
    together = threading.Barrier(3, timeout=30)
    assert sorted(map_in_threads(lambda _: together.wait(), range(3))) == [0, 1, 2]


def test_more_wait_at_once_than_there_are_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_processors", lambda: 1)
    together = threading.Barrier(9, timeout=30)
    assert sorted(map_in_threads(lambda _: together.wait(), range(9), at_once=9)) == list(range(9))


def test_an_error_is_raised_again_and_ends_the_rest(processors: int) -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 2:
            raise MemoryError("of item 2")
        return item

    before = threading.active_count()
    with pytest.raises(MemoryError, match="of item 2"):
        map_in_threads(work, range(1000))
    assert len(begun) < 1000
    assert threading.active_count() == before


@pytest.mark.parametrize("interrupted_while", ["working", "waiting"])
def test_an_interrupt_leaves_no_thread(monkeypatch: pytest.MonkeyPatch, interrupted_while: str) -> None:
    monkeypatch.setattr(threads, "_processors", lambda: 2)
    main = threading.current_thread()
    helper_works, interrupted = threading.Event(), threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def work(item: int) -> int:
        if threading.current_thread() is main:
            helper_works.wait(30)
            if interrupted_while == "working":
                os.kill(os.getpid(), signal.SIGINT)
        else:
            helper_works.set()
            if interrupted_while == "waiting":
                signal.pthread_kill(main.ident or 0, signal.SIGINT)
            interrupted.wait(30)
        return item

    before, handler = threading.active_count(), signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            map_in_threads(work, range(2))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert threading.active_count() == before


def test_where_no_thread_can_be_started_the_caller_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_processors", lambda: 4)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert map_in_threads(str, range(5)) == ["0", "1", "2", "3", "4"]
