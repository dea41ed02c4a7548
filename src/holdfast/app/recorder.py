"""What the runs of one command came to, and where their facts go."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.monitor.logs import Log
    from holdfast.monitor.outbox import Outbox


@dataclass(slots=True)
class Recorder:
    """What the runs of one command came to; ``outbox`` is made when the first of them begins. ``log``, where
    there is one, gets a line of each fact that is kept. ``watched``: one of the runs is of a kind that may have to be
    told though it was ok (see ``app.attend``)."""

    outbox: Outbox | None = None
    outcomes: list[str] = field(default_factory=list)
    log: Log | None = None
    watched: bool = False

    @property
    def silent(self) -> bool:
        """Whether somebody was told that nothing can be recorded: what else cannot be written there is not news."""
        return self.outbox is not None and self.outbox.in_trouble

    @property
    def all_ok(self) -> bool:
        """Whether every run that ended by now was ``ok``."""
        return all(outcome == "ok" for outcome in self.outcomes)
