"""A plan's dead man's switch: a service hears how each run begins and ends, and raises the alarm if it does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.app.hearing import Hearing
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.events import Emit, Event, Fact

if TYPE_CHECKING:
    from holdfast.app.context import Context
    from holdfast.monitor.channels.apart import Sending
    from holdfast.monitor.channels.base import ChannelSpec
    from holdfast.storage import Storage

SECONDS = 4.0
"""How long the service may take for an answer; the run waits for nothing else, and not at its beginning."""
_LAST = 100
"""So many of a run's warnings and errors go with its end."""


class Switch:
    """The dead man's switch of one run, or, without a ``spec``, none. ``context`` is what the run is done with."""

    def __init__(self, context: Context, spec: ChannelSpec | None) -> None:
        self._spec = spec
        self._tail = _Tail(context.emit)
        self.context = context if spec is None else replace(context, emit=self._tail)
        self._outcome, self._message = "failed", "It ended without a word."
        self._begun: Sending | None = None

    def begin(self, plan: str) -> None:
        """Say that the run begins, without waiting for an answer."""
        if self._spec is not None:
            self._begun = _sending(self._spec, "start", f"The backup of {plan} begins.")

    def say(self, outcome: str, message: str) -> None:
        """How the run ended."""
        self._outcome, self._message = outcome, message

    def end(self) -> Fact | None:
        """Tell the service how the run ended, and return the fact of it. Takes at most some seconds."""
        if self._spec is None:
            return None
        from holdfast.monitor.masking import mask

        if self._begun is not None:
            self._begun.result()  # an end that overtakes its beginning would look like a run that hangs
        good = self._outcome in ("ok", "partial")
        body = mask("\n".join((f"{self._outcome}: {self._message}", *self._tail.lines)))
        sent = _sending(self._spec, "success" if good else "fail", body).result()
        data = {"notice": "ping", "channel": "ping", "attempt": 1}
        if sent.ok:
            return Fact("notice.sent", "The dead man's switch knows how the run ended.", "info", data)
        error = mask(sent.error)
        message = f"The dead man's switch does not know how the run ended: {error}"
        return Fact("notice.failed", message, "warning", {**data, "error": error, "refused": sent.refused})


def _sending(spec: ChannelSpec, event: str, body: str) -> Sending:
    from holdfast.monitor.channels.apart import Sending
    from holdfast.monitor.channels.base import Message

    return Sending(spec, Message("ping", "", body, event=event))


class _Tail(Hearing):
    """An ``emit`` that remembers the last warnings and errors, and passes everything on."""

    def __init__(self, beneath: Emit) -> None:
        super().__init__(beneath)
        self._beneath = beneath
        self.lines: deque[str] = deque(maxlen=_LAST)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Fact) and event.level != "info":
            self.lines.append(f"{event.level}: {event.message}")
        super().__call__(event)

    def listen_to(self, storage: Storage) -> None:
        if isinstance(self._beneath, Hearing):
            self._beneath.listen_to(storage)
        else:
            super().listen_to(storage)


@contextmanager
def switched(context: Context, plan: str) -> Iterator[Switch]:
    """Around a recorded run of ``plan``: its switch, if the configuration names one.

    However the run ends, its end is told. What goes wrong with that is a warning, and never the run's trouble.
    """
    switch = Switch(context, _spec(context, plan))
    switch.begin(plan)
    try:
        yield switch
    except BaseException as error:
        switch.say("failed" if isinstance(error, Exception) else "cancelled", str(error) or type(error).__name__)
        raise
    finally:
        fact = switch.end()
        if fact is not None:
            if context.recorder.outbox is not None:
                context.recorder.outbox.append(fact, operation="notify", plan=plan)
            if fact.level != "info":
                context.emit(fact)


def _spec(context: Context, plan: str) -> ChannelSpec | None:
    settings = None if context.configured is None else context.configured.settings()
    if settings is None:
        return None
    from holdfast.config.notifysettings import ping_of

    chosen = ping_of(settings, plan)
    if not chosen:
        return None
    from holdfast.monitor.channels.base import ChannelSpec

    try:
        return ChannelSpec("ping", chosen.reveal(context.environ, context.warn), seconds=SECONDS)
    except HoldfastError as error:
        context.warn(f"the dead man's switch of {plan} cannot be used: {error.message}")
        return None
