"""Lets the person hear what remote storages have to tell while the engine works."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.kernel.events import Emit, Event

if TYPE_CHECKING:
    from holdfast.storage import Storage


class Hearing:
    """An ``emit`` that passes events on, and before each of them lets the storages that were opened speak.

    A storage in a process of its own says "waiting for the storage ..." while it tries again. During a run the calls
    are made by worker processes, which cannot speak to the person, and the engine's own process waits for the workers.
    But it emits a tick several times a second.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._ears: list[Callable[[], None]] = []

    def __call__(self, event: Event) -> None:
        for hear in self._ears:
            hear()
        self._emit(event)

    def listen_to(self, storage: Storage) -> None:
        """From now on let ``storage`` speak too, if it is one that has something to say."""
        hear: Callable[[], None] | None = getattr(storage, "hear", None)
        if hear is not None:
            self._ears.append(hear)
