"""Health checks of plans: how old the last backup is, how the last runs ended, and whether there is one of each day."""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING

from holdfast.app.context import hostname
from holdfast.app.health_scene import Scene, Watched, told
from holdfast.monitor.health import Check, Finding, Twin, failed, gravest, passed, skipped, warned
from holdfast.monitor.report.words import duration, plural, safe, size

if TYPE_CHECKING:
    from holdfast.config.settings import NamedPlan
    from holdfast.monitor.journal import RunRow
    from holdfast.vaults.base import SnapshotInfo

LAX_SECONDS = 7 * 86400.0
"""A plan that does not say how often it is to run is worth a word when nothing was saved for a week."""
DAILY_SECONDS = 48 * 3600.0
"""A plan that saves at least so often has a snapshot of every day."""
NO_JOURNAL = "the journal cannot be read"
SHOWN_DAYS = 5


def plan_checks(scene: Scene) -> Iterator[Check]:
    """Every check of this module."""
    limit = scene.choice.limit
    for watched in scene.watched:
        yield Check(f"age:{watched.name}", partial(_age, scene, watched), limit)
        yield Check(f"days:{watched.name}", partial(_days, scene, watched), limit)
    if scene.past is not None:
        for key, run in sorted(scene.past.last.items()):
            if _is_ours(scene, *key):
                name = "/".join(_titled(scene, *key))
                yield Check(f"outcome:{name}", partial(_outcome, scene, run), limit)
    for plan in scene.plans:
        yield Check(f"disk:{plan.name}", partial(_disks, scene, plan), limit)


def _titled(scene: Scene, operation: str, plan: str, vault: str) -> Iterator[str]:
    probe = scene.probes.get(vault)
    yield from (part for part in (operation, plan, vault if probe is None else probe.title) if part)


def _is_ours(scene: Scene, operation: str, plan: str, vault: str) -> bool:
    """Whether this outcome still matters: not of a plan or vault that the configuration no longer has."""
    if operation not in ("backup", "check", "copy", "drill", "forget", "prune", "repair", "run"):
        return False
    if operation == "run" or scene.settings is None:
        return True
    known_plan = not plan or plan in {found.name for found in scene.plans}
    return known_plan and (not vault or vault in scene.probes)


def _age(scene: Scene, watched: Watched) -> Finding:
    last_ns = _last_good(scene, watched)
    plan = watched.plan
    action = f"holdfast backup {plan.name}" if plan is not None else "holdfast backup PATH"
    if last_ns is None:
        if plan is None and watched.probe.context.chosen is None:
            return skipped("nothing was ever saved here", action)
        return failed("there has never been a backup that worked", action, critical=True, twin=_overdue(watched))
    age = scene.age(last_ns)
    words = f"the last backup that worked was {duration(max(age, 0.0))} ago"
    if watched.every is not None:
        if age > watched.every:
            message = f"{words}; it should be at most {duration(watched.every)}"
            return failed(message, action, critical=True, twin=_overdue(watched))
        return passed(f"{words}; {duration(watched.every)} are allowed")
    if age > LAX_SECONDS:
        return warned(words, f"{action}; 'expect: {{every: 26h}}' in the plan says how often it should be")
    return passed(words)


def _overdue(watched: Watched) -> Twin | None:
    """The rule that tells of an old backup by itself: of plans that say how old it may be."""
    return Twin("overdue", watched.plan.name) if watched.plan is not None and watched.plan.expect.every else None


def _last_good(scene: Scene, watched: Watched) -> int | None:
    """When something was last saved, by the journal; where that tells of nothing recent enough, by the vault itself."""
    run = None if scene.past is None else scene.past.good.get(watched.pair)
    last_ns = None if run is None else run.finished_ns or run.started_ns
    if last_ns is not None and scene.age(last_ns) <= (watched.every or LAX_SECONDS):
        return last_ns
    try:
        snapshots = own_snapshots(watched)
    except Exception:
        return last_ns  # why the vault does not open is said by its own check
    times = [snapshot.time_ns for snapshot in snapshots if snapshot.time_ns <= scene.now_ns]
    return max([*times, *([] if last_ns is None else [last_ns])], default=None)


def own_snapshots(watched: Watched) -> list[SnapshotInfo]:
    """The plan's snapshots of this host in the vault; without a plan, all of them."""
    snapshots = watched.probe.look().snapshots
    plan = watched.plan
    if plan is None:
        return list(snapshots)
    host = plan.host or hostname()
    runs = (run for snapshot in snapshots for run in snapshot.runs)
    return [run for run in runs if plan.mark in run.tags and run.hostname == host]


def _days(scene: Scene, watched: Watched) -> Finding:
    if watched.every is None or watched.every > DAILY_SECONDS or watched.plan is None:
        return skipped("it is not a plan that saves every day", "'expect: {every: 26h}' in a plan makes it one.")
    try:
        seen = watched.probe.look()
    except Exception as error:
        return skipped(f"the vault does not open: {told(error)[0]}")
    mine = own_snapshots(watched)
    by_vault = {scene.day(snapshot.time_ns) for snapshot in mine}
    by_journal = scene.past.days.get(watched.pair, frozenset()) if scene.past is not None else frozenset()
    first = min(by_vault | by_journal, default=None)
    if first is None:
        return skipped("nothing was saved so far")
    today = scene.day(scene.now_ns)
    looked_at = min(scene.choice.days, today - first)
    missing = uncovered(today, looked_at, by_vault, by_journal, _kept_days(watched.plan, seen.kind))
    if not missing:
        return passed(f"{plural(looked_at, 'day')}, each with a snapshot") if looked_at > 0 else skipped("it is new")
    shown = ", ".join(_date(day) for day in missing[-SHOWN_DAYS:])
    message = f"no snapshot of {plural(len(missing), 'day')} of the last {scene.choice.days}: {shown}"
    yesterday = today - 1 in missing
    action = f"holdfast history --plan {watched.plan.name}"
    if not yesterday:
        return warned(message, action)
    # A snapshot that was made and is gone is no lateness.
    late = scene.past is not None and by_journal.isdisjoint(missing)
    return failed(message, action, twin=_overdue(watched) if late else None)


def uncovered(today: int, days: int, by_vault: AbstractSet[int], by_journal: AbstractSet[int], keeps: int) -> list[int]:
    """Which of the ``days`` before ``today`` have no snapshot, oldest first. Today itself may still get one.

    The vault tells; of days so far back that the plan itself no longer ``keeps`` them the journal tells as well.
    """
    wanted = range(today - days, today)
    return [day for day in wanted if day not in by_vault and not (today - day >= keeps and day in by_journal)]


def _kept_days(plan: NamedPlan, kind: str) -> int:
    """For how many days back the vault has a snapshot of each, if all went well; a mirror has only the current tree,
    and a versioned vault none of a day on which nothing had changed."""
    if kind != "archive":
        return 0
    if plan.keep.is_empty or plan.keep.daily < 0:
        return 1 << 30
    return plan.keep.daily


def _date(day: int) -> str:
    import time

    return time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))


def _outcome(scene: Scene, run: RunRow) -> Finding:
    when = f"{duration(max(scene.age(run.finished_ns or run.started_ns), 0.0))} ago"
    error = run.data.get("error")
    said, hint = "", ""
    if isinstance(error, dict):
        said, hint = safe(str(error.get("message") or "")), safe(str(error.get("hint") or ""))
    said = said or safe(run.message)
    action = hint or f"holdfast history {run.id}"
    if run.outcome == "failed":
        words = f"the last {run.operation}, {when}, failed" + (f": {said}" if said else "")
        return failed(words, action, critical=run.operation in ("check", "drill"), twin=Twin(run=run.id))
    if run.outcome == "partial":
        problems = run.data.get("problems")
        count = f": {plural(problems, 'item')} could not be handled" if isinstance(problems, int) and problems else ""
        return warned(f"the last {run.operation}, {when}, was partial{count}", f"holdfast history {run.id}")
    if run.outcome == "cancelled":
        return warned(f"the last {run.operation}, {when}, was cancelled", f"holdfast history {run.id}")
    return passed(f"the last {run.operation}, {when}, was ok")


def _disks(scene: Scene, plan: NamedPlan) -> Finding:
    """Whether what is to be saved is there, and whether its disks have room: programs that cannot write lose data."""
    findings = []
    devices: set[int] = set()
    for path in plan.paths:
        try:
            device = os.stat(path).st_dev
            if device not in devices:
                devices.add(device)
                findings.append(room(scene, path))
        except OSError as error:
            where = safe(os.fsdecode(path))
            findings.append(failed(f"{where}: {error.strerror}", "Is its disk mounted? The plan names it in 'paths'."))
    if not findings:
        return skipped("the plan saves no files of its own")
    return gravest(findings) or findings[0]


def room(scene: Scene, path: bytes, *, written: bool = False) -> Finding:
    """Whether the disk of ``path`` has free space and free entries; ``written``: it has to take writes."""
    found = os.statvfs(path)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    where = safe(os.fsdecode(path))
    if written and found.f_flag & os.ST_RDONLY:
        return failed(f"the disk of {where} is mounted read-only", "Look at the system's log, then at the disk.")
    if total == 0:
        return skipped(f"the file system of {where} does not say how much is free")
    words = f"{size(free)} of {size(total)} free on the disk of {where}"
    wanted = scene.choice.wanted_free(total)
    action = "Make room, or say with 'health: {free: 5%}' how much is enough."
    if free < wanted / 5:
        return failed(words, action)
    if free < wanted:
        return warned(words, action)
    if found.f_files and found.f_favail < found.f_files / 50:
        return warned(f"only {found.f_favail:,} more files fit on the disk of {where}", "Remove small files there.")
    return passed(words)
