"""The log of this process: facts become lines, and so does what libraries say through ``logging`` and ``warnings``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from holdfast.kernel.clock import Clock, SystemClock
from holdfast.monitor.logfile import LogFile
from holdfast.monitor.logline import LEVELS, line_of, rank
from holdfast.monitor.record import time_text

if TYPE_CHECKING:
    from holdfast.kernel.events import Fact

Tell = Callable[[dict[str, Any]], None]
"""Shows a line to a person who asked for it."""
Mask = Callable[[Any], Any]
_FREE = ("data", "exception")


class Log:
    """Writes one role's log. No method raises, waits, or opens anything before the first line.

    ``level`` is the least that is written. ``tell`` gets each line of level ``told`` or graver as a dict. ``mask``
    takes secrets out of texts and of data.
    """

    def __init__(
        self,
        file: LogFile,
        *,
        level: Callable[[], str] = lambda: "info",
        clock: Clock | None = None,
        tell: Tell | None = None,
        told: str = "warning",
        mask: Mask | None = None,
    ) -> None:
        self._file = file
        self._level = level
        self._clock = clock or SystemClock()
        self._tell = tell
        self._told = rank(told)
        self._mask = mask
        self._runs: list[dict[str, str]] = []

    def log_fact(
        self,
        fact: Fact,
        *,
        run: str = "",
        operation: str = "",
        plan: str = "",
        vault: str = "",
        job: str = "",
        at_ns: int | None = None,
    ) -> None:
        """Write ``fact``. What follows a ``run.started`` belongs to that run until its ``run.finished``."""
        where = {"run": run, "operation": operation, "plan": plan, "vault": vault, "job": job}
        if fact.kind == "run.started":
            self._runs.append(where)
        elif not run and self._runs:
            where = self._runs[-1]
        self._write(
            fact.level,
            f"holdfast.{where['operation']}" if where["operation"] else "holdfast",
            fact.message,
            at_ns=at_ns,
            fact=True,
            **where,
            kind=fact.kind,
            data=fact.data,
        )
        if fact.kind == "run.finished":
            self._runs = [one for one in self._runs if one["run"] != run]

    def say(self, level: str, logger: str, message: str, **fields: Any) -> None:
        """Write a line that is no fact; it belongs to the run that is under way."""
        self._write(level, logger, message, **{**(self._runs[-1] if self._runs else {}), **fields})

    @property
    def least(self) -> str:
        """The least level that matters to anybody."""
        written = rank(self._level())
        return LEVELS[written if self._tell is None else min(written, self._told)]

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def _write(
        self, level: str, logger: str, message: str, *, at_ns: int | None = None, fact: bool = False, **fields: Any
    ) -> None:
        try:
            grave = rank(level)
            if self._mask is not None:
                message = self._mask(message)
                # By its contract a fact has no secrets in its data; those that matter most are looked at all the same.
                if not fact or grave > rank("info"):
                    fields = {key: self._mask(fields[key]) if key in _FREE else fields[key] for key in fields}
            now = self._clock.now_ns() if at_ns is None else at_ns
            if grave >= rank(self._level()):
                self._file.write(line_of(now, level, logger, message, **fields, pid=os.getpid()))
            if self._tell is not None and grave >= self._told:
                line = {"at": time_text(now), "level": level, "logger": logger, "message": message, **fields}
                self._tell(line)
        except Exception:
            # Whatever stood in that line: that it cannot be written stops nothing.
            self._file.write(
                line_of(0 if at_ns is None else at_ns, "warning", "holdfast.log", "a line cannot be written")
            )


def join_libraries(log: Log) -> Callable[[], None]:
    """Let ``log`` have what libraries say: ``logging`` from its level INFO, and ``warnings``. Gives what undoes it.

    ``logging`` takes 4 ms to import, which most commands never do: where nobody has yet, this waits until somebody
    does. A program that has set up ``logging`` itself keeps its handlers.
    """
    undo: list[Callable[[], None]] = [_join_warnings(log)]

    def join() -> None:
        from holdfast.monitor.logjoin import join_logging

        undo.append(join_logging(log))

    if "logging" in sys.modules:
        join()
    else:
        waiting = _Awaiting("logging", join)
        sys.meta_path.insert(0, waiting)
        undo.append(waiting.stop)

    def leave() -> None:
        for step in reversed(undo):
            step()

    return leave


def _join_warnings(log: Log) -> Callable[[], None]:
    import warnings

    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            before(message, category, filename, lineno, file, line)
            return
        place = f"{os.path.basename(filename)}:{lineno}"
        log.say("warning", "py.warnings", f"{category.__name__}: {message} ({place})")

    warnings.showwarning = show

    def leave() -> None:
        if warnings.showwarning is show:
            warnings.showwarning = before

    return leave


class _Awaiting:
    """Calls ``then`` once the module ``name`` has been imported by somebody."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then

    def stop(self) -> None:
        """Wait no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        self.stop()
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load, then = spec.loader.exec_module, self._then

            def load_and_join(module: ModuleType) -> None:
                load(module)
                then()

            spec.loader.exec_module = load_and_join  # type: ignore[method-assign]
        return spec


Excepted = tuple[type[BaseException], BaseException, TracebackType | None]


def exception_fields(excepted: Excepted) -> Mapping[str, str]:
    """``type``, ``message`` and ``traceback`` of an exception, whatever its ``__str__`` does."""
    import traceback

    kind, error, trace = excepted
    try:
        message = str(error)
    except Exception:
        message = "(it cannot be shown)"
    try:
        lines = "".join(traceback.format_exception(kind, error, trace))
    except Exception:
        lines = ""
    return {"type": kind.__name__, "message": message, "traceback": lines}
