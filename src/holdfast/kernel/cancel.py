"""A request to stop that long work looks at between steps."""

from __future__ import annotations

import mmap

from holdfast.kernel.errors import Cancelled


class Cancel:
    """One run's stop button. Setting it is safe from a signal handler and from any thread.

    The flag lives in shared memory, so worker processes forked after the button was made see it being pressed.
    """

    def __init__(self) -> None:
        self._flag = mmap.mmap(-1, 1)
        self._reason = "cancelled"

    def cancel(self, reason: str = "cancelled") -> None:
        """Ask the work to stop at its next safe point. The first reason is kept (in this process)."""
        if not self._flag[0]:
            self._reason = reason
            self._flag[0] = 1

    @property
    def requested(self) -> bool:
        """Whether somebody asked."""
        return bool(self._flag[0])

    @property
    def reason(self) -> str:
        """Why, in words; empty while nobody asked."""
        return self._reason if self._flag[0] else ""

    def check(self) -> None:
        """Raise :class:`Cancelled` if somebody asked."""
        if self._flag[0]:
            raise Cancelled(self._reason)
