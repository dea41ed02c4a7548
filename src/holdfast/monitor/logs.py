"""The log of this process: facts, and whatever else is said, become lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import TracebackType
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
            # By its contract a fact has no secrets; those that matter most are looked at all the same. Of the others
            # there are some in every run, and the patterns take 8 ms to compile where a path has "key" in its name.
            if self._mask is not None and (not fact or grave > rank("info")):
                message = self._mask(message)
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
