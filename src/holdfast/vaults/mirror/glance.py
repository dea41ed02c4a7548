"""Glances at directories that come next, by threads: hashes of both sides tell whether there is anything to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from holdfast.files.xattrs import read_xattrs
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.threads import Workers
from holdfast.sources.directory import Lister, Surveyed, open_directory, survey
from holdfast.vaults.mirror.frames import Frame
from holdfast.vaults.mirror.here import Here
from holdfast.vaults.mirror.state import Directory, State

AHEAD = 32
"""How many directories are looked at before their turn."""

TOGETHER = 4
"""How many make one task: to wake a thread takes as long as looking at twenty files."""

SECONDS = 1.0
"""How old a glance may get until it is used: what comes before in the same directory tree may take an hour."""


class Glance(NamedTuple):
    """One directory: what its source is, and the hash of what the mirror has in its place."""

    at: float
    st: os.stat_result
    xattrs: Sequence[tuple[bytes, bytes]]
    source: Surveyed
    here: bytes


class Glances:
    """Glances ahead of one walk, whose frames know no other thread. Close it before anything forks.

    A glance only ever says that both sides look as they did: whoever finds anything else looks himself.
    """

    def __init__(self, root: bytes, lister: Lister, state: State, clock: Clock, size: int) -> None:
        """``size``: how many threads; 0: there are no glances."""
        self._root = root
        self._lister = lister
        self._state = state
        self._clock = clock
        self._size = size
        self._open: list[Here] = []
        self._workers = Workers(self._start, size) if size else None
        self._asked: set[Frame] = set()
        self._found: dict[Frame, Glance | None] = {}

    def ask(self, stack: Sequence[Frame]) -> None:
        """Tell what comes next: the last frame first."""
        if self._workers is None:
            return
        new = [
            frame
            for frame in reversed(stack[-AHEAD:])
            if frame.here and frame.only is None and frame not in self._asked
        ]
        if len(new) < TOGETHER and stack and stack[-1] not in new:
            return
        self._asked.update(new)
        for first in range(0, len(new), TOGETHER):
            self._workers.submit(new[first : first + TOGETHER])

    def unchanged(self, frame: Frame) -> tuple[Directory, list[bytes]] | None:
        """What the state knows of a directory, and the names of those in it, if both sides are as the state says: then
        the frame has all that it needs. None: perhaps not. Only for what :meth:`ask` was told."""
        glance = self._take(frame)
        if glance is None or glance.source.linked:
            return None
        seen, row = glance.source, self._state.directory(frame.here)
        if row is None or not row.source or (row.source, row.here) != (seen.key, glance.here):
            return None
        scope = self._lister.takes_all(frame.scope, frame.name, seen)
        if scope is None:
            return None
        frame.scope, frame.st, frame.xattrs, frame.key, frame.kept = scope, glance.st, glance.xattrs, seen.key, True
        return row, [name for name, _, _ in seen.folders]

    def _take(self, frame: Frame) -> Glance | None:
        if self._workers is None or frame not in self._asked:
            return None
        self._asked.discard(frame)
        while frame not in self._found:
            for found in self._workers.take(wait=True):
                self._found.update(found)
        glance = self._found.pop(frame)
        return glance if glance is not None and self._clock.monotonic() - glance.at <= SECONDS else None

    def close(self) -> None:
        """End the threads."""
        if self._workers is not None:
            self._workers.close()
        while self._open:
            self._open.pop().close()

    def _start(self) -> Callable[[list[Frame]], list[tuple[Frame, Glance | None]]]:
        here = Here(self._root, protect=False)
        self._open.append(here)
        return lambda frames: [(frame, self._look(frame, here)) for frame in frames]

    def _look(self, frame: Frame, here: Here) -> Glance | None:
        at = self._clock.monotonic()
        with suppress(OSError, HoldfastError):
            fd = open_directory(frame.path)
            try:
                source = survey(fd, self._lister.salt)
                if source is None:
                    return None
                st, xattrs = os.fstat(fd), read_xattrs(fd)
            finally:
                os.close(fd)
            return Glance(at, st, xattrs, source, here.key(frame.here))
        return None
