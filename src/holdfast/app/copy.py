"""Use case: bring snapshots from one vault into another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import field, replace
from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.app.endings import of_copy
from holdfast.app.other import other_vault
from holdfast.app.recording import recording
from holdfast.app.selection import find_snapshot, readable_snapshots
from holdfast.config.secrets import PasswordChoice
from holdfast.kernel.errors import HoldfastError, Invalid, NotFound
from holdfast.kernel.events import Fact
from holdfast.kernel.ids import SnapshotId
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo
from holdfast.vaults.retention import Policy, ahead_of_time, plan

if TYPE_CHECKING:
    from holdfast.vaults.archive import ArchiveVault
    from holdfast.vaults.archive.copy import CopySummary
    from holdfast.vaults.archive.copy.select import Stored


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """What to bring from where.

    ``source`` is a location and ``password`` what opens it (see :func:`holdfast.app.other.other_vault`). Without
    ``snapshots`` (ids or ``latest``) all that fit ``wanted`` are meant. ``keep``, if it says anything, decides what the
    target holds afterwards: what it would drop is not brought, and what it no longer keeps there is forgotten. It
    decides about the snapshots that fit ``kept`` only, in groups by ``group_by``.
    """

    source: str
    password: PasswordChoice = field(default_factory=PasswordChoice)
    snapshots: tuple[str, ...] = ()
    wanted: SnapshotFilter = field(default_factory=SnapshotFilter)
    keep: Policy = field(default_factory=Policy)
    kept: SnapshotFilter = field(default_factory=SnapshotFilter)
    group_by: tuple[str, ...] = ("host", "paths")
    read_back: bool = True
    dry_run: bool = False
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Copied:
    """The engine's summary, how many snapshots the policy of the target did not let in, and which it forgot there."""

    summary: CopySummary
    unwanted: int = 0
    forgotten: tuple[SnapshotId, ...] = ()


@recording("copy", of_copy)
def copy(context: Context, request: CopyRequest) -> Copied:
    """Bring what is missing into the context's vault. See :func:`holdfast.vaults.archive.copy.copy`.

    Raises ``NotFound`` where one of the vaults, or a snapshot that was named, is not there, and ``Invalid`` where a
    policy is given and snapshots lie in the future.
    """
    from holdfast.vaults.archive.copy import CopyOptions
    from holdfast.vaults.archive.copy import copy as bring

    options = CopyOptions(request.read_back, request.dry_run, request.workers)
    with other_vault(context, request.source, request.password).opened() as source, _target(context, request) as target:
        chosen = {snapshot.id for snapshot in _chosen(source, request, context)}
        pairs = [pair for pair in source.repository.snapshots(lambda _id, _error: None) if pair[0] in chosen]
        pairs, unwanted, going = _thinned(context, target, pairs, request)
        with source.reading(on_damage=_telling(context)) as lock:
            summary = bring(
                source.repository,
                target.repository,
                pairs,
                options,
                emit=context.emit,
                cancel=context.cancel,
                source_lock=lock,
            )
        if going and not request.dry_run:
            _forget(context, target, going)
        return Copied(summary, unwanted, tuple(going))


def _thinned(
    context: Context, target: ArchiveVault, pairs: list[Stored], request: CopyRequest
) -> tuple[list[Stored], int, list[SnapshotId]]:
    """What of ``pairs`` a policy lets in, how many it does not, and which snapshots of the target it drops.

    It looks at the target as it will be: what is there and what is missing there, together.
    """
    from holdfast.vaults.archive.copy.select import missing
    from holdfast.vaults.archive.vault import describe

    if request.keep.is_empty:
        return pairs, 0, []
    there = target.repository.snapshots(lambda _id, _error: None)
    new = missing(there, pairs)
    described = [describe(identifier, snapshot) for identifier, snapshot in [*there, *new]]
    everything = [snapshot for snapshot in described if request.kept.matches(snapshot)]
    now = context.clock.now_ns()
    if early := ahead_of_time(everything, now):
        raise Invalid(
            f"{len(early)} snapshots lie in the future: they or the clock here are wrong, and so would be what to keep",
            hint="Set the clock, or forget those snapshots by their ids.",
            snapshots=[snapshot.id.hex() for snapshot in early],
        )
    offset = context.clock.utc_offset
    made = plan(everything, request.keep, now_ns=now, local_offset=offset, group_by=request.group_by)
    dropped = {snapshot.id for snapshot in made.remove}
    outside = {identifier for identifier, _ in new} & dropped
    left = [pair for pair in pairs if pair[0] not in outside]
    return left, len(outside), [identifier for identifier, _ in there if identifier in dropped]


def _forget(context: Context, target: ArchiveVault, going: Sequence[SnapshotId]) -> None:
    from holdfast.vaults.archive.forget import forget

    with target.repository.locks.hold(exclusive=True) as lock:
        forget(target.repository, going, lock, emit=context.emit, cancel=context.cancel)


@contextmanager
def _target(context: Context, request: CopyRequest) -> Iterator[ArchiveVault]:
    """The vault to copy into; ``--no-lock`` is for the source."""
    with ExitStack() as stack:
        # What is read back must come from the place itself, not from a copy that was kept here on its way.
        opening = replace(context, no_lock=False).opened(cached=not request.read_back)
        try:
            vault = stack.enter_context(opening)
        except NotFound as error:
            raise NotFound(
                error.message,
                hint="To make it: 'holdfast init LOCATION --cut-like SOURCE', so that both can share data. "
                + error.hint,
                **error.context,
            ) from error
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
