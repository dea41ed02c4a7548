"""How facts become counts: pure. The counts are kept, so that a scrape looks only at what is new."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from holdfast.kernel.values import dataclass
from holdfast.monitor.record import REFUSED

if TYPE_CHECKING:
    from holdfast.monitor.record import Record

Labels = tuple[str, ...]
Key = tuple[str, Labels]
"""A metric's name without ``holdfast_`` and the values of its labels, in the order of :data:`LABELS`."""

KINDS = (
    "run.finished",
    "damage.found",
    "drill.finished",
    "health.checked",
    "notice.*",
    "snapshot.forgotten",
    "snapshot.tagged",
    "snapshot.copied",
    "vault.space",
)
"""The facts that count."""

BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Upper bounds of durations, in seconds; beyond them there is +Inf."""
MOST_SERIES = 1_000
"""Label sets of one metric. What comes later goes into one with ``other`` for plan, vault and host."""
OTHER = "other"

_RUN = ("operation", "plan", "vault", "host")
_PLACE = ("plan", "vault", "host")
LABELS: dict[str, tuple[str, ...]] = {
    "runs": (*_RUN, "outcome"),
    "run_seconds": ("operation", "le"),
    "run_seconds_sum": ("operation",),
    "errors": ("operation", "code"),
    "items_failed": ("operation", "plan"),
    "damage": ("vault",),
    "uploads": ("operation", "vault", "outcome"),
    "upload_seconds": ("operation", "le"),
    "upload_seconds_sum": ("operation",),
    "uploaded_bytes": ("vault",),
    "verifications": ("vault", "outcome"),
    "restores": ("vault", "outcome"),
    "added_bytes": ("plan", "vault"),
    "pruned_bytes": ("vault",),
    "forgotten": ("vault",),
    "drills": ("plan", "vault", "outcome"),
    "notices": ("rule", "event"),
    "deliveries": ("channel", "outcome"),
    "last_run_at": _RUN,
    "last_run_seconds": _RUN,
    "last_run_ok": _RUN,
    "last_success_at": _RUN,
    "snapshot_bytes": _PLACE,
    "snapshot_files": _PLACE,
    "drill_seconds": _PLACE,
    "drill_data_age": _PLACE,
    "drill_success_at": _PLACE,
    "vault_free_bytes": ("vault", "host"),
    "vault_total_bytes": ("vault", "host"),
    "vault_used_bytes": ("vault", "host"),
    "health_ok": ("host",),
    "health_checks": ("host", "result"),
    "health_at": ("host",),
}

CODES = frozenset(
    {"error", "invalid", "not_found", "denied", "wrong_password", "locked", "unavailable", "no_space", "corrupt"}
    | {"unsupported", "internal", "cancelled", "usage", "no_memory", "broken_pipe"}
)
OUTCOMES = ("ok", "partial", "failed", "cancelled")
DELIVERED = ("sent", "failed")
RESULTS = ("pass", "warn", "fail", "skip")


@dataclass(frozen=True, slots=True)
class Places:
    """What is known of vaults: ``label`` gives a short, bounded word for what a fact calls one, ``is_remote`` whether
    it is beyond its machine."""

    label: Callable[[str], str]
    is_remote: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a fact tells of a snapshot: it was ``made``, is ``gone``, has been ``renamed`` from another id ``of``, or is
    a copy (``copied``) of the one that is called ``of`` in some other vault. ``size`` is in bytes, as restored."""

    step: str
    vault: str
    id: str
    plan: str = ""
    host: str = ""
    at_ns: int = 0
    size: int = 0
    of: str = ""


@dataclass(slots=True)
class Counts:
    """All counts, those that have changed, and what became of snapshots, in order."""

    values: dict[Key, float] = field(default_factory=dict)
    changed: set[Key] = field(default_factory=set)
    snapshots: list[Snapshot] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, _ in self.values:
            self.sizes[name] = self.sizes.get(name, 0) + 1

    def add(self, name: str, value: float, **labels: str) -> None:
        """Count ``value`` more."""
        key = self._key(name, labels)
        self.values[key] = self.values.get(key, 0.0) + value
        self.changed.add(key)

    def put(self, name: str, value: float, **labels: str) -> None:
        """The value is ``value`` now."""
        key = self._key(name, labels)
        self.values[key] = value
        self.changed.add(key)

    def time(self, name: str, seconds: float, operation: str) -> None:
        """Count a duration: its bucket and the sum."""
        bound = next((f"{bucket:g}" for bucket in BUCKETS if seconds <= bucket), "+Inf")
        self.add(name, 1, operation=operation, le=bound)
        self.add(f"{name}_sum", seconds, operation=operation)

    def _key(self, name: str, labels: Mapping[str, str]) -> Key:
        key = (name, tuple(labels[label] for label in LABELS[name]))
        if key in self.values:
            return key
        if self.sizes.get(name, 0) >= MOST_SERIES:
            free = ("plan", "vault", "host", "operation", "channel", "rule")
            key = (name, tuple(OTHER if label in free else labels[label] for label in LABELS[name]))
        if key not in self.values:
            self.sizes[name] = self.sizes.get(name, 0) + 1
        return key


def fold(counts: Counts, records: Iterable[Record], places: Places) -> None:
    """Count ``records``, which come in the order of the journal. A fact whose data are odd counts as far as it goes."""
    for record in records:
        where = {
            "operation": _word(record.operation),
            "plan": _word(record.plan),
            "vault": places.label(record.vault),
            "host": _word(record.host),
        }
        kind = record.kind
        if kind == "run.finished":
            _run(counts, record, where, places)
        elif kind == "drill.finished":
            _drill(counts, record, where)
        elif kind == "snapshot.forgotten":
            counts.add("forgotten", 1, **where)
            _snapshot(counts, record, where, "gone", "snapshot", "")
        elif kind == "snapshot.tagged":
            _snapshot(counts, record, where, "renamed", "snapshot", "before")
        elif kind == "snapshot.copied":
            _snapshot(counts, record, where, "copied", "to", "from")
        elif kind == "vault.space":
            for name in ("free", "total", "used"):
                if (value := _number(record.data, name)) is not None:
                    counts.put(f"vault_{name}_bytes", value, **where)
        elif kind == "health.checked":
            _health(counts, record, where)
        elif kind.startswith("notice."):
            _notice(counts, record, kind.partition(".")[2])
        elif kind == "damage.found":
            counts.add("damage", 1, **where)


def _run(counts: Counts, record: Record, where: dict[str, str], places: Places) -> None:
    data, operation = record.data, where["operation"]
    if data.get("outcome") == REFUSED:
        return
    outcome = _of(data.get("outcome"), OUTCOMES)
    seconds = _number(data, "seconds") or 0.0
    at = record.at_ns / 1e9
    counts.add("runs", 1, **where, outcome=outcome)
    counts.time("run_seconds", seconds, operation)
    counts.put("last_run_at", at, **where)
    counts.put("last_run_seconds", seconds, **where)
    counts.put("last_run_ok", float(outcome == "ok"), **where)
    if outcome in ("ok", "partial"):
        counts.put("last_success_at", at, **where)
    error = data.get("error")
    if isinstance(error, Mapping):
        counts.add("errors", 1, operation=operation, code=_of(error.get("code"), CODES))
    if not record.vault:
        return  # a whole plan: its runs of single vaults count below
    if problems := _number(data, "problems"):
        counts.add("items_failed", problems, **where)
    if operation in ("backup", "copy") and (operation == "copy" or places.is_remote(record.vault)):
        counts.add("uploads", 1, **where, outcome=outcome)
        counts.time("upload_seconds", seconds, operation)
        sent = _number(data, "stored" if operation == "copy" else "data_added_packed")
        counts.add("uploaded_bytes", sent or 0, **where)
    if operation == "check":
        counts.add("verifications", 1, **where, outcome=outcome)
    elif operation == "restore":
        counts.add("restores", 1, **where, outcome=outcome)
    elif operation == "prune":
        counts.add("pruned_bytes", _number(data, "removed_bytes") or 0, **where)
    elif operation == "backup":
        _backup(counts, record, where)


def _backup(counts: Counts, record: Record, where: dict[str, str]) -> None:
    data = record.data
    counts.add("added_bytes", _number(data, "data_added_packed") or 0, **where)
    snapshot = data.get("snapshot")
    if not isinstance(snapshot, str) or not snapshot:
        return
    size = _number(data, "total_bytes") or 0
    counts.put("snapshot_bytes", size, **where)
    counts.put("snapshot_files", _number(data, "total_files") or 0, **where)
    made = Snapshot("made", where["vault"], snapshot, where["plan"], where["host"], record.at_ns, int(size))
    counts.snapshots.append(made)


def _snapshot(counts: Counts, record: Record, where: dict[str, str], step: str, key: str, of: str) -> None:
    identifier, former = record.data.get(key), record.data.get(of, "")
    if isinstance(identifier, str) and identifier and isinstance(former, str):
        place = (where["vault"], identifier, where["plan"], where["host"])
        counts.snapshots.append(Snapshot(step, *place, record.at_ns, of=former))


def _drill(counts: Counts, record: Record, where: dict[str, str]) -> None:
    outcome = _of(record.data.get("outcome"), OUTCOMES)
    counts.add("drills", 1, **where, outcome=outcome)
    for name, key in (("drill_seconds", "seconds"), ("drill_data_age", "data_age_seconds")):
        if (value := _number(record.data, key)) is not None:
            counts.put(name, value, **where)
    if outcome == "ok":
        counts.put("drill_success_at", record.at_ns / 1e9, **where)


def _health(counts: Counts, record: Record, where: dict[str, str]) -> None:
    checks = record.data.get("checks")
    results = (
        [check.get("result") for check in checks if isinstance(check, Mapping)] if isinstance(checks, list) else []
    )
    counts.put("health_ok", float(record.data.get("ok") is True), **where)
    counts.put("health_at", record.at_ns / 1e9, **where)
    for result in RESULTS:
        counts.put("health_checks", float(results.count(result)), **where, result=result)


def _notice(counts: Counts, record: Record, event: str) -> None:
    if event in DELIVERED:
        counts.add("deliveries", 1, channel=_word(record.data.get("channel")), outcome=event)
    elif event in ("raised", "repeated", "escalated", "acknowledged", "resolved"):
        counts.add("notices", 1, rule=_word(record.data.get("rule")), event=event)


def _number(data: Mapping[str, Any], key: str) -> float | None:
    value = data.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _word(value: object) -> str:
    """A label's value: text, not endless, and none that is not Unicode."""
    return str(value or "")[:64].encode("utf-8", "replace").decode()


def _of(value: object, known: Collection[str]) -> str:
    return value if isinstance(value, str) and value in known else OTHER
