"""Glances at directories that come next, by threads: hashes of both sides, which tell whether there is anything to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from holdfast.files.xattrs import read_xattrs
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.threads import Workers
from holdfast.sources.directory import Surveyed, open_directory, survey
from holdfast.vaults.mirror.frames import Frame
from holdfast.vaults.mirror.here import SALT, Here

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

    def __init__(self, root: bytes, clock: Clock, size: int) -> None:
        """``size``: how many threads; 0: there are no glances."""
        self._root = root
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

    def take(self, frame: Frame) -> Glance | None:
        """The glance at ``frame`` that was asked for, if it is good for anything; wait for it."""
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
                source = survey(fd, SALT)
                if source is None:
                    return None
                st, xattrs = os.fstat(fd), read_xattrs(fd)
            finally:
                os.close(fd)
            return Glance(at, st, xattrs, source, here.key(frame.here))
        return None
