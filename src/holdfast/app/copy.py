"""Use case: bring snapshots from one vault into another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.app.other import other_vault
from holdfast.app.selection import find_snapshot, readable_snapshots
from holdfast.config.secrets import PasswordChoice
from holdfast.kernel.errors import HoldfastError, NotFound
from holdfast.kernel.events import Fact
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo

if TYPE_CHECKING:
    from holdfast.vaults.archive import ArchiveVault
    from holdfast.vaults.archive.copy import CopySummary


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """What to bring from where.

    ``source`` is a location and ``password`` what opens it (see :func:`holdfast.app.other.other_vault`). Without
    ``snapshots`` (ids or ``latest``) all that fit ``wanted`` are meant.
    """

    source: str
    password: PasswordChoice = field(default_factory=PasswordChoice)
    snapshots: tuple[str, ...] = ()
    wanted: SnapshotFilter = field(default_factory=SnapshotFilter)
    read_back: bool = True
    dry_run: bool = False
    workers: int | None = None


def copy(context: Context, request: CopyRequest) -> CopySummary:
    """Bring what is missing into the context's vault. See :func:`holdfast.vaults.archive.copy.copy`.

    Raises ``NotFound`` where one of the vaults, or a snapshot that was named, is not there.
    """
    from holdfast.vaults.archive.copy import CopyOptions
    from holdfast.vaults.archive.copy import copy as bring

    options = CopyOptions(request.read_back, request.dry_run, request.workers)
    with other_vault(context, request.source, request.password).opened() as source, _target(context) as target:
        chosen = {snapshot.id for snapshot in _chosen(source, request, context)}
        pairs = [pair for pair in source.repository.snapshots(lambda _id, _error: None) if pair[0] in chosen]
        with source.reading(on_damage=_telling(context)) as lock:
            return bring(
                source.repository,
                target.repository,
                pairs,
                options,
                emit=context.emit,
                cancel=context.cancel,
                source_lock=lock,
            )


@contextmanager
def _target(context: Context) -> Iterator[ArchiveVault]:
    storage = context.storage()
    try:
        there = context.has_vault(storage)
    finally:
        storage.close()
    if not there:
        raise NotFound(
            f"there is no vault at {storage.location} to copy into",
            hint="Make it first: 'holdfast init LOCATION --cut-like SOURCE' makes one that shares data with the source.",
            location=storage.location,
        )
    with context.opened() as vault:
        yield vault


def _chosen(source: ArchiveVault, request: CopyRequest, context: Context) -> list[SnapshotInfo]:
    snapshots = readable_snapshots(source, context.emit)
    if request.snapshots:
        found = [find_snapshot(snapshots, text, request.wanted) for text in request.snapshots]
        return list({snapshot.id: snapshot for snapshot in found}.values())
    return [snapshot for snapshot in snapshots if request.wanted.matches(snapshot)]


def _telling(context: Context) -> Callable[[bytes, HoldfastError], None]:
    def tell(identifier: bytes, error: HoldfastError) -> None:
        context.emit(Fact("damage.found", error.message, "error", {"index": identifier.hex()}))

    return tell
