"""What Prometheus sees: names, helps and labels of every metric, ages counted when somebody looks."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.kernel.values import dataclass
from holdfast.monitor.metrics.fold import BUCKETS, DELIVERED, LABELS, OUTCOMES, Labels
from holdfast.monitor.metrics.store import State

COUNTERS: dict[str, tuple[str, str]] = {
    "runs": ("runs", "Runs that came to an end. Those of a whole plan have no vault, those of each of its vaults do."),
    "errors": ("errors", "Runs that ended with an error, by its code."),
    "items_failed": ("items_failed", "Files and other items that could not be read or written."),
    "damage": ("damage_found", "Damage that was found in vaults."),
    "uploads": ("uploads", "Backups into vaults beyond this machine, and copies from vault to vault."),
    "uploaded_bytes": ("uploaded_bytes", "Bytes that these stored."),
    "verifications": ("verifications", "Checks of vaults."),
    "restores": ("restores", "Restores."),
    "added_bytes": ("added_bytes", "Bytes that backups stored, after deduplication and compression."),
    "pruned_bytes": ("pruned_bytes", "Bytes that prunes removed from vaults."),
    "forgotten": ("snapshots_forgotten", "Snapshots that were forgotten."),
    "drills": ("drills", "Test restores."),
    "notices": ("notices", "What happened to notices: raised, repeated, escalated, acknowledged, resolved."),
    "deliveries": ("notice_deliveries", "Attempts to deliver a notice."),
}
HISTOGRAMS: dict[str, tuple[str, str]] = {
    "run_seconds": ("run_duration_seconds", "How long runs took."),
    "upload_seconds": ("upload_duration_seconds", "How long backups into remote vaults, and copies, took."),
}
GAUGES: dict[str, tuple[str, str]] = {
    "last_run_at": ("last_run_timestamp_seconds", "When the last run ended, in seconds since 1970."),
    "last_run_seconds": ("last_run_duration_seconds", "How long the last run took."),
    "last_run_ok": ("last_run_ok", "1 if the last run was ok, 0 if it was partial, failed or cancelled."),
    "last_success_at": (
        "last_success_timestamp_seconds",
        "When the last run with the outcome ok or partial ended, in seconds since 1970.",
    ),
    "snapshot_bytes": ("snapshot_size_bytes", "Size of the newest snapshot, as restored."),
    "snapshot_files": ("snapshot_files", "Files in the newest snapshot."),
    "drill_seconds": ("drill_recovery_seconds", "How long the last test restore took."),
    "drill_data_age": ("drill_data_age_seconds", "How old the data were that the last test restore brought back."),
    "vault_free_bytes": ("vault_free_bytes", "Free space where the vault is."),
    "vault_total_bytes": ("vault_size_bytes", "Size of the file system where the vault is."),
    "vault_used_bytes": ("vault_used_bytes", "Bytes in use on the file system where the vault is."),
    "health_ok": ("health_ok", "1 if the last health check found nothing that fails."),
    "health_checks": ("health_checks", "Results of the last health check."),
}
AGES: dict[str, tuple[str, str]] = {
    "last_success_at": ("last_success_age_seconds", "Time since the last run with the outcome ok or partial."),
    "drill_success_at": ("drill_success_age_seconds", "Time since the last test restore that was ok."),
    "health_at": ("health_age_seconds", "Time since the last health check."),
}


@dataclass(frozen=True, slots=True)
class Expected:
    """What the configuration says of plans: which there are, and how often (seconds) each is to succeed."""

    plans: tuple[str, ...] = ()
    every: Mapping[str, float] = field(default_factory=dict)
    host: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """All that is shown at one time. ``state`` is None where the journal cannot be read."""

    state: State | None
    expected: Expected
    now_ns: int
    version: str
    seconds: float = 0.0


def registry(view: Callable[[], View]) -> CollectorRegistry:
    """A registry of its own with all metrics; ``view`` is called at each scrape."""
    found = CollectorRegistry(auto_describe=False)
    found.register(_Facts(view))
    return found


class _Facts(Collector):
    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view

    def describe(self) -> Iterable[Metric]:
        return ()  # otherwise registering would read the journal

    def collect(self) -> Iterator[Metric]:
        yield from families(self._view())


def families(view: View) -> Iterator[Metric]:
    """Every metric of ``view``."""
    labels = {"version": view.version, "python": platform.python_version()}
    yield _gauge("build_info", "1, with the version of Holdfast.", tuple(labels), [(tuple(labels.values()), 1.0)])
    yield _gauge("up", "1 if the journal could be read.", (), [((), float(view.state is not None))])
    yield _gauge("scrape_seconds", "How long it took to bring the counts up to date.", (), [((), view.seconds)])
    yield from _expectations(view)
    if view.state is None:
        return
    waiting = [((), float(view.state.waiting))]
    yield _gauge("journal_lag_facts", "Facts of the journal that are not counted yet.", (), waiting)
    if view.state.last_ns is not None:
        age = [((), _age(view, view.state.last_ns / 1e9))]
        yield _gauge("journal_last_fact_age_seconds", "Time since the last fact.", (), age)
    series: dict[str, list[tuple[Labels, float]]] = {}
    for (name, values), value in sorted(view.state.values.items()):
        series.setdefault(name, []).append((values, value))
    for name, (shown, text) in COUNTERS.items():
        counter = CounterMetricFamily(f"holdfast_{shown}", text, labels=LABELS[name])
        for values, value in _with_zeros(name, series.get(name, [])):
            counter.add_metric(values, value)
        yield counter
    for name, (shown, text) in HISTOGRAMS.items():
        yield _histogram(f"holdfast_{shown}", text, series.get(name, []), dict(series.get(f"{name}_sum", ())))
    for name, (shown, text) in GAUGES.items():
        yield _gauge(shown, text, LABELS[name], series.get(name, []))
    for name, (shown, text) in AGES.items():
        yield _gauge(shown, text, LABELS[name], [(v, _age(view, at)) for v, at in series.get(name, ())])
    opened = [((rule,), float(count)) for rule, count in sorted(view.state.open.items())]
    yield _gauge("notices_open", "Notices that are not resolved.", ("rule",), opened)
    held = [((channel,), float(count)) for channel, count in sorted(view.state.undelivered.items())]
    yield _gauge("notice_deliveries_waiting", "Messages that are still to be delivered.", ("channel",), held)
    yield from _snapshots(view, view.state)


def _expectations(view: View) -> Iterator[Metric]:
    """For each plan how old its last success is, and may be: so that one that never ran can be seen as well."""
    expected, state = view.expected, view.state
    every = [((plan,), seconds) for plan, seconds in sorted(expected.every.items())]
    yield _gauge("plan_expected_seconds", "How often the plan is to succeed (expect.every).", ("plan",), every)
    if state is None:
        return
    ages: dict[Labels, float] = {(plan, expected.host): math.inf for plan in expected.plans}
    for (name, values), at in state.values.items():
        # The run of the whole plan: it is a success if it was one in every vault.
        if name == "last_success_at" and values[0] == "backup" and values[1] and not values[2]:
            key = (values[1], values[3])
            ages[key] = min(ages.get(key, math.inf), _age(view, at))
    text = "Time since the plan's last backup with the outcome ok or partial; +Inf if there was none."
    yield _gauge("plan_success_age_seconds", text, ("plan", "host"), sorted(ages.items()))


def _snapshots(view: View, state: State) -> Iterator[Metric]:
    rows = [((kept.plan, kept.vault, kept.host), kept) for kept in state.kept]
    labels = ("plan", "vault", "host")
    known = "Snapshots that were made and not forgotten"
    yield _gauge("snapshots", f"{known}.", labels, [(key, float(kept.count)) for key, kept in rows])
    yield _gauge(
        "snapshots_size_bytes", f"{known}: their sizes, as restored.", labels, [(k, float(v.size)) for k, v in rows]
    )
    for word, of in (("oldest", "oldest_ns"), ("newest", "newest_ns")):
        ages = [(key, _age(view, getattr(kept, of) / 1e9)) for key, kept in rows]
        yield _gauge(f"snapshot_{word}_age_seconds", f"Age of the {word} snapshot.", labels, ages)


def _with_zeros(name: str, series: list[tuple[Labels, float]]) -> list[tuple[Labels, float]]:
    """Also the outcomes that have not come yet: Prometheus does not see the first failure as an increase otherwise."""
    if LABELS[name][-1] != "outcome":
        return series
    outcomes = DELIVERED if name == "deliveries" else OUTCOMES
    found = {(*values[:-1], outcome): 0.0 for values, _ in series for outcome in outcomes}
    return sorted({**found, **dict(series)}.items())


def _gauge(name: str, text: str, labels: Iterable[str], series: Iterable[tuple[Labels, float]]) -> Metric:
    family = GaugeMetricFamily(f"holdfast_{name}", text, labels=tuple(labels))
    for values, value in series:
        family.add_metric(values, value)
    return family


def _histogram(name: str, text: str, series: list[tuple[Labels, float]], sums: dict[Labels, float]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=("operation",))
    counts: dict[str, dict[str, float]] = {}
    for (operation, bound), count in series:
        counts.setdefault(operation, {})[bound] = count
    for operation, found in counts.items():
        total = 0.0
        buckets: list[Any] = []
        for bucket in BUCKETS:
            total += found.get(f"{bucket:g}", 0.0)
            buckets.append((str(bucket), total))  # OpenMetrics wants 1.0, not 1
        buckets.append(("+Inf", total + found.get("+Inf", 0.0)))
        family.add_metric((operation,), buckets, sums.get((operation,), 0.0))
    return family


def _age(view: View, at: float) -> float:
    """Never below 0: a clock that went back makes nothing young."""
    return max(view.now_ns / 1e9 - at, 0.0)
