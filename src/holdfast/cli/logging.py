"""What a command has to do with its log: begins it, shows it to whoever asked, and leaves tracebacks in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from holdfast.app.context import Context
from holdfast.app.logs import open_log
from holdfast.cli import text
from holdfast.cli.console import Console
from holdfast.monitor.logjoin import join_libraries
from holdfast.monitor.logline import LEVELS, pretty
from holdfast.monitor.logs import Tell, exception_fields

VARIABLE = "HOLDFAST_LOG"
"""Names the least level that is shown on standard error."""


def with_log(context: Context, console: Console) -> tuple[Context, Callable[[], None]]:
    """The context with a log, which gets what is kept of runs, warnings, and what libraries say; and what ends it."""
    said = os.environ.get(VARIABLE, "").lower()
    if said and said not in LEVELS:
        console.warn(f"{VARIABLE}={said} is none of {', '.join(LEVELS)}; nothing of the log is shown")
    shown = said if said in LEVELS else "info" if console.verbose else ""
    log = open_log(
        context,
        warn=lambda words: None if context.recorder.silent else console.warn(words),
        tell=_teller(console, facts=bool(said)) if shown else None,
        told=shown or "warning",
    )
    leave = join_libraries(log)

    def warn(words: str) -> None:
        console.warn(words)
        log.say("warning", "holdfast.warning", words)

    context.recorder.log = log

    def end() -> None:
        leave()
        log.close()

    return replace(context, warn=warn), end


def log_surprise(context: Context, error: Exception) -> None:
    """Leave the traceback of an error that nobody foresaw in the log."""
    if context.recorder.log is not None:
        message = f"unexpected error: {type(error).__name__}: {error}"
        fields = exception_fields((type(error), error, error.__traceback__))
        context.recorder.log.say("error", "holdfast", message, exception=fields)


def _teller(console: Console, *, facts: bool) -> Tell:
    """Shows lines; facts, which the console shows in its own words, only if they are asked for."""

    def tell(line: dict[str, Any]) -> None:
        if line["logger"] != "holdfast.warning" and (facts or not line.get("kind")):
            console.clear()
            sys.stderr.write(text.lines(pretty(line)) + "\n")
            sys.stderr.flush()

    return tell
