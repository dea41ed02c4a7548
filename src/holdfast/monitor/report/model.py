"""What a report says, before anybody decides how it looks. Times are nanoseconds since 1970 UTC, sizes are bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast.kernel.values import dataclass
from holdfast.monitor.forecast import Forecast, Space

HOUR_NS = 3_600 * 10**9
DAY_NS = 24 * HOUR_NS
OUTCOMES = ("ok", "partial", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Period:
    """From ``since_ns`` until just before ``until_ns``."""

    since_ns: int
    until_ns: int

    @property
    def length_ns(self) -> int:
        return self.until_ns - self.since_ns

    @property
    def compared(self) -> int:
        """How many periods of the same length before this one it is compared with: a day with the week before, a week
        with the four before."""
        return 7 if self.length_ns <= 36 * HOUR_NS else 4 if self.length_ns <= 10 * DAY_NS else 1

    @property
    def earlier_ns(self) -> int:
        """When the first of those periods began."""
        return self.since_ns - self.compared * self.length_ns

    def place(self, at_ns: int) -> int:
        """Which of them ``at_ns`` is in: 0 is the first of those before, ``compared`` the period itself."""
        return self.compared + (at_ns - self.since_ns) // self.length_ns


@dataclass(frozen=True, slots=True)
class Expected:
    """That ``plan`` saves into ``vault``, named as in the journal, every so many seconds at most (None: unsaid)."""

    plan: str
    vault: str
    every: float | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """That ``operation`` of ``plan`` was to start at each of ``times`` (oldest first)."""

    operation: str
    plan: str
    times: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Earlier:
    """The periods before, for one period: runs, median seconds of a run, bytes added."""

    runs: float
    seconds: float
    added: float


@dataclass(slots=True)
class Line:
    """All runs of one operation of one plan and vault in the period. ``seconds``: the median; ``added``: bytes that the
    vault grew by; ``size``: bytes in the newest snapshot, 0 where that means nothing."""

    operation: str
    plan: str
    vault: str
    runs: int = 0
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    running: int = 0
    seconds: float = 0.0
    added: int = 0
    size: int = 0
    files: int = 0
    earlier: Earlier | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed or was partial. ``items``: the first of what failed in it, ``problems`` how many did."""

    at_ns: int
    run: str
    operation: str
    plan: str
    vault: str
    outcome: str
    message: str
    hint: str
    problems: int
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that did not fail, yet is not as it was or should be."""

    at_ns: int
    subject: str
    message: str
    run: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """What did not happen. ``grave``: it was asked for; otherwise it would be good to do."""

    subject: str
    message: str
    action: str
    grave: bool


@dataclass(frozen=True, slots=True)
class Validated:
    """What was proven in the period."""

    checks: int = 0
    bytes_read: int = 0
    drills: int = 0
    files_compared: int = 0
    bytes_compared: int = 0
    databases: int = 0


@dataclass(frozen=True, slots=True)
class DrillLine:
    """The newest drill of a plan and vault, and the recovery times (seconds) of the last ones that worked, oldest
    first."""

    plan: str
    vault: str
    at_ns: int
    outcome: str
    seconds: float
    data_age: float
    files: int
    bytes: int
    recent: bool
    trend: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SpaceLine:
    """A vault's disk: the newest figures, those of the last days, and where they lead."""

    vault: str
    last: Space
    points: tuple[Space, ...]
    forecast: Forecast | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one channel delivered in the period."""

    channel: str
    sent: int
    failed: int
    error: str


@dataclass(frozen=True, slots=True)
class Notices:
    """The notices raised in the period: (time, level, message); how many more, resolved in it, and open now."""

    raised: tuple[tuple[int, str, str], ...] = ()
    more: int = 0
    resolved: int = 0
    open: int = 0
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True)
class HealthLine:
    """The newest health check: when, and what was not well (name, result, message, action)."""

    at_ns: int
    counts: Mapping[str, int]
    troubles: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One period of the chart: when it began, its runs by outcome, bytes added."""

    since_ns: int
    outcomes: Mapping[str, int]
    added: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything. ``ok``: nothing failed or was left out, nothing asked for is missing, health is good."""

    period: Period
    made_ns: int
    hosts: tuple[str, ...]
    lines: tuple[Line, ...]
    failures: tuple[Failure, ...]
    more_failures: int
    missing: tuple[Missing, ...]
    anomalies: tuple[Anomaly, ...]
    validated: Validated
    drills: tuple[DrillLine, ...]
    spaces: tuple[SpaceLine, ...]
    notices: Notices
    health: HealthLine | None
    columns: tuple[Column, ...]

    @property
    def ok(self) -> bool:
        sick = self.health is not None and self.health.counts.get("fail", 0) > 0
        bad_drill = any(drill.recent and drill.outcome != "ok" for drill in self.drills)
        return not (self.failures or any(missing.grave for missing in self.missing) or sick or bad_drill)

    @property
    def headline(self) -> str:
        """The report in one sentence."""
        parts = []
        failed = sum(failure.outcome == "failed" for failure in self.failures) + self.more_failures
        partial = sum(failure.outcome == "partial" for failure in self.failures)
        missing = sum(missing.grave for missing in self.missing)
        counted = [
            (failed, "run failed", "runs failed"),
            (partial, "run was partial", "runs were partial"),
            (missing, "thing did not happen", "things did not happen"),
            (sum(drill.recent and drill.outcome != "ok" for drill in self.drills), "drill failed", "drills failed"),
            (
                0 if self.health is None else self.health.counts.get("fail", 0),
                "health check fails",
                "health checks fail",
            ),
        ]
        parts = [f"{count:,} {one if count == 1 else many}" for count, one, many in counted if count]
        if parts:
            return ", ".join(parts)
        runs = sum(line.runs for line in self.lines)
        if not runs:
            return "nothing ran"
        return f"all is well: {runs:,} {'run' if runs == 1 else 'runs'}, none failed"


def rfc3339(at_ns: int) -> str:
    """``2026-11-22T04:00:00Z``; the empty text for a time that no calendar has."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_ns // 1000)
    except OverflowError:
        return ""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def as_json(report: Report) -> dict[str, Any]:
    """The report for machines; every ``..._ns`` becomes a time of RFC 3339 without that ending."""
    return {"ok": report.ok, "headline": report.headline, **_plain(report)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        told: dict[str, Any] = {}
        for each in fields(value):
            inner = getattr(value, each.name)
            if each.name.endswith("_ns"):
                told[each.name[:-3]] = None if inner is None else rfc3339(inner)
            else:
                told[each.name] = _plain(inner)
        return told
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return round(value, 3) if isinstance(value, float) else value
