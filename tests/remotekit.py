"""A vault as if it were far away: a folder whose storage counts what is asked, and says that calls are worth making at
once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.faults.faulty import Faulty

from holdfast.kernel.clock import SystemClock
from holdfast.storage import LocalStorage, Storage
from holdfast.storage.cached import Cached
from holdfast.storage.copies import CopyFolder

WHOLE = ("index", "keys", "snapshots")


class Far(Faulty):
    """What a REST server or an object store is to its users: calls that wait, no folder of its own on this machine."""

    def __init__(self, place: Path | Storage, connections: int = 8, delay: float = 0.0) -> None:
        super().__init__(LocalStorage(str(place)) if isinstance(place, Path) else place)
        self.traits = replace(self._inner.traits, connections=connections)
        self.most_at_once = 0
        self._at_once = 0
        self._delay = delay
        self._lock = threading.Lock()

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            time.sleep(self._delay)
            return super().read(name, offset, length)
        finally:
            with self._lock:
                self._at_once -= 1

    def staging(self) -> str | None:
        return None

    def asked(self, method: str = "") -> list[str]:
        """The names that were asked for, of one method or of all; they are forgotten then."""
        names = [name for called, name in self.calls if method in ("", called)]
        self.calls.clear()
        return names


class Days(SystemClock):
    """The real clock, some days later."""

    def __init__(self, days: float) -> None:
        self._later = int(days * 86_400 * 1_000_000_000)

    def now_ns(self) -> int:
        return super().now_ns() + self._later


def copies(
    root: Path,
    place: str = "here",
    *,
    limit: int = 1 << 30,
    days: float = 0.0,
    tell: Callable[[str], None] = lambda _: None,
) -> CopyFolder:
    """A cache folder."""
    return CopyFolder(str(root), place, limit=limit, clock=Days(days), tell=tell)


def cached(far: Storage, root: Path, *, tell: Callable[[str], None] = lambda _: None) -> Cached:
    """``far`` with a cache folder."""
    return Cached(far, copies(root, tell=tell), WHOLE)
