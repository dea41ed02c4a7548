"""What engines tell the outside: facts that are kept, and ticks that are thrown away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from holdfast.kernel.values import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """Something happened that somebody may ask about later.

    ``kind`` is a dotted, stable word pair such as ``item.failed``; ``message`` one sentence for a person; ``data``
    JSON-ready details without secrets. ``level`` is ``info``, ``warning`` or ``error``.
    """

    kind: str
    message: str
    level: str = "info"
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tick:
    """How far a run has come. Unknown totals are None; ``current`` names what is being worked on."""

    phase: str
    items_done: int = 0
    bytes_done: int = 0
    items_total: int | None = None
    bytes_total: int | None = None
    current: str = ""
    errors: int = 0


Event = Fact | Tick
Emit = Callable[[Event], None]
"""Where events go. An ``emit`` may not raise and may not be slow."""


def ignore(_event: Event) -> None:
    """An ``emit`` that forgets everything."""
