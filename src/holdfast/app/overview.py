"""Use case: how every plan stands, every vault that was used without one, every watched command; problems first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from holdfast.app.context import Context, hostname
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.config.settings import Settings
    from holdfast.monitor.journal import Journal, RunRow
    from holdfast.monitor.notice import Notice
    from holdfast.monitor.record import Record

RECENT = 12
"""How many sizes make the trend."""

_LOOKED_BACK = 60
_GOOD = ("ok", "partial")
_DAY_NS = 86_400 * 10**9
FORGOTTEN_DAYS = 90
"""A vault that was used without a plan, and not for so long, is not shown any more."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a plan stands, or a vault that is used without one (``plan`` is empty then), or a command that is watched
    (``is_command``; ``plan`` is its name).

    ``last`` is the latest backup, ``success`` the latest that saved something. ``age_ns`` is since that one's end;
    ``every_ns`` is what ``expect`` says. ``next_ns`` is when the backup starts next; of a plan with a ``schedule`` that
    nothing is installed to start, None. ``sizes`` are bytes, the oldest first, of the first vault. ``drill`` is the
    latest fact ``drill.finished``. ``problems`` are sentences.
    """

    plan: str
    vaults: tuple[str, ...]
    last: RunRow | None = None
    success: RunRow | None = None
    running: RunRow | None = None
    age_ns: int | None = None
    every_ns: int | None = None
    schedule: str = ""
    next_ns: int | None = None
    sizes: tuple[int, ...] = ()
    drill: Record | None = None
    problems: tuple[str, ...] = ()
    is_command: bool = False


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything, what has problems first. ``plans`` says whether a configuration with plans is in use. ``notices`` are
    those that are open on this machine, the newest first."""

    at_ns: int
    standings: tuple[Standing, ...] = field(default=())
    notices: tuple[Notice, ...] = field(default=())
    plans: bool = False


def overview(context: Context) -> Overview:
    """Read it all from the journal; what waits in the outbox is taken in first."""
    from holdfast.app.journal import open_journal
    from holdfast.monitor.noticebook import Noticebook

    settings = None if context.configured is None else context.configured.settings()
    now = context.clock.now_ns()
    with open_journal(context) as journal:
        found = [_of_plan(context, journal, settings, name, now) for name in settings.plan_names] if settings else []
        found += _without_plan(journal, now)
        found += _commands(journal, now)
        notices = Noticebook(journal, host=hostname(), clock=context.clock).open()
    found.sort(key=lambda standing: not standing.problems)
    return Overview(now, tuple(found), tuple(notices), bool(settings and settings.plan_names))


def _of_plan(context: Context, journal: Journal, settings: Settings, name: str, now: int) -> Standing:
    from holdfast.app.schedules import installed, next_run

    plan = settings.plan(name)
    whole = journal.runs(operations=["backup"], plan=name, vault="", host=hostname(), limit=_LOOKED_BACK)
    labels = tuple(_label(context, vault) for vault in plan.to)
    ended = [run for run in whole if run.finished_ns is not None]
    success = next((run for run in ended if run.outcome in _GOOD), None)
    every = _every_ns(settings, name)
    parts = {
        label: journal.runs(operations=["backup"], plan=name, vault=label, host=hostname(), limit=_LOOKED_BACK)
        for label in labels
    }
    drill = next(iter(journal.facts(kinds=["drill.finished"], plan=name, host=hostname(), limit=1)), None)
    age = None if success is None or success.finished_ns is None else max(0, now - success.finished_ns)
    problems = [
        *_of_runs(ended, parts),
        *_of_age(age, every, bool(whole)),
        *_of_damage(journal, labels),
        *_of_drill(drill),
    ]
    return Standing(
        name,
        labels,
        last=ended[0] if ended else None,
        success=success,
        running=next((run for run in whole[:1] if run.finished_ns is None), None),
        age_ns=age,
        every_ns=every,
        schedule=plan.times.backup or "",
        # Nobody shall rely on a start that nothing brings about.
        next_ns=next_run(context, plan) if plan.times.backup and installed(context) else None,
        sizes=_sizes(parts[labels[0]]) if labels else (),
        drill=drill,
        problems=tuple(problems),
    )


def _without_plan(journal: Journal, now: int) -> list[Standing]:
    """The vaults that backups without a plan went into lately."""
    since = now - FORGOTTEN_DAYS * _DAY_NS
    recent = journal.runs(operations=["backup"], plan="", host=hostname(), since_ns=since)
    found = []
    for label in dict.fromkeys(run.vault for run in recent if run.vault):
        runs = [run for run in recent if run.vault == label]
        ended = [run for run in runs if run.finished_ns is not None]
        success = next((run for run in ended if run.outcome in _GOOD), None)
        found.append(
            Standing(
                "",
                (label,),
                last=ended[0] if ended else None,
                success=success,
                running=next((run for run in runs[:1] if run.finished_ns is None), None),
                age_ns=None if success is None or success.finished_ns is None else max(0, now - success.finished_ns),
                sizes=_sizes(runs),
                problems=(*_of_runs(ended, {}), *_of_damage(journal, (label,))),
            )
        )
    return found


def _commands(journal: Journal, now: int) -> list[Standing]:
    """What 'holdfast run' watched lately, by the names that were given there."""
    since = now - FORGOTTEN_DAYS * _DAY_NS
    recent = journal.runs(operations=["run"], host=hostname(), since_ns=since)
    found = []
    for name in dict.fromkeys(run.plan for run in recent if run.plan):
        runs = [run for run in recent if run.plan == name]
        ended = [run for run in runs if run.finished_ns is not None]
        success = next((run for run in ended if run.outcome in _GOOD), None)
        last = ended[0] if ended else None
        failed = last is not None and last.outcome != "ok"
        found.append(
            Standing(
                name,
                (),
                last=last,
                success=success,
                running=next((run for run in runs[:1] if run.finished_ns is None), None),
                age_ns=None if success is None or success.finished_ns is None else max(0, now - success.finished_ns),
                problems=(f"its last run: {last.outcome}, {last.message}",) if last is not None and failed else (),
                is_command=True,
            )
        )
    return found


def _label(context: Context, vault: str) -> str:
    from dataclasses import replace

    from holdfast.app.recording import label

    return label(replace(context, vault=vault or None))


def _every_ns(settings: Settings, name: str) -> int | None:
    from holdfast.config.words import seconds

    expect = settings.loaded.configuration.plans[name].expect
    return None if expect is None or expect.every is None else int(seconds(expect.every) * 1e9)


def _of_runs(ended: Sequence[RunRow], parts: dict[str, list[RunRow]]) -> list[str]:
    last = ended[0] if ended else None
    if last is None or last.outcome == "ok":
        return []
    if last.outcome == "cancelled":
        return [f"the last backup was cancelled: {last.message}"]
    found = []
    for label, runs in parts.items() if len(parts) > 1 else ():
        part = next((run for run in runs if run.parent == last.id), None)
        if part is not None and part.outcome == "failed":
            found.append(f"the last backup into {label} failed: {part.message}")
        elif part is not None and part.outcome == "partial":
            found.append(f"the last backup into {label} is not whole: {part.message}")
    if found:
        return found
    words = "failed" if last.outcome == "failed" else "is not whole"
    return [f"the last backup {words}: {last.message}"]


def _of_age(age: int | None, every: int | None, began: bool) -> list[str]:
    if age is None:
        return ["no backup came to a good end yet" if began else "it was never backed up"]
    if every is not None and age > every:
        return [f"the last good backup is {in_words(age)} old, and one is expected every {in_words(every)}"]
    return []


def _of_damage(journal: Journal, labels: Sequence[str]) -> list[str]:
    found = []
    for label in labels:
        check = next((run for run in journal.runs(operations=["check"], vault=label, limit=5) if run.outcome), None)
        if check is not None and check.outcome == "failed":
            found.append(f"the last check of {label}: {check.message}")
    return found


def _of_drill(drill: Record | None) -> list[str]:
    return [f"the last drill: {drill.message}"] if drill is not None and drill.data.get("outcome") == "failed" else []


def _sizes(runs: Sequence[RunRow]) -> tuple[int, ...]:
    sizes = [run.data.get("total_bytes") for run in runs if run.outcome in _GOOD]
    return tuple(size for size in sizes[:RECENT][::-1] if isinstance(size, int))


def in_words(ns: int) -> str:
    """A length of time as people say it: ``40 min``, ``26 h``, ``3 days``."""
    minutes = ns // 60_000_000_000
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes / 60:.0f} h"
    return f"{minutes / 1440:.0f} days"
