"""How the engines' summaries are told in the record of a run: the outcome, one sentence, and counts."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from holdfast.app.recording import Ending

if TYPE_CHECKING:
    from holdfast.app.backup import BackupResult
    from holdfast.app.copy import Copied
    from holdfast.app.forget import Forgotten
    from holdfast.app.init import NewVault
    from holdfast.app.migrate import Migration
    from holdfast.app.plans import PlanResult
    from holdfast.app.restore import RestoreResult
    from holdfast.app.restore_database import DatabaseResult
    from holdfast.app.tag import Retagged
    from holdfast.app.unlock import Unlocked
    from holdfast.vaults.archive.prune import PruneSummary
    from holdfast.vaults.base import CheckReport

_LEFT_OUT = frozenset(("outcome", "seconds", "actions"))


def counts(summary: Any) -> dict[str, Any]:
    """The members of a summary as JSON: numbers and texts as they are, ids in hex, of collections how many they have.

    Members that are dataclasses themselves, and those that are None, are left out.
    """
    found: dict[str, Any] = {}
    for each in fields(summary):
        value = getattr(summary, each.name)
        if each.name in _LEFT_OUT or value is None or is_dataclass(value):
            continue
        if isinstance(value, Enum):
            found[each.name] = str(value.value)
        elif isinstance(value, bytes):
            found[each.name] = value.hex()
        elif isinstance(value, (bool, int, float, str)):
            found[each.name] = value
        elif isinstance(value, Sized):
            found[each.name] = len(value)
    return found


def plural(count: int, word: str) -> str:
    """``3 files``."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def of_backup(result: BackupResult) -> Ending:
    """Of one vault."""
    summary = result.summary
    message = (
        f"{plural(summary.total_files, 'file')} kept: {summary.files_new:,} new, {summary.files_changed:,} changed"
    )
    if summary.problems:
        message = f"{plural(len(summary.problems), 'item')} could not be saved; {message}"
    return Ending(
        str(summary.outcome), message, {**counts(summary), "kind": result.kind, "made": result.made is not None}
    )


def of_plan(result: PlanResult) -> Ending:
    """Of all vaults together."""
    good = sum(str(run.outcome) in ("ok", "partial") for run in result.vaults)
    message = f"saved into {good} of {plural(len(result.vaults), 'vault')}"
    data: dict[str, Any] = {
        "vaults": [{"vault": run.vault, "outcome": str(run.outcome)} for run in result.vaults],
        "hooks_failed": result.hooks_failed,
        "problems": sum(len(run.result.summary.problems) for run in result.vaults if run.result is not None),
    }
    if data["problems"]:
        message += f"; {plural(data['problems'], 'item')} could not be saved"
    error = result.refused or next((run.error for run in result.vaults if run.error is not None), None)
    if error is not None:
        code, hint = getattr(error, "code", "internal"), getattr(error, "hint", "")
        data["error"] = {"code": code, "message": str(error), "hint": hint}
        message += f": {error}" if len(result.vaults) > 1 else ""
        if result.refused is not None or len(result.vaults) == 1:
            message = str(error)
    elif result.hooks_failed:
        message += f"; {plural(result.hooks_failed, 'hook')} failed"
    return Ending(str(result.outcome), message, data)


def of_restore(result: RestoreResult) -> Ending:
    summary = result.summary
    message = f"{plural(summary.files_restored, 'file')} restored"
    if summary.problems:
        message = f"{plural(len(summary.problems), 'item')} could not be restored; {message}"
    return Ending(str(summary.outcome), message, counts(summary))


def of_database(result: DatabaseResult) -> Ending:
    data = {"snapshot": result.snapshot.id.hex(), "path": result.path, "kind": result.kind, "bytes": result.size}
    return Ending("ok", f"the {result.kind} database was loaded", data)


def of_check(report: CheckReport) -> Ending:
    """The damage itself stands in facts of its own."""
    errors = sum(each.severity == "error" for each in report.damage)
    message = f"{plural(errors, 'damage')} found" if errors else "no damage found"
    outcome = "failed" if errors else str(report.outcome)
    return Ending(outcome, message, {**counts(report), "damage": errors, "hints": len(report.damage) - errors})


def of_prune(summary: PruneSummary) -> Ending:
    message = f"{plural(summary.removed_packs, 'pack')} removed"
    return Ending(str(summary.outcome), message, counts(summary))


def of_forget(done: Forgotten) -> Ending:
    message = f"{plural(done.removed, 'snapshot')} forgotten, {done.kept:,} kept"
    return Ending("ok", message, {"removed": done.removed, "kept": done.kept, "damaged": done.damaged})


def of_copy(done: Copied) -> Ending:
    summary = done.summary
    message = f"{plural(len(summary.copied), 'snapshot')} copied, {summary.already:,} already there"
    if summary.problems:
        message += f"; {plural(len(summary.problems), 'snapshot')} could not be copied"
    data = {**counts(summary), "unwanted": done.unwanted, "forgotten": len(done.forgotten)}
    return Ending(str(summary.outcome), message, data)


def of_init(made: NewVault) -> Ending:
    return Ending("ok", f"the {made.kind} vault was made", {"id": made.id, "kind": made.kind})


def of_migration(done: Migration) -> Ending:
    message = f"brought from version {done.before} to {done.after}" if done.kept else f"it is of version {done.after}"
    return Ending("ok", message, {"before": done.before, "after": done.after})


def of_tags(done: list[Retagged]) -> Ending:
    changed = sum(each.is_changed for each in done)
    return Ending("ok", f"{plural(changed, 'snapshot')} changed", {"changed": changed})


def of_unlock(done: Unlocked) -> Ending:
    gone = len(done.gone) + len(done.damaged_gone)
    left = len(done.left) + len(done.damaged_left)
    return Ending("ok", f"{plural(gone, 'lock')} removed, {left:,} left", {"removed": gone, "left": left})


def of_work(summary: Any) -> Ending:
    """Of repairs and the like, whose summaries have an outcome and counts."""
    outcome = str(getattr(summary, "outcome", "ok"))
    words = {"ok": "done", "partial": "done in part", "failed": "damage remains"}
    return Ending(outcome, words.get(outcome, outcome), counts(summary))


def of_key(_result: object) -> Ending:
    return Ending("ok", "done")
