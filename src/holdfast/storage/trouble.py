"""Tells a person, early but not often, that a place does not answer, and when it answers again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from holdfast.kernel.clock import Clock

TELL_AFTER_SECONDS = 3.0
"""Shorter trouble is nobody's business: most of it is over after the second try."""

_FIRST_GAP, _LONGEST_GAP = 60.0, 600.0

_QUIET_SECONDS = 180.0  # three times the longest wait between two tries: longer ago was another stretch of trouble


class Trouble:
    """What several threads learn about one place, told through ``tell`` as sentences.

    It also knows since when every single call fails, so that callers who come late do not each spend their own patience
    on a place that is known to be gone.
    """

    def __init__(self, tell: Callable[[str], None] | None, clock: Clock) -> None:
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        self.ever_answered = False
        self._last = 0.0
        self._told_at: float | None = None
        self._gap = _FIRST_GAP

    def failed(self, reason: str, began: float, again_at: float, give_up_at: float) -> float:
        """A call that began at ``began`` failed; it is tried again at ``again_at``, and no more after ``give_up_at``.

        All on the steady clock. Returns since when no call has succeeded.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._since is None or now - self._last > _QUIET_SECONDS:
                self._since = began
            since, self._last = self._since, now
            late = again_at - began >= TELL_AFTER_SECONDS
            due = self._told_at is None or now - self._told_at >= self._gap
            if late and due and give_up_at >= again_at:
                self._gap = _FIRST_GAP if self._told_at is None else min(2 * self._gap, _LONGEST_GAP)
                self._told_at = now
                left = duration(give_up_at - now)
                self._say(f"waiting for the storage: {reason.rstrip('.')}; trying again for up to {left}")
            return since

    def over(self) -> None:
        """A call succeeded, or was refused: the place answers."""
        self.ever_answered = True
        if self._since is None:  # the usual case, without the lock
            return
        with self._lock:
            since, told, self._since, self._told_at = self._since, self._told_at, None, None
            if told is not None and since is not None:
                self._say(f"the storage answers again, after {duration(self._clock.monotonic() - since)}")

    def _say(self, words: str) -> None:
        if self._tell is not None:
            self._tell(words)


def duration(seconds: float) -> str:
    """A length of time in words, such as ``40 s`` or ``15 min``."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
