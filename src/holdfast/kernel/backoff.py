"""How long to wait before trying again, so that many who failed together do not come back together."""

from __future__ import annotations

from collections.abc import Callable

FIRST_SECONDS = 0.5
CAP_SECONDS = 60.0


def full_jitter(
    failures: int, draw: Callable[[], float], *, first: float = FIRST_SECONDS, cap: float = CAP_SECONDS
) -> float:
    """Seconds to wait after so many failures in a row (1 and more): evenly drawn below ``min(cap, first * 2**(n-1))``.

    ``draw`` gives numbers from 0 up to 1. "Full jitter" of M. Brooker, "Exponential Backoff And Jitter" (AWS, 2015): of
    the ways compared there it needs the fewest calls until all are through.
    """
    # 2.0 ** 1024 overflows; long before that the cap decides.
    return draw() * min(cap, first * 2.0 ** min(failures - 1, 64))


def wait_seconds(failures: int, draw: Callable[[], float], *, asked: float = 0.0) -> float:
    """Seconds to wait after so many failures in a row, and never less than the ``asked`` seconds of a server.

    What a server asks of all its callers is the same, so the jitter comes on top.
    """
    return max(asked, 0.0) + full_jitter(failures, draw)
