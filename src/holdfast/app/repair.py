"""Use cases: mend the index, the packs and the snapshots of a vault."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.app.endings import of_work
from holdfast.app.other import other_vault
from holdfast.app.recording import recording
from holdfast.app.selection import LIST_HINT, find_snapshot
from holdfast.config.secrets import PasswordChoice
from holdfast.kernel.errors import Denied, HoldfastError, Invalid, NotFound
from holdfast.kernel.events import Fact
from holdfast.kernel.ids import short
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo

if TYPE_CHECKING:
    from holdfast.format.snapshot import Snapshot
    from holdfast.repository import Repository
    from holdfast.vaults.archive.repair import IndexOptions, IndexRepair, PacksOptions, PacksRepair, SnapshotsRepair
    from holdfast.vaults.archive.repair.aside import Aside


@dataclass(frozen=True, slots=True)
class Second:
    """A second vault to take data from: its location, what opens it, and whether to do so without a lock there."""

    location: str
    password: PasswordChoice = field(default_factory=PasswordChoice)
    no_lock: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """Which snapshots are meant: ids (or the fronts of ids, or ``latest``); without any, all that fit ``wanted``."""

    names: tuple[str, ...] = ()
    wanted: SnapshotFilter = field(default_factory=SnapshotFilter)

    @property
    def is_all(self) -> bool:
        """Whether nothing narrows it down."""
        return not self.names and self.wanted == SnapshotFilter()


@recording("repair", of_work)
def repair_index(context: Context, options: IndexOptions, aside: str | None = None) -> IndexRepair:
    """Make the index agree with the packs; see :func:`holdfast.vaults.archive.repair.repair_index`."""
    from holdfast.vaults.archive.repair import repair_index as repair

    with context.opened(cached=False) as vault:
        refuse_append_only(vault.repository, dry_run=options.dry_run)
        folder = _aside(context, vault.repository, aside)
        return repair(vault.repository, options, aside=folder, emit=context.emit, cancel=context.cancel)


@recording("repair", of_work)
def repair_packs(
    context: Context, options: PacksOptions, source: Second | None = None, aside: str | None = None
) -> PacksRepair:
    """Replace damaged packs; see :func:`holdfast.vaults.archive.repair.repair_packs`.

    ``source`` is the second vault, if there is one; it is read only. Raises ``Invalid`` where nothing says which packs.
    """
    from holdfast.vaults.archive.repair import repair_packs as repair

    if not options.packs and not options.all_damaged:
        raise Invalid(
            "no pack is named",
            hint="Name packs by their ids ('holdfast check --read-data' tells them), or give --all-damaged or --from.",
        )
    with contextlib.ExitStack() as stack:
        other, other_lock = None, None
        if source is not None:
            there = replace(other_vault(context, source.location, source.password), no_lock=source.no_lock)
            second = stack.enter_context(there.opened())
            other_lock = stack.enter_context(second.reading(on_damage=_telling(context)))
            other = second.repository
        vault = stack.enter_context(context.opened(cached=False))
        if other is not None and other.storage.location == vault.repository.storage.location:
            raise Invalid("a vault cannot be healed from itself", hint="Give --from another vault, or a copy of this.")
        refuse_append_only(vault.repository, dry_run=options.dry_run)
        folder = _aside(context, vault.repository, aside)
        return repair(
            vault.repository,
            options,
            aside=folder,
            other=other,
            other_lock=other_lock,
            emit=context.emit,
            cancel=context.cancel,
        )


@recording("repair", of_work)
def repair_snapshots(
    context: Context, choice: Choice, *, forget: bool = False, dry_run: bool = False, aside: str | None = None
) -> SnapshotsRepair:
    """Make damaged snapshots anew without what is lost; see
    :func:`holdfast.vaults.archive.repair.repair_snapshots`."""
    from holdfast.vaults.archive.repair import SnapshotsOptions
    from holdfast.vaults.archive.repair import repair_snapshots as repair

    with context.opened() as vault:
        if forget:
            refuse_append_only(vault.repository, dry_run=dry_run)
        return repair(
            vault.repository,
            SnapshotsOptions(chosen(vault.repository, choice), forget, dry_run),
            aside=_aside(context, vault.repository, aside),
            protected=held(context),
            emit=context.emit,
            cancel=context.cancel,
        )


def chosen(repository: Repository, choice: Choice) -> frozenset[bytes] | None:
    """The ids of the snapshots that are meant, also of damaged ones that are named; None means all.

    Raises ``NotFound``, and ``Invalid`` where the front of an id fits several.
    """
    from holdfast.vaults.archive.vault import describe

    if choice.is_all:
        return None
    damaged: list[bytes] = []
    readable = repository.snapshots(lambda identifier, error: damaged.append(identifier))
    infos = [describe(identifier, snapshot) for identifier, snapshot in readable]
    if not choice.names:
        found = frozenset(info.id for info in infos if choice.wanted.matches(info))
        if not found:
            raise NotFound("no snapshot fits --host, --path and --tag", hint=LIST_HINT)
        return found
    return frozenset(_named(infos, damaged, name.lower(), choice.wanted) for name in choice.names)


def _named(infos: Sequence[SnapshotInfo], damaged: Sequence[bytes], name: str, wanted: SnapshotFilter) -> bytes:
    fitting = [identifier for identifier in damaged if identifier.hex().startswith(name)]
    if len(fitting) == 1 and not any(info.id.hex().startswith(name) for info in infos):
        return fitting[0]
    return find_snapshot(infos, name, wanted).id


def held(context: Context) -> Callable[[Snapshot], bool]:
    """Whether a hold keeps a snapshot from being deleted today."""
    from holdfast.vaults.holds import hold_of
    from holdfast.vaults.retention import today

    date = today(context.clock.now_ns(), context.clock.utc_offset)
    return lambda snapshot: hold_of(snapshot.tags, date) is not None


def refuse_append_only(repository: Repository, *, dry_run: bool) -> None:
    """Raise ``Denied`` before any work that would end with a deletion that the vault refuses."""
    if repository.storage.traits.append_only and not dry_run:
        raise Denied(
            f"{repository.storage.location} takes no deletions: it is append-only.",
            hint="Run this where the vault can be changed in full.",
        )


def _aside(context: Context, repository: Repository, folder: str | None) -> Aside:
    from holdfast.vaults.archive.repair.aside import Aside

    if folder is not None:
        return Aside(Path(folder).expanduser().absolute())
    return Aside(context.paths.state / "set-aside" / short(repository.config.id))


def _telling(context: Context) -> Callable[[bytes, HoldfastError], None]:
    def tell(identifier: bytes, error: HoldfastError) -> None:
        message = f"In the second vault: {error.message}"
        context.emit(Fact("repair.second", message, "warning", {"index": identifier.hex()}))

    return tell
