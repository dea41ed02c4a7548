"""Spread independent tasks over forked worker processes, one pipe pair each; the only place that starts processes for
speed.

Threads lose on small-file work (the interpreter lock); ``multiprocessing`` costs 17 ms of imports and a helper thread.
A pool forks at once, so make it before any thread or network client exists (decision 0004).
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, NoReturn, TypeVar

from holdfast.kernel.errors import Cancelled, HoldfastError, Internal

Task = TypeVar("Task")
Result = TypeVar("Result")
Handler = Callable[[Task], Iterable[Result]]

_MOST_WAITING = 5  # each holds some 40 MB; five requests at once fill most lines (restic's number as well)
_LENGTH = struct.Struct("<Q")
_RESULT, _DONE, _ERROR = 0, 1, 2
_parent = 0  # in a worker: the process that made it


def default_size(waiting: int = 1) -> int:
    """How many workers keep this machine busy: processors that we may use, plus those that are ``waiting`` for a disk
    or a network (``Traits.connections`` of a storage); 0 where forking is unsafe.

    Measured on 2 processors, first backup of 300,000 tiny files: two workers 6.5 s, three 5.5 s.
    """
    if not sys.platform.startswith("linux"):
        return 0
    return len(os.sched_getaffinity(0)) + min(waiting, _MOST_WAITING)


def abandoned() -> bool:
    """Whether this is a worker whose parent is gone: nobody wants its results, but it would notice only with the next.

    A process that is no worker may well outlive its parent (``nohup``), and is never abandoned.
    """
    return _parent not in (0, os.getppid())


class Pool(Generic[Task, Result]):
    """Workers that turn one task into any number of results.

    ``start`` runs once in every worker and returns its handler. ``size`` 0 runs everything in this process, lazily,
    one task after the other: same results, no processes. A task goes to a worker only when it is idle, so neither side
    can block the other. What a handler raises is raised again here; a worker that dies raises ``Internal``.
    """

    def __init__(self, start: Callable[[], Handler[Task, Result]], size: int) -> None:
        self._queue: deque[Task] = deque()
        self._workers: list[_Worker] = []
        self._local = start() if size == 0 else None
        if size:
            gc.collect()
            gc.freeze()  # the children then share these pages until somebody writes to them
            for _ in range(size):
                self._workers.append(_Worker(start, self._workers))
            gc.unfreeze()

    def __enter__(self) -> Pool[Task, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(at_once=kind is not None)

    @property
    def size(self) -> int:
        """How many processes there are; 0 means that this process does the work itself."""
        return len(self._workers)

    def submit(self, task: Task, *, first: bool = False) -> None:
        """Queue one task; ``first`` puts it ahead of the others."""
        if first:
            self._queue.appendleft(task)
        else:
            self._queue.append(task)

    def begin(self) -> None:
        """Give waiting tasks to idle workers now, without waiting for results."""
        self._feed()

    def forget_waiting(self) -> None:
        """Drop the tasks that no worker has taken yet."""
        self._queue.clear()

    def results(self, idle: float = 0.1) -> Iterator[Result | None]:
        """Every result, in the order of arrival, until no task is left; ``None`` after each ``idle`` seconds of
        silence.

        The consumer may submit more tasks while it iterates.
        """
        if self._local is not None:
            while self._queue:
                yield from self._local(self._queue.popleft())
            return
        while True:
            self._feed()
            busy = [worker for worker in self._workers if worker.busy]
            if not busy:
                return
            ready, _, _ = select.select(busy, [], [], idle)
            if not ready:
                yield None
            for worker in ready:
                kind, payload = worker.receive()
                if kind == _RESULT:
                    yield payload  # type: ignore[misc]
                else:
                    worker.busy = False
                    if kind == _ERROR:
                        raise payload  # type: ignore[misc]

    def each(self, task: Task) -> Iterator[Result]:
        """Give ``task`` to every worker once and return all their results. The queue must be empty."""
        if self._local is not None:
            yield from self._local(task)
            return
        for worker in self._workers:
            worker.send(task)
        for result in self.results():
            if result is not None:
                yield result

    def close(self, *, at_once: bool = False) -> None:
        """End all workers: kindly, or ``at_once`` with SIGTERM when their work is of no more use."""
        for worker in self._workers:
            worker.close(at_once=at_once)
        self._workers = []
        self._queue.clear()

    def _feed(self) -> None:
        for worker in self._workers:
            if not self._queue:
                return
            if not worker.busy:
                worker.send(self._queue.popleft())


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self, start: Callable[[], Handler[Task, Result]], older: list[_Worker]) -> None:
        task_in, self._task_out = os.pipe()
        self._result_in, result_out = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            global _parent
            _parent = parent
            for fd in (self._task_out, self._result_in, *(fd for other in older for fd in other._ends)):
                os.close(fd)
            _serve(start, task_in, result_out)
        os.close(task_in)
        os.close(result_out)
        self.busy = False

    @property
    def _ends(self) -> tuple[int, int]:
        return self._task_out, self._result_in

    def fileno(self) -> int:
        return self._result_in

    def send(self, task: object) -> None:
        self.busy = True
        try:
            _write(self._task_out, pickle.dumps(task, 5))
        except BrokenPipeError:
            raise self._death() from None

    def receive(self) -> tuple[int, object]:
        message = _read(self._result_in)
        if message is None:
            raise self._death()
        kind, payload = pickle.loads(message)
        return kind, payload

    def _death(self) -> Internal:
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(self.pid, 0)
            self.pid = 0
            code = os.waitstatus_to_exitcode(status)
            how = f"killed by signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            hint = (
                "The machine may have run out of memory; look at the system's log." if code == -signal.SIGKILL else ""
            )
            return Internal(f"A worker process died ({how}).", hint=hint)
        return Internal("A worker process died.")

    def close(self, *, at_once: bool) -> None:
        for fd in self._ends:
            os.close(fd)
        if self.pid:
            if at_once:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)


def _serve(start: Callable[[], Handler[Task, Result]], task_in: int, result_out: int) -> NoReturn:
    """The life of a worker process: read a task, send its results, until the parent closes the pipe."""
    status = 0
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what a Ctrl-C means
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gc.disable()  # nothing here makes reference cycles; a collection would copy pages shared with the parent
        handler = start()
        while (message := _read(task_in)) is not None:
            try:
                for result in handler(pickle.loads(message)):
                    _write(result_out, pickle.dumps((_RESULT, result), 5))
                reply: tuple[int, object] = (_DONE, None)
            except (HoldfastError, Cancelled) as error:
                reply = (_ERROR, error)
            except BrokenPipeError:
                raise
            except Exception as error:
                import traceback  # 5 ms, wanted only here

                text = "".join(traceback.format_exception(error))
                reply = (_ERROR, Internal(f"A worker failed: {type(error).__name__}: {error}", traceback=text))
            _write(result_out, pickle.dumps(reply, 5))
    except BrokenPipeError:
        status = 1  # the parent is gone; there is nobody to tell
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        os._exit(status)  # no exit handlers: they belong to the parent


def _write(fd: int, message: bytes) -> None:
    view = memoryview(_LENGTH.pack(len(message)) + message)
    while view:
        view = view[os.write(fd, view) :]


def _read(fd: int) -> bytes | None:
    head = _read_exactly(fd, _LENGTH.size)
    if head is None:
        return None
    return _read_exactly(fd, _LENGTH.unpack(head)[0])


def _read_exactly(fd: int, size: int) -> bytes | None:
    pieces: list[bytes] = []
    while size:
        piece = os.read(fd, min(size, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
