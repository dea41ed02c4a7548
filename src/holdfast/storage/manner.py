"""How a place beyond this machine is used: how fast, by how many calls at once, and with how much patience."""

from __future__ import annotations

from holdfast.kernel.values import dataclass

PATIENCE_SECONDS = 900.0
"""A router that starts anew, or a server that is updated, is back in a quarter of an hour."""

FIRST_PATIENCE_SECONDS = 60.0
"""Where nothing ever answered, the address is more likely wrong than the server away, and somebody is waiting."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a place beyond this machine is used; places on this machine pay no heed to it.

    ``upload``, ``download``: most bytes a second, None for no limit. ``connections``: most calls at once, None for what
    suits the place. ``patience``: seconds during which a call that fails for want of a connection is tried again;
    ``first_patience``: the same as long as the place never answered (the shorter of the two counts).
    """

    upload: int | None = None
    download: int | None = None
    connections: int | None = None
    patience: float = PATIENCE_SECONDS
    first_patience: float = FIRST_PATIENCE_SECONDS
