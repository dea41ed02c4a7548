"""What libraries say through the standard ``logging`` goes into the log. Imported once ``logging`` is, never before."""

from __future__ import annotations

import logging
from collections.abc import Callable

from holdfast.monitor.logs import Log, exception_fields

_LEVELS = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)


_CHATTY = ("alembic",)
"""Libraries that tell at level INFO what nobody who backs up needs to know."""


class LogHandler(logging.Handler):
    """Hands on what reaches it. ``extra={"run": ..., "job": ..., "plan": ...}`` of a call says where it belongs."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.getLevelName(log.least.upper()))
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and record.name.partition(".")[0] in _CHATTY:
            return
        try:
            message = record.getMessage()
        except Exception:
            # A library's own mistake, such as a wrong number of arguments.
            message = str(record.msg)
        fields: dict[str, object] = {
            key: value
            for key in ("run", "job", "plan", "vault")
            if isinstance(value := getattr(record, key, None), str)
        }
        if record.exc_info and record.exc_info[0] is not None and record.exc_info[1] is not None:
            fields["exception"] = exception_fields(record.exc_info)
        self._log.say(level_word(record.levelno), record.name, message, **fields)


def level_word(number: int) -> str:
    """The word for a level of ``logging``."""
    return next((word for least, word in _LEVELS if number >= least), "debug")


def join_logging(log: Log) -> Callable[[], None]:
    """Add a handler to the root logger, which passes what the log wants unless somebody decided. Gives what ends it."""
    root, handler = logging.getLogger(), LogHandler(log)
    before = root.level
    alone = not root.handlers
    root.addHandler(handler)
    passes = alone and before == logging.WARNING and handler.level < before  # WARNING is its default
    if passes:
        root.setLevel(handler.level)

    def leave() -> None:
        root.removeHandler(handler)
        if passes and root.level == handler.level:
            root.setLevel(before)

    return leave
