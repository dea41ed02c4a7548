"""What health checks look at: plans and vaults that are to be well, and what the journal tells of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from holdfast.app.context import Context, hostname
from holdfast.app.recording import label
from holdfast.config.healthsettings import HealthChoice, health_choice
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.events import ignore
from holdfast.kernel.values import dataclass
from holdfast.monitor.plain import plain_text

if TYPE_CHECKING:
    from holdfast.config.settings import NamedPlan, Settings
    from holdfast.monitor.forecast import Space
    from holdfast.monitor.journal import Journal, RunRow
    from holdfast.vaults.base import SnapshotInfo

DAY_NS = 86_400 * 10**9
GOOD = ("ok", "partial")
PATIENCE_SECONDS = 10.0
"""How long a remote vault is tried again: whoever looks at health wants to hear that it is away, not to wait for it."""
LOOKED_AT = 64
"""So many starts to come tell how far apart they are: a week of any schedule that repeats each week or sooner."""
SLACK_SECONDS = 6 * 3600.0
"""A backup takes its time, and so does a machine that was asleep."""
_RUNS_DAYS = 90
_MOST_RUNS = 20_000
_SPACE_DAYS = 60

Pair = tuple[str, str]
"""A plan's name and a vault's, as the journal knows them; a plan's is empty where paths were given by hand."""


@dataclass(frozen=True, slots=True)
class Past:
    """What the journal tells. ``good``: the newest backup that worked; ``last``: the newest ended run of an operation,
    a plan and a vault; ``days``: the local days on which a backup worked; ``last_fact_ns``: the newest fact of this
    host (0: none)."""

    good: Mapping[Pair, RunRow] = field(default_factory=dict)
    last: Mapping[tuple[str, str, str], RunRow] = field(default_factory=dict)
    days: Mapping[Pair, frozenset[int]] = field(default_factory=dict)
    spaces: Mapping[str, Sequence[Space]] = field(default_factory=dict)
    last_fact_ns: int = 0
    last_run_ns: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What an open vault showed; ``vault_id`` and ``key_id`` are hexadecimal and empty unless it is an archive."""

    kind: str
    snapshots: tuple[SnapshotInfo, ...]
    vault_id: str = ""
    key_id: str = ""


class Probe:
    """One vault, opened at most once, however many checks ask. ``context`` is made for that vault; ``name`` is what the
    journal calls it, ``title`` what the checks do."""

    def __init__(self, name: str, context: Context) -> None:
        self.name = name
        self.title = name if context.named is not None or context.chosen is not None else "default"
        self.context = replace(
            context,
            emit=ignore,
            warn=ignore_words,
            ask=None,
            no_lock=True,
            retry_for=PATIENCE_SECONDS,
            retry_lock=0.0,
            remembered={},
        )
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._error: Exception | None = None

    def look(self) -> Seen:
        """Open the vault and list its snapshots. Raises what that raises, every time."""
        with self._lock:
            if self._seen is None and self._error is None:
                try:
                    self._seen = self._open()
                except Exception as error:
                    self._error = error
            if self._error is not None:
                raise self._error
            assert self._seen is not None
            return self._seen

    def place(self) -> tuple[bytes | None, str]:
        """The folder of a vault on this machine (None: it is elsewhere), and the location without what may be secret.

        Raises ``Invalid`` where the location cannot be understood.
        """
        from holdfast.app.plain import folder_of

        storage = self.context.storage()
        try:
            return folder_of(storage), storage.location
        finally:
            storage.close()

    def _open(self) -> Seen:
        with self.context.opened_any() as vault:
            snapshots = tuple(vault.snapshots())
            repository = getattr(vault, "repository", None)
            if repository is None:
                return Seen(vault.kind, snapshots)
            return Seen(vault.kind, snapshots, repository.config.id.hex(), repository.key_id.hex())


@dataclass(frozen=True, slots=True)
class Watched:
    """A plan, or what is saved by hand, in one of its vaults. ``every``: seconds between two backups at most, if the
    plan says so, by ``expect`` or by its schedule."""

    plan: NamedPlan | None
    probe: Probe
    every: float | None

    @property
    def pair(self) -> Pair:
        return ("" if self.plan is None else self.plan.name, self.probe.name)

    @property
    def name(self) -> str:
        return self.probe.title if self.plan is None else f"{self.plan.name}/{self.probe.title}"


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that the checks share. ``past`` is None where the journal cannot be read."""

    context: Context
    choice: HealthChoice
    settings: Settings | None
    plans: tuple[NamedPlan, ...]
    probes: Mapping[str, Probe]
    watched: tuple[Watched, ...]
    now_ns: int
    past: Past | None = None

    def day(self, at_ns: int) -> int:
        """The number of the local day that ``at_ns`` is in."""
        return (at_ns // 10**9 + self.context.clock.utc_offset(at_ns)) // 86_400

    def age(self, at_ns: int) -> float:
        """Seconds since ``at_ns``."""
        return (self.now_ns - at_ns) / 1e9


def set_scene(context: Context) -> Scene:
    """Find out what is to be well: every plan in each of its vaults, and every vault of the configuration; without any,
    the vault that is meant where none is named. Touches no disk but the configuration's. Raises what reading it does.
    """
    settings = None if context.configured is None else context.configured.settings()
    choice = health_choice(None if settings is None else settings.loaded.configuration)
    plans = tuple(settings.plan(name) for name in settings.plan_names) if settings is not None else ()
    probes: dict[str, Probe] = {}
    watched: list[Watched] = []
    for plan in plans:
        every = _every(context, settings, plan)
        for vault in plan.to:
            probe = _probe(replace(context, vault=vault or None), choice, probes)
            watched.append(Watched(plan, probe, every))
    for vault in settings.vault_names if settings is not None else ():
        _probe(replace(context, vault=vault), choice, probes)
    if not probes:
        probe = _probe(context, choice, probes)
        watched.append(Watched(None, probe, None))
    return Scene(context, choice, settings, plans, probes, tuple(watched), context.clock.now_ns())


def _probe(context: Context, choice: HealthChoice, probes: dict[str, Probe]) -> Probe:
    name = plain_text(label(context))
    return probes.setdefault(name, Probe(name, replace(context, command_limit=choice.limit)))


def _every(context: Context, settings: Settings | None, plan: NamedPlan) -> float | None:
    """How many seconds two backups may be apart: as the plan expects, else as its schedule has it."""
    from holdfast.config import words

    expect = None if settings is None else settings.loaded.configuration.plans[plan.name].expect
    return words.seconds(expect.every) if expect is not None and expect.every else _apart(context, plan)


def _apart(context: Context, plan: NamedPlan) -> float | None:
    """The most seconds between two backups by the plan's schedule, with some slack; None without a schedule."""
    from holdfast.app.schedules import zone
    from holdfast.jobs.schedule import fires

    if not plan.times.backup:
        return None
    starts = list(islice(fires(plan.times.backup, context.clock.now_ns(), zone(context)), LOOKED_AT))
    if len(starts) < 2:
        return None
    return max(later - earlier for earlier, later in pairwise(starts)) / 1e9 + SLACK_SECONDS


def read_past(journal: Journal, scene: Scene) -> Past:
    """What the journal tells of the scene. Raises what reading it does."""
    from holdfast.monitor.report.gather import spaces, without_parents

    now, offset = scene.now_ns, scene.context.clock.utc_offset
    good: dict[Pair, RunRow] = {}
    days: dict[Pair, set[int]] = {}
    last: dict[tuple[str, str, str], RunRow] = {}
    # Of what is in the future, the clock check tells; here it would hide what is missing since.
    runs = journal.runs(since_ns=now - _RUNS_DAYS * DAY_NS, until_ns=now, limit=_MOST_RUNS)
    for run in without_parents(runs):
        if not run.outcome:
            continue
        last.setdefault((run.operation, run.plan, run.vault), run)
        if run.operation == "backup" and run.outcome in GOOD:
            pair = (run.plan, run.vault)
            good.setdefault(pair, run)
            at_ns = run.finished_ns or run.started_ns
            days.setdefault(pair, set()).add((at_ns // 10**9 + offset(at_ns)) // 86_400)
    for watched in scene.watched:
        if watched.pair not in good:
            plan, vault = watched.pair
            older = journal.runs(operations=("backup",), plan=plan, vault=vault, outcomes=GOOD, until_ns=now, limit=1)
            for run in older:
                good[watched.pair] = run
    here = hostname()
    recent = [record for record in journal.facts(limit=500) if record.host == here and record.pid != os.getpid()]
    kept = journal.facts(kinds=("vault.space",), since_ns=now - _SPACE_DAYS * DAY_NS, until_ns=now)
    return Past(
        good,
        last,
        {pair: frozenset(found) for pair, found in days.items()},
        spaces(kept),
        max((record.at_ns for record in recent), default=0),
        max((run.started_ns for run in runs if run.host == here and run.operation != "health"), default=0),
    )


def ignore_words(_words: str) -> None:
    """A ``warn`` that says nothing: what matters of it is a check of its own."""


def told(error: BaseException) -> tuple[str, str]:
    """What an error says, and its hint."""
    if isinstance(error, HoldfastError):
        return error.message, error.hint
    return f"{type(error).__name__}: {error}", ""
