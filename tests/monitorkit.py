"""A clock that tests set, and records and journals to work with."""

from __future__ import annotations

import os
from pathlib import Path

from holdfast.kernel.events import Fact
from holdfast.monitor.journal import Journal
from holdfast.monitor.outbox import Outbox

NOON = 1_795_348_800_000_000_000
"""2026-11-22T12:00:00Z in nanoseconds."""

HOUR = 3600 * 10**9


class SetClock:
    """It stands still until somebody moves it; sleeping moves it."""

    def __init__(self, now_ns: int = NOON) -> None:
        self.now = now_ns

    def now_ns(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1e9

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)

    def utc_offset(self, at_ns: int) -> int:
        return 0


def item_failed(path: str = "/a", **more: object) -> Fact:
    return Fact("item.failed", f"cannot read {path}", "warning", {"path": path, **more})


def journal(folder: Path, **how: object) -> Journal:
    return Journal.open(f"sqlite:///{folder / 'journal.db'}", **how)  # type: ignore[arg-type]


def new_outbox(folder: Path, **how: object) -> Outbox:
    return Outbox(folder / "outbox", on_trouble=how.pop("on_trouble", must_not), **how)  # type: ignore[arg-type]


def must_not(message: str) -> None:
    raise AssertionError(message)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []
