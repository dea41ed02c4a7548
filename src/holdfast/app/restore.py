"""Use case: bring back files and folders from a snapshot."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from holdfast.app.context import Context
from holdfast.app.endings import of_restore
from holdfast.app.recording import recording
from holdfast.app.selection import find_snapshot, readable_snapshots
from holdfast.kernel.errors import Invalid
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import RestoreOptions, RestoreSummary, SnapshotFilter, SnapshotInfo

if TYPE_CHECKING:
    from holdfast.files.rules import Rules


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What was restored from what."""

    snapshot: SnapshotInfo
    summary: RestoreSummary


def _about(text: str, _wanted: SnapshotFilter, options: RestoreOptions) -> dict[str, Any]:
    return {"snapshot": text, "path": options.path, "target": options.target, "in_place": options.in_place}


@recording("restore", of_restore, about=_about)
def restore(context: Context, text: str, wanted: SnapshotFilter, options: RestoreOptions) -> RestoreResult:
    """Restore from the snapshot that ``text`` names. Raises ``Invalid`` without a target, ``NotFound``, ``Corrupt``."""
    if not options.target and not options.in_place:
        raise Invalid(
            "nowhere to restore to",
            hint="Give --target DIR for a new place, or --in-place to put everything back where it was.",
        )
    with context.opened_any() as vault:
        snapshot = find_snapshot(readable_snapshots(vault, context.emit), text, wanted)
        absolute = os.path.abspath(options.target) if options.target else b""
        summary = vault.restore(snapshot, replace(options, target=absolute), emit=context.emit, cancel=context.cancel)
    return RestoreResult(snapshot, summary)


def patterns(lines: tuple[str, ...]) -> Rules | None:
    """``--include`` and ``--exclude`` as rules: gitignore lines, without defaults and ignore files."""
    from holdfast.files.rules import Rules

    if not lines:
        return None
    return Rules.compile(lines, defaults=False, ignore_file=b"", cachedir_tag=False)
