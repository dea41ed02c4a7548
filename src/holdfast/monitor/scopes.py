"""Scopes whose exceptions are recorded on their way out: ``@monitored(name)`` and ``with monitored(name):``."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from types import CodeType, TracebackType
from typing import Any, TypeVar, cast, overload

from holdfast.monitor.errors import Monitor
from holdfast.monitor.keeping import unless_broken
from holdfast.monitor.traces import safe_text

F = TypeVar("F", bound=Callable[..., Any])
_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80 | 0x100, 0x200  # of code.co_flags, see the module inspect


_open: ContextVar[tuple[tuple[str, float], ...]] = ContextVar("holdfast_scopes", default=())
"""The scopes that this thread, or task, is in, outermost first, with the time when each was entered."""


class _Last(threading.local):
    """What a scope of this thread recorded last, as marks that keep nothing alive."""

    mark: tuple[int, int, int, CodeType] | None = None


_last = _Last()


@overload
def monitored(name: F, /) -> F: ...
@overload
def monitored(name: str, /, **context: object) -> Scope: ...
def monitored(name: F | str, /, **context: object) -> F | Scope:
    """A scope called ``name``: as a decorator of functions, or with ``with`` (which gives the :class:`Monitor`).

    An exception that leaves it is recorded with its traceback and ``context``, and goes on unchanged; KeyboardInterrupt
    (a warning) and SystemExit (nothing bad with code 0) as well. Where scopes are nested, the innermost records, and
    names those around it. Functions, coroutines, generators and asynchronous generators are all watched for as long as
    they run; leaving a generator early is no failure, nor is cancelling a task.
    """
    if callable(name):
        return Scope(getattr(name, "__qualname__", "script"), {})(name)
    return Scope(safe_text(name), context)


class Scope:
    """What :func:`monitored` gives; may be entered any number of times, nested and by several threads at once."""

    def __init__(self, name: str, context: dict[str, object]) -> None:
        self._monitor = Monitor(name)
        self._context = context

    def __enter__(self) -> Monitor:
        _open.set((*_open.get(), (self._monitor.name, time.monotonic())))
        _last.mark = None  # what was recorded before has been dealt with by now
        return self._monitor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened = _open.get()
        _open.set(opened[:-1])
        if error is not None:
            unless_broken(lambda: self._leaves(error, opened))

    async def __aenter__(self) -> Monitor:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        flags = _flags(function)
        if flags & _ASYNC_GENERATOR:
            return cast(F, self._async_generator(function))
        if flags & _COROUTINE:
            return cast(F, self._coroutine(function))
        return cast(F, self._generator(function) if flags & _GENERATOR else self._function(function))

    def _function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @_wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return call

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @_wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            # Between two items other scopes open and close, so this one does not count as open.
            try:
                return (yield from function(*args, **kwargs))
            except BaseException as error:
                unless_broken(functools.partial(self._leaves, error, ()))
                raise

        return call

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @_wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            async with self:
                return await function(*args, **kwargs)

        return call

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @_wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            inner = function(*args, **kwargs)
            try:
                item = await anext(inner)
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        item = await inner.athrow(error)
                    else:
                        item = await inner.asend(sent)
            except StopAsyncIteration:
                return
            except BaseException as error:
                unless_broken(functools.partial(self._leaves, error, ()))
                raise
            finally:
                await inner.aclose()

        return call

    def _leaves(self, error: BaseException, opened: tuple[tuple[str, float], ...]) -> None:
        level = _level(error)
        if not level or _was_recorded(error):
            return
        _last.mark = _mark(error, error.__traceback__)
        data = dict(self._context)
        if len(opened) > 1:
            data["within"] = [name for name, _ in opened[:-1]]
        if opened:
            data["seconds"] = round(time.monotonic() - opened[-1][1], 3)
        self._monitor.raised(error, level, **data)


def _flags(function: Any) -> int:
    """What kind of function it is. The module inspect would tell as well, after 10 ms of importing."""
    for _ in range(10):
        code = getattr(function, "__code__", None)
        if code is not None:
            return int(code.co_flags)
        function = getattr(function, "func", None)  # functools.partial
    return 0


def _wraps(function: Callable[..., Any]) -> Callable[[F], F]:
    return cast(Callable[[F], F], functools.wraps(function))


def _level(error: BaseException) -> str:
    """How grave an exception is; empty for what is no failure at all."""
    if isinstance(error, GeneratorExit):
        return ""
    if isinstance(error, SystemExit):
        return "info" if error.code in (None, 0) else "error"
    names = {kind.__name__ for kind in type(error).__mro__}
    if "CancelledError" in names and not isinstance(error, Exception):
        return "info"  # of asyncio, which need not be imported for this
    return "warning" if isinstance(error, KeyboardInterrupt) or "Cancelled" in names else "error"


def _mark(error: BaseException, trace: TracebackType | None) -> tuple[int, int, int, CodeType] | None:
    """Which passage of which exception this is, without keeping it, or any frame, alive."""
    if trace is None:
        return None
    return id(error), id(trace.tb_frame), trace.tb_lasti, trace.tb_frame.f_code


def _was_recorded(error: BaseException) -> bool:
    """Whether an inner scope recorded it: it came through the very instruction where that scope stood."""
    mark = _last.mark
    if mark is None or mark[0] != id(error):
        return False
    trace = error.__traceback__
    while trace is not None:
        if _mark(error, trace) == mark:
            return True
        trace = trace.tb_next
    return False
