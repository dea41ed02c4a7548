"""Telling what came of one backup, for paths and for plans alike."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from holdfast.cli import text
from holdfast.cli.errors import OUTCOMES
from holdfast.cli.session import Session
from holdfast.kernel.ids import short

if TYPE_CHECKING:
    from holdfast.app.backup import BackupResult
    from holdfast.vaults.base import BackupSummary


def show(here: Session, result: BackupResult, *, dry_run: bool, **more: Any) -> int:
    """Tell what came of one backup; ``more`` goes into its summary. Returns its exit code."""
    console, summary = here.console, result.summary
    if result.made is not None:
        from holdfast.cli.commands.init import tell_new_vault

        tell_new_vault(here, result.made)
    for warning in summary.warnings:
        console.warn(f"{text.name(warning.path)}: {warning.message}")
    console.problems((problem.path, problem.message, problem.during) for problem in summary.problems)
    if not console.quiet:
        say = {"archive": sentence, "mirror": mirror_sentence}.get(result.kind, versioned_sentence)
        console.line(say(summary, dry_run=dry_run))
    console.event(
        "summary",
        outcome=str(summary.outcome),
        location=result.location,
        kind=result.kind,
        dry_run=dry_run,
        snapshot=summary.snapshot.hex() if summary.snapshot else None,
        parent=summary.parent.hex() if summary.parent else None,
        **{name: getattr(summary, name) for name in COUNTS},
        seconds=round(summary.seconds, 3),
        problems=len(summary.problems),
        warnings=len(summary.warnings),
        vault_created=result.made is not None,
        key_file=os.fspath(result.made.key_file) if result.made and result.made.key_file else None,
        **more,
    )
    return OUTCOMES[summary.outcome]


COUNTS = (
    *("files_new", "files_changed", "files_unmodified", "files_removed", "dirs_new", "dirs_changed", "dirs_unmodified"),
    *(
        "data_blobs",
        "tree_blobs",
        "data_added",
        "data_added_packed",
        "total_files",
        "total_bytes",
        "excluded",
        "databases",
    ),
)


def sentence(summary: BackupSummary, *, dry_run: bool) -> str:
    """The result in one sentence."""
    if dry_run:
        begin = "Would save"
    elif summary.snapshot is not None:
        begin = f"Snapshot {short(summary.snapshot)} saved:"
    else:
        begin = "No snapshot saved:"
    share = (
        f"{summary.files_new:,} new, {summary.files_changed:,} changed, {summary.files_unmodified:,} unchanged"
        if summary.parent is not None or summary.files_changed or summary.files_unmodified
        else "all new"
    )
    parts = [
        f"{begin} {text.plural(summary.total_files, 'file')} ({text.size(summary.total_bytes)})",
        share,
        f"{text.size(summary.data_added)} to add, before compression"
        if dry_run
        else f"{text.size(summary.data_added)} added ({text.size(summary.data_added_packed)} stored)"
        + f" in {text.duration(summary.seconds)}",
    ]
    if summary.databases:
        parts.insert(1, text.plural(summary.databases, "database") + " copied")
    if summary.problems:
        parts.append(f"{text.plural(len(summary.problems), 'item')} could not be saved")
    return "; ".join(parts)


def mirror_sentence(summary: BackupSummary, *, dry_run: bool) -> str:
    """The same of a vault that holds the files themselves."""
    begin = "Would mirror" if dry_run else "Mirrored"
    parts = [
        f"{begin} {text.plural(summary.total_files, 'file')} ({text.size(summary.total_bytes)})",
        f"{summary.files_new:,} new, {summary.files_changed:,} changed, {summary.files_removed:,} removed, "
        f"{summary.files_unmodified:,} unchanged",
        f"{text.size(summary.data_added)} to copy"
        if dry_run
        else f"{text.size(summary.data_added)} copied in {text.duration(summary.seconds)}",
    ]
    if summary.problems:
        parts.append(f"{text.plural(len(summary.problems), 'item')} could not be mirrored")
    return "; ".join(parts)


def versioned_sentence(summary: BackupSummary, *, dry_run: bool) -> str:
    """The same of a vault that also keeps what it replaces."""
    begin = "Would keep" if dry_run else "Keeps"
    parts = [
        f"{begin} {text.plural(summary.total_files, 'file')} ({text.size(summary.total_bytes)})",
        f"{summary.files_new:,} new, {summary.files_changed:,} changed, {summary.files_removed:,} removed, "
        f"{summary.files_unmodified:,} unchanged",
    ]
    if not dry_run:
        history = text.size(summary.data_added_packed - summary.data_added)
        parts.append(
            f"{text.size(summary.data_added)} copied, {history} of history, in {text.duration(summary.seconds)}"
        )
    if summary.problems:
        parts.append(f"{text.plural(len(summary.problems), 'item')} could not be saved")
    return "; ".join(parts)
