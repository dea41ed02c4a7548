"""The progress line on a terminal: how far, how fast, how long still, what is being worked on."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import IO

from holdfast.cli import text
from holdfast.kernel.events import Tick

REDRAW_SECONDS = 0.1
RATE_SECONDS = 5.0
BAR_COLUMNS = 20
LEAST_COLUMNS = 20


class Progress:
    """One line at the bottom of a terminal, redrawn at most ten times a second and only when a tick comes.

    There is no thread behind it: engines fork, and a fork does not go together with threads.
    """

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._drawn = False
        self._next = 0.0
        self._phase = ""
        self._history: deque[tuple[float, int]] = deque()

    def show(self, tick: Tick) -> None:
        """Draw ``tick``, unless the last drawing is too fresh."""
        now = self._clock()
        if tick.phase != self._phase:
            self._phase = tick.phase
            self._history.clear()
        elif now < self._next:
            return
        self._next = now + REDRAW_SECONDS
        self._history.append((now, tick.bytes_done))
        while len(self._history) > 2 and now - self._history[0][0] > RATE_SECONDS:
            self._history.popleft()
        # The last column stays free: some terminals wrap when it is written.
        self._stream.write("\r" + render(tick, self._rate(), self._columns() - 1) + "\x1b[K")
        self._stream.flush()
        self._drawn = True

    def clear(self) -> None:
        """Take the line away; the next tick brings it back."""
        if self._drawn:
            self._drawn = False
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _rate(self) -> float:
        (first, before), (last, after) = self._history[0], self._history[-1]
        return (after - before) / (last - first) if last > first else 0.0

    def _columns(self) -> int:
        # Asked anew at each drawing: windows change their size.
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        # Some terminals do not know their own width and say 0.
        return max(columns, LEAST_COLUMNS) if columns else 80


def render(tick: Tick, rate: float, columns: int) -> str:
    """``tick`` in one line of at most ``columns`` columns; ``rate`` is in bytes a second."""
    parts = [text.name(tick.phase)]
    share = _share(tick)
    if share is not None:
        full = int(share * BAR_COLUMNS)
        parts.append(f"[{'#' * full}{'.' * (BAR_COLUMNS - full)}] {share:4.0%}")
    if tick.items_done or tick.items_total:
        of = f"/{tick.items_total:,}" if tick.items_total is not None else ""
        parts.append(f"{tick.items_done:,}{of} items")
    if tick.bytes_done or tick.bytes_total:
        of = f" of {text.size(tick.bytes_total)}" if tick.bytes_total is not None else ""
        parts.append(f"{text.size(tick.bytes_done)}{of}")
    if rate > 0:
        parts.append(f"{text.size(rate)}/s")
        if tick.bytes_total is not None and tick.bytes_total > tick.bytes_done:
            parts.append(f"{text.duration((tick.bytes_total - tick.bytes_done) / rate)} left")
    if tick.errors:
        parts.append(text.plural(tick.errors, "error"))
    line = "  ".join(parts)
    if share is not None and text.width(line) > columns:  # the bar says the least
        parts[1] = f"{share:.0%}"
        line = "  ".join(parts)
    room = columns - text.width(line) - 2
    if tick.current and room >= LEAST_COLUMNS:
        line += "  " + text.shorten(text.name(tick.current), room)
    return text.shorten(line, columns)


def _share(tick: Tick) -> float | None:
    if tick.bytes_total:
        return min(tick.bytes_done / tick.bytes_total, 1.0)
    if tick.items_total:
        return min(tick.items_done / tick.items_total, 1.0)
    return None
