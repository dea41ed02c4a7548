"""The error monitor for any script: errors, bad data and silent failures become facts, and the script goes on."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from holdfast.kernel.events import Fact
from holdfast.monitor.keeping import here, unless_broken
from holdfast.monitor.masking import environment_secrets, mask, mask_data
from holdfast.monitor.traces import Sight, safe_text, sight, sketch, told, type_name

T = TypeVar("T")


def get_monitor(name: str) -> Monitor:
    """The monitor of the script, or part of one, that is called ``name``. Needs no configuration; touches nothing."""
    return Monitor(name)


class Monitor:
    """Records what a script wants somebody to know.

    Every method but :meth:`fatal` returns, within a second, whatever the disk, the terminal and the notifier do, and
    none raises anything else than the ``KeyboardInterrupt`` of somebody who presses Ctrl-C meanwhile. Facts go to the
    outbox in the state folder (see docs/monitoring.md) and, as one line, to standard error. Secrets in them are masked,
    values are cut. Called while an exception is handled, they keep that exception with its traceback as well. May be
    used from any thread, before and after a fork, in signal handlers, and while the interpreter shuts down.
    """

    def __init__(self, name: str) -> None:
        self.name = safe_text(name, 100) or "script"

    def error(self, message: str, /, *, error: BaseException | None = None, **context: object) -> None:
        """Something went wrong, and the script goes on. ``context`` is kept beside it."""
        cause = error or sys.exc_info()[1]
        unless_broken(lambda: self._record("error.recorded", "error", message, context, cause))

    def critical(self, message: str, /, *, error: BaseException | None = None, **context: object) -> None:
        """Somebody must hear of this now: recorded durably, told loudly, and delivery is asked for. Returns."""
        cause = error or sys.exc_info()[1]
        unless_broken(lambda: self._record("critical.recorded", "critical", message, context, cause))

    def fatal(
        self, message: str, /, *, exit_code: int = 1, error: BaseException | None = None, **context: object
    ) -> NoReturn:
        """As :meth:`critical`, and then the script ends with ``exit_code`` (1 to 255).

        In the main thread by ``SystemExit``, so that ``finally`` and ``with`` do their work. In another thread, which
        cannot end the process that way, the standard streams are flushed and the process ends at once.
        """
        cause = error or sys.exc_info()[1]
        unless_broken(lambda: self._record("fatal.recorded", "critical", message, context, cause))
        code = exit_code if isinstance(exit_code, int) and 1 <= exit_code <= 255 else 1
        if threading.current_thread() is not threading.main_thread():
            here().flush()
            os._exit(code)
        raise SystemExit(code)

    def validation_error(self, message: str, context: object = None) -> None:
        """Input, or a setting, is not as it has to be. ``context`` (a mapping, or any value) says which."""
        cause = sys.exc_info()[1]
        unless_broken(lambda: self._record("validation.failed", "error", message, {"context": context}, cause))

    def silent_failure(self, operation: str, expected: object, actual: object) -> None:
        """``operation`` said that it worked, but it did not do what was ``expected``; ``actual`` is what there is."""

        def record() -> None:
            wanted, found = safe_text(expected, 200), safe_text(actual, 200)
            message = f"{safe_text(operation, 200)} succeeded silently wrong: expected {wanted}, got {found}"
            data = {"operation": operation, "expected": expected, "actual": actual}
            self._record("silent.failure", "error", message, data, None)

        unless_broken(record)

    def expect(self, data: T, predicate: Callable[[T], object] | object, message: str = "") -> bool:
        """Whether ``data`` is as it should be; if not, that is recorded.

        ``predicate`` is called with ``data``, or is the answer itself. One that raises counts as not fulfilled, with
        its exception kept. Of ``data``, numbers, short texts and the sizes of collections are recorded.
        """
        held = [False]

        def look() -> None:
            raised: Exception | None = None
            try:
                held[0] = bool(predicate(data) if callable(predicate) else predicate)
            except Exception as error:
                raised = error
            if not held[0]:
                words = safe_text(message) or "the data is not as expected"
                context = {"expected": words, "actual": _size_of(data)}
                self._record("expectation.failed", "error", words, context, raised)

        unless_broken(look)
        return held[0]

    def raised(self, error: BaseException, level: str, **data: object) -> None:
        """An exception that leaves a scope of :func:`holdfast.monitor.monitored`. Not told: whoever catches it is."""
        self._record("error.raised", level, f"{type_name(error)}: {safe_text(error)}", data, error, aloud=False)

    def _record(
        self,
        kind: str,
        level: str,
        message: object,
        context: dict[str, Any],
        error: BaseException | None,
        *,
        aloud: bool = True,
    ) -> None:
        words = safe_text(message)
        seen = None if error is None else sight(error, skip=_SCOPES)
        data = {"name": self.name, **{key: sketch(value) for key, value in context.items()}}
        keeping = here()
        kept = keeping.keep(self.name, lambda: _fact(kind, level, words, data, seen))
        asked = level == "critical" and keeping.ask()
        if aloud:
            keeping.tell(_aloud(self.name, kind, level, words, kept, asked))


# The frames of the scopes themselves say nothing about the script.
_SCOPES = os.path.join(os.path.dirname(__file__), "scopes.py")


def _fact(kind: str, level: str, words: str, data: dict[str, Any], seen: Sight | None) -> Fact:
    """In the lane's thread: reads source files for the traceback, and masks."""
    if seen is not None:
        data = {**data, "type": seen.kind, "error": seen.text, "traceback": told(seen)}
    known = environment_secrets(os.environ)
    return Fact(kind, mask(words, known=known), level, mask_data(data, known=known))


def _aloud(name: str, kind: str, level: str, words: str, kept: bool, asked: bool) -> str:
    known = environment_secrets(os.environ)
    line = f"{name}: {mask(words, known=known)}"
    if level != "critical":
        return f"holdfast: {kind.replace('.', ' ')}: {line}"
    after = ("recorded" if kept else "NOT recorded") + (", notices are being sent" if asked else "")
    return f"\nholdfast: {kind.partition('.')[0].upper()}: {line}\n  ({after})\n"


def _size_of(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return sketch(value)
    if isinstance(value, str):
        return safe_text(value, 200)
    try:
        return f"{type_name(value)} of {len(value):,}"  # type: ignore[arg-type]
    except Exception:
        return type_name(value)
