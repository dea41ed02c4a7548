"""Fills a journal with weeks of made-up history, at times that the test decides."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from holdfast.kernel.events import Fact
from holdfast.monitor.journal import Journal
from holdfast.monitor.outbox import Outbox
from holdfast.monitor.record import new_id

HOUR = 3600 * 10**9
DAY = 24 * HOUR
NOW = 1_795_330_800 * 10**9
"""2026-11-22 07:00 UTC, a Sunday."""


class Then:
    """A clock that stands where it is put."""

    def __init__(self, at_ns: int = NOW, offset: int = 0) -> None:
        self.at_ns = at_ns
        self.offset = offset
        self.steady = 0.0

    def now_ns(self) -> int:
        return self.at_ns

    def monotonic(self) -> float:
        return self.steady

    def sleep(self, seconds: float) -> None:
        self.steady += seconds

    def utc_offset(self, at_ns: int) -> int:
        return self.offset


class Past:
    """Records what is told, as if it had happened then. ``journal()`` reads it."""

    def __init__(self, folder: Path, host: str = "desk") -> None:
        self.folder = folder
        self.clock = Then()
        self._numbers = itertools.count()
        self.outbox = Outbox(folder / "outbox", clock=self.clock, host=host)

    def fact(self, at_ns: int, kind: str, message: str = "", level: str = "info", **words: Any) -> None:
        where = {name: words.pop(name) for name in ("run", "operation", "plan", "vault") if name in words}
        self.clock.at_ns = at_ns
        assert self.outbox.append(Fact(kind, message or kind, level, words), **where) is not None

    def run(
        self,
        at_ns: int,
        operation: str = "backup",
        plan: str = "docs",
        vault: str = "home",
        outcome: str = "ok",
        *,
        seconds: float = 60.0,
        message: str = "",
        ends: bool = True,
        **data: Any,
    ) -> str:
        """A run that ended at ``at_ns`` (or began, where it has no end); returns its id."""
        run = new_id(at_ns, lambda count: next(self._numbers).to_bytes(count, "big"))
        where = {"run": run, "operation": operation, "plan": plan, "vault": vault}
        parent = {"parent": data["parent"]} if "parent" in data else {}
        self.fact(at_ns - int(seconds * 1e9) if ends else at_ns, "run.started", **where, **parent)
        if ends:
            level = {"ok": "info", "partial": "warning"}.get(outcome, "error")
            self.fact(
                at_ns, "run.finished", message or outcome, level, **where, outcome=outcome, seconds=seconds, **data
            )
        return run

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        with Journal.open(f"sqlite:///{self.folder}/journal.db", clock=Then(), host="elsewhere") as journal:
            journal.drain(self.folder / "outbox")
            yield journal


def busy_weeks(past: Past) -> None:
    """A month as people have them: mostly well, with a failure, a partial run, drills, a filling disk, notices."""
    total = 500 << 30
    for back in range(30, -1, -1):
        at = NOW - back * DAY - 5 * HOUR
        size = (40 << 30) + (30 - back) * (200 << 20)
        added = 900 << 20 if back % 7 == 3 else (180 + 13 * (back % 5)) << 20
        past.run(
            at, seconds=95 + back % 4 * 8, total_files=58_214, total_bytes=size, data_added_packed=added, snapshot="ab"
        )
        past.fact(at + HOUR // 60, "vault.space", vault="home", total=total, free=(70 - (30 - back) * 2) << 30)
        if back % 7 == 0:
            past.run(at + HOUR, "check", "", "home", seconds=340, snapshots=30, bytes_read=12 << 30)
        if back != 2:
            past.run(at + 2 * HOUR, "copy", "docs", "cloud", seconds=400, stored=150 << 20)
    for month in range(6, -1, -1):
        past.fact(
            NOW - month * 30 * DAY - 2 * HOUR,
            "drill.finished",
            "the drill worked",
            plan="docs",
            vault="home",
            outcome="ok",
            seconds=410.0 + (6 - month) * 37,
            data_age_seconds=7200.0,
            files=58_000,
            bytes=40 << 30,
            databases=[{"name": "app", "kind": "postgres", "ok": True, "rows": 12_000, "queries": []}],
        )
    past.run(
        NOW - 3 * HOUR,
        "backup",
        "photos",
        "cloud",
        "failed",
        message="cannot reach s3:bucket: timed out",
        error={
            "code": "unavailable",
            "message": "cannot reach s3:bucket: timed out",
            "hint": "Check the address, the network, and that the server runs.",
        },
    )
    partial = past.run(NOW - 4 * HOUR, "backup", "mail", "home", "partial", problems=7, total_files=900)
    for number in range(7):
        past.fact(NOW - 4 * HOUR, "item.failed", "permission denied", "error", run=partial, path=f"/srv/mail/{number}")
    past.fact(NOW - 3 * HOUR, "notice.raised", "backup of photos failed", "error", notice="n1", channels=["phone"])
    past.fact(NOW - 3 * HOUR, "notice.sent", notice="n1", channel="phone", attempt=1)
    past.fact(NOW - 3 * HOUR, "notice.failed", notice="n1", channel="mail", attempt=1, error="connection refused")
    past.fact(NOW - 2 * HOUR, "expectation.failed", "orders of yesterday: 0 rows", "warning", name="import")
    checks = [
        {"name": "vault:home", "result": "pass", "severity": "info", "message": "it opens", "action": ""},
        {
            "name": "key:home",
            "result": "warn",
            "severity": "warning",
            "message": "the key was never exported",
            "action": "holdfast key export --vault home FILE",
        },
        {
            "name": "vault:cloud",
            "result": "fail",
            "severity": "error",
            "message": "cannot reach s3:bucket: timed out",
            "action": "Check the address, the network, and that the server runs.",
        },
    ]
    past.fact(NOW - HOUR, "health.checked", "Health: 1 check fails", "error", ok=False, checks=checks)
