"""Which snapshot is meant by an id, the front of one, or ``latest``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from holdfast.kernel.errors import Corrupt, Invalid, NotFound
from holdfast.kernel.events import Emit, Event
from holdfast.kernel.ids import short
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo

if TYPE_CHECKING:
    from holdfast.app.plain import PlainVault
    from holdfast.vaults.archive import ArchiveVault

LIST_HINT = "'holdfast snapshots' lists them."


def readable_snapshots(vault: ArchiveVault | PlainVault, emit: Emit) -> Sequence[SnapshotInfo]:
    """The snapshots to choose one from. Damaged ones are told to ``emit``; raises ``Corrupt`` if all are."""
    damaged: list[Event] = []

    def note(event: Event) -> None:
        damaged.append(event)
        emit(event)

    found = vault.snapshots(note)
    if damaged and not found:
        raise Corrupt("no snapshot of the vault can be read", hint="'holdfast check' tells more about the damage.")
    return found


def make_filter(hosts: Sequence[str], paths: Sequence[str], tags: Sequence[str]) -> SnapshotFilter:
    """A filter from command-line words. Tags joined by commas must all be there; of several such sets one is enough."""
    import os

    return SnapshotFilter(
        hosts=tuple(hosts),
        paths=tuple(os.path.abspath(os.path.expanduser(path)) for path in paths),
        tags=tuple(frozenset(tag for tag in words.split(",") if tag) for words in tags),
    )


def find_snapshot(
    snapshots: Sequence[SnapshotInfo], text: str, wanted: SnapshotFilter, *, originals: bool = True
) -> SnapshotInfo:
    """The one snapshot of ``snapshots`` (oldest first) that ``text`` names; ``latest`` obeys ``wanted``.

    With ``originals`` the id that a snapshot had before it was written anew (other tags, a copy) names it as well,
    where no snapshot has that id now. Raises ``NotFound``, and ``Invalid`` where the front of an id fits several.
    """
    if text == "latest":
        fitting = [snapshot for snapshot in snapshots if wanted.matches(snapshot)]
        if not fitting:
            narrowed = snapshots and wanted != SnapshotFilter()
            parts = [part for snapshot in snapshots for part in wanted.fitting(snapshot)]
            if parts:
                where = ", ".join(path for part in parts for path in part.paths)
                raise NotFound(
                    "the mirror is one snapshot of several runs, and only a part of it fits --host and --tag",
                    hint=f"What fits is {where}: name it with latest:PATH, and leave --host and --tag out.",
                )
            raise NotFound(
                "no snapshot fits --host, --path and --tag" if narrowed else "the vault holds no snapshot yet",
                hint=LIST_HINT if narrowed else "'holdfast backup PATH' makes one.",
            )
        return fitting[-1]
    fitting = [snapshot for snapshot in snapshots if snapshot.id.hex().startswith(text)]
    rewritten = [] if fitting else [s for s in snapshots if s.original and s.original.hex().startswith(text)]
    if originals:
        fitting = fitting or rewritten
    if not fitting:
        now = f" It was written anew and is now {short(rewritten[0].id)}." if rewritten else ""
        raise NotFound(f"no snapshot has an id that begins with {text}", hint=LIST_HINT + now)
    if len(fitting) > 1:
        ids = ", ".join(short(snapshot.id) for snapshot in fitting[:5])
        raise Invalid(f"{text} fits {len(fitting)} snapshots: {ids}", hint="Give more digits.")
    return fitting[0]
