"""Facts, clocks and settings for tests of notices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.monitor.notice import SECOND, Decisions, Expectation, Notice, NoticeSettings
from holdfast.monitor.record import Record
from holdfast.monitor.rules import decide

HOUR = 3600
START = 1_795_000_000 * SECOND  # 2026-11-18 11:06:40 UTC


class FakeClock:
    """Stands still until it is told to go on."""

    def __init__(self, now_ns: int = START, offset: int = 0) -> None:
        self.now = now_ns
        self.offset = offset

    def now_ns(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / SECOND

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    def utc_offset(self, at_ns: int) -> int:
        return self.offset


_count = 0


def fact(kind: str, at: float = 0.0, /, **fields: Any) -> Record:
    """A record ``at`` seconds after ``START``; what is no field of a record goes into its data."""
    global _count
    _count += 1
    known = {
        name: fields.pop(name)
        for name in ("level", "message", "run", "operation", "plan", "vault", "role")
        if name in fields
    }
    return Record(
        id=f"{_count:026d}",
        at_ns=START + int(at * SECOND),
        kind=kind,
        level=known.pop("level", "info"),
        message=known.pop("message", f"{kind} happened"),
        host="here",
        role=known.pop("role", "holdfast"),
        pid=1,
        data=fields,
        seq=_count,
        **{"run": f"run{_count}", **known},
    )


def finished(
    outcome: str, at: float = 0.0, *, operation: str = "backup", plan: str = "docs", vault: str = "home", **more: Any
) -> Record:
    """The end of a run."""
    return fact(
        "run.finished", at, operation=operation, plan=plan, vault=vault, outcome=outcome, **{"seconds": 1.0, **more}
    )


ALL = NoticeSettings(channels=("phone", "mail"))


class Life:
    """What happens to the notices as facts come in, look by look."""

    def __init__(self, settings: NoticeSettings = ALL) -> None:
        self.settings = settings
        self.open: tuple[Notice, ...] = ()
        self.expectations: Sequence[Expectation] = ()
        self.past: Sequence[Mapping[str, Any]] = ()
        self.due_ns: int | None = None

    def look(self, at: float, *records: Record) -> Decisions:
        """One look, ``at`` seconds after ``START``."""
        now = START + int(at * SECOND)
        found = decide(records, self.open, self.expectations, now, self.settings, lambda _record: self.past)
        self.open, self.due_ns = found.open, found.due_ns
        return found

    def told(self, at: float, *records: Record) -> list[tuple[str, str, str]]:
        """The same: (action, rule, channel) of each message that comes of it."""
        return [
            (step.action, step.notice.rule, tell.channel)
            for step in self.look(at, *records).steps
            for tell in step.tells
        ]
