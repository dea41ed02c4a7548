"""The process pool: results, errors, deaths, and doing without processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from tests.faults.faulty import in_child

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Internal, NotFound
from holdfast.kernel.pool import Pool


def squares() -> Callable[[int], Iterator[int]]:
    def handle(task: int) -> Iterator[int]:
        for number in range(task):
            yield number * number

    return handle


@pytest.mark.parametrize("size", [0, 1, 3])
def test_every_result_of_every_task_arrives(size: int) -> None:
    with Pool(squares, size) as pool:
        for task in range(20):
            pool.submit(task)
        found = sorted(result for result in pool.results() if result is not None)
    assert found == sorted(number * number for task in range(20) for number in range(task))


@pytest.mark.parametrize("size", [0, 2])
def test_tasks_may_be_added_while_results_come(size: int) -> None:
    with Pool(squares, size) as pool:
        pool.submit(4)
        seen = []
        for result in pool.results():
            if result is not None:
                seen.append(result)
                if len(seen) == 4:
                    pool.submit(2)
    assert sorted(seen) == [0, 0, 1, 1, 4, 9]


def test_messages_larger_than_a_pipe_pass_both_ways() -> None:
    def start() -> Callable[[bytes], Iterator[bytes]]:
        return lambda task: iter([task + b"!", task])

    big = b"x" * 3_000_000
    with Pool(start, 2) as pool:
        for _ in range(4):
            pool.submit(big)
        sizes = [len(result) for result in pool.results() if result is not None]
    assert sorted(sizes) == [3_000_000] * 4 + [3_000_001] * 4


@pytest.mark.parametrize("size", [0, 2])
def test_our_errors_keep_their_message_hint_and_context(size: int) -> None:
    def start() -> Callable[[int], Iterator[int]]:
        def handle(_task: int) -> Iterator[int]:
            raise NotFound("nothing there", hint="look elsewhere", path="/x")
            yield 0

        return handle

    with Pool(start, size) as pool, pytest.raises(NotFound, match="nothing there") as caught:
        pool.submit(1)
        list(pool.results())
    assert caught.value.hint == "look elsewhere"
    assert caught.value.context == {"path": "/x"}


def test_other_errors_carry_the_workers_traceback() -> None:
    def start() -> Callable[[int], Iterator[int]]:
        def handle(task: int) -> Iterator[int]:
            yield 1 // task

        return handle

    with Pool(start, 1) as pool, pytest.raises(Internal, match="ZeroDivisionError") as caught:
        pool.submit(0)
        list(pool.results())
    assert "handle" in caught.value.context["traceback"]


def test_a_worker_that_is_killed_is_told() -> None:
    def start() -> Callable[[int], Iterator[int]]:
        def handle(_task: int) -> Iterator[int]:
            os.kill(os.getpid(), signal.SIGKILL)
            yield 0

        return handle

    with Pool(start, 2) as pool, pytest.raises(Internal, match="SIGKILL"):
        pool.submit(1)
        list(pool.results())


def test_each_worker_answers_once() -> None:
    def start() -> Callable[[str], Iterator[int]]:
        return lambda _task: iter([os.getpid()])

    with Pool(start, 3) as pool:
        assert len(set(pool.each("who are you?"))) == 3


def test_workers_see_a_cancel_and_ignore_the_keyboard() -> None:
    cancel = Cancel()

    def start() -> Callable[[int], Iterator[int]]:
        def handle(_task: int) -> Iterator[int]:
            os.kill(os.getpid(), signal.SIGINT)
            yield 1
            cancel.check()
            yield 2

        return handle

    with Pool(start, 1) as pool, pytest.raises(Cancelled):
        cancel.cancel("enough")
        pool.submit(1)
        assert [result for result in pool.results() if result] == [1]


def test_closing_leaves_no_process_behind() -> None:
    def work() -> None:
        pool = Pool(squares, 3)
        pool.submit(3)
        pool.close(at_once=True)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    assert in_child(work) == 0  # this process may have servers of other tests as its children
