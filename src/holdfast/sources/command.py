"""The output of any program as a source: one file with the name that the user gave it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.values import dataclass
from holdfast.sources.base import Stream, StreamEntry, as_name
from holdfast.sources.program import running


@dataclass(frozen=True, slots=True)
class CommandSource:
    """A program and its arguments (no shell in between); ``limit`` seconds are the most that it may take."""

    name: str
    argv: tuple[str, ...]
    limit: float | None = None

    @property
    def place(self) -> tuple[bytes, ...]:
        """``command/NAME``."""
        return b"command", as_name(self.name)

    def entries(self, _cancel: Cancel) -> Sequence[StreamEntry]:
        """The one file."""
        return (StreamEntry(self.place),)

    def open(self, _entry: StreamEntry, cancel: Cancel) -> AbstractContextManager[Stream]:
        """Start it. ``finish`` raises unless it ended with exit status 0 within its time."""
        return running(self.argv, cancel=cancel, limit=self.limit, name=os.path.basename(self.argv[0]))
