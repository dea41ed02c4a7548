"""What the configuration says about health checks, as the checks use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.config import words
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.config.fields import Command
    from holdfast.config.models import Configuration

_MOST_BYTES = 50 << 30
"""On a large disk a tenth is more than anybody wants to keep free: unless it is asked for, 50 GiB are enough."""


@dataclass(frozen=True, slots=True)
class OwnCommand:
    """A check of the user's own: ``run`` is a text for the shell or a tuple of words, ``timeout`` is in seconds."""

    name: str
    run: Command
    timeout: float
    optional: bool


@dataclass(frozen=True, slots=True)
class HealthChoice:
    """``free_share`` (0 to 1) and ``free_bytes``: the smaller of what they ask for should be free; ``forecast`` and
    ``limit`` are seconds."""

    days: int = 7
    free_share: float = 0.1
    free_bytes: int = _MOST_BYTES
    forecast: float = 30 * 86400.0
    limit: float = 30.0
    git: bool = False
    skip: tuple[str, ...] = ()
    own: tuple[OwnCommand, ...] = ()

    def wanted_free(self, total: int) -> int:
        """Bytes that should be free of ``total``."""
        return min(int(total * self.free_share), self.free_bytes)


def health_choice(configuration: Configuration | None) -> HealthChoice:
    """What ``configuration`` says, or what holds without one."""
    if configuration is None:
        return HealthChoice()
    said = configuration.health
    share, most = 1.0, 1 << 62
    if not said.free.endswith("%"):
        most = words.size(said.free)
    else:
        share = words.share(said.free) / 100
        if "free" not in said.model_fields_set:
            most = _MOST_BYTES
    return HealthChoice(
        days=said.days,
        free_share=share,
        free_bytes=most,
        forecast=words.seconds(said.forecast),
        limit=words.seconds(said.limit),
        git=said.git,
        skip=said.skip,
        own=tuple(
            OwnCommand(name, own.run, words.seconds(own.timeout), own.optional) for name, own in said.own.items()
        ),
    )
