"""Use case: write a saved file, or a saved folder as tar, into a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.app.browse import browsing
from holdfast.app.context import Context
from holdfast.app.selection import find_snapshot
from holdfast.kernel.errors import Invalid
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo

if TYPE_CHECKING:
    from holdfast.vaults.dump import DumpSummary


def dump(
    context: Context,
    text: str,
    wanted: SnapshotFilter,
    path: bytes,
    write: Callable[[bytes], object],
    *,
    tar: bool,
    tar_allowed: bool = True,
) -> tuple[SnapshotInfo, DumpSummary]:
    """Write ``path`` of a snapshot: a file as it is (or in a tar, if ``tar``), anything else as tar.

    Raises ``Invalid`` for a tar that is not ``tar_allowed`` (a terminal), before anything is written; ``NotFound``,
    ``Corrupt``, and what ``write`` raises.
    """
    from holdfast.vaults.dump import dump_file, dump_tar

    with browsing(context) as there:
        snapshot = find_snapshot(there.snapshots, text, wanted)
        as_tar = tar or there.browser.find(snapshot, path).kind != "file"
        if as_tar and not tar_allowed:
            raise Invalid("a tar file is nothing for a terminal", hint="Give -o FILE, or send the output to a program.")
        act = dump_tar if as_tar else dump_file
        return snapshot, act(there.browser, snapshot, path, write, emit=context.emit, cancel=context.cancel)
