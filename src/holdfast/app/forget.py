"""Use case: delete snapshots by a policy, or by name. What is to go is planned and shown before it goes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.app.endings import of_forget, of_prune
from holdfast.app.recording import label, recorded
from holdfast.app.selection import find_snapshot
from holdfast.kernel.errors import Corrupt, Denied, Invalid
from holdfast.kernel.events import Event, Fact
from holdfast.kernel.ids import SnapshotId, short
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo
from holdfast.vaults.holds import in_words
from holdfast.vaults.retention import Plan, Policy, ahead_of_time, held_until, plan, plan_named

if TYPE_CHECKING:
    from holdfast.storage import Storage
    from holdfast.vaults.archive import ArchiveVault
    from holdfast.vaults.archive.prune import PruneSummary
    from holdfast.vaults.versioned import VersionedVault

SHOWN = 3


@dataclass(frozen=True, slots=True)
class ForgetOptions:
    """``named`` are ids, fronts of ids, or ``latest``; without any, ``policy`` decides about what ``wanted`` fits.

    ``force`` acts though every snapshot of a group would go, though some lie in the future, and, without a policy,
    deletes all that ``wanted`` fits. Nothing deletes what is held or what the policy keeps. ``prune`` goes on with a
    prune if anything was deleted.
    """

    named: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)
    wanted: SnapshotFilter = field(default_factory=SnapshotFilter)
    group_by: tuple[str, ...] = ("host", "paths")
    dry_run: bool = False
    force: bool = False
    prune: bool = False


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done, or would be. ``damaged`` counts deleted snapshot files that could not be read; ``kept`` those that
    were looked at and stay."""

    plan: Plan
    removed: int
    kept: int
    damaged: int = 0


def forget(
    context: Context,
    options: ForgetOptions,
    show: Callable[[Plan], None],
    tell: Callable[[Forgotten], None] | None = None,
) -> PruneSummary | None:
    """Plan, ``show`` the plan, carry it out under an exclusive lock, ``tell`` what was done, and prune if asked to.

    Raises ``Invalid`` where nothing was said about what to keep, or without ``force`` where too much would go;
    ``Denied`` where a named snapshot is held or the vault lets nothing be deleted. Then nothing was deleted. Raises
    what a prune raises; what was told by then is done.
    """
    _refuse_unclear(options)
    if options.dry_run:
        return _carry_out(context, options, show, tell or (lambda _done: None))
    with recorded(context, "forget", vault=label(context)) as run:

        def heard(done: Forgotten) -> None:
            ending = of_forget(done)
            run.finish(ending.outcome, ending.message, **ending.data)
            if tell is not None:
                tell(done)

        return _carry_out(run.context, options, show, heard)


def _carry_out(
    context: Context, options: ForgetOptions, show: Callable[[Plan], None], tell: Callable[[Forgotten], None]
) -> PruneSummary | None:
    versioned = _versioned(context)
    if versioned is not None:
        tell(_forget_versions(context, versioned, options, show))
        return None
    with context.opened() as vault:
        done = _forget(context, vault, options, show)
        tell(done)
        if not options.prune or options.dry_run or not done.removed:
            return None
        return _prune(context, vault)


def _prune(context: Context, vault: ArchiveVault) -> PruneSummary:
    from holdfast.vaults.archive.prune import PruneOptions, prune

    with recorded(context, "prune", vault=label(context)) as run:
        summary = prune(vault.repository, PruneOptions(), emit=run.context.emit, cancel=context.cancel)
        ending = of_prune(summary)
        run.finish(ending.outcome, ending.message, **ending.data)
        return summary


def _forget(context: Context, vault: ArchiveVault, options: ForgetOptions, show: Callable[[Plan], None]) -> Forgotten:
    with contextlib.ExitStack() as stack:
        lock = None
        if not options.dry_run:
            refuse_append_only(vault.repository.storage)
            lock = stack.enter_context(vault.repository.locks.hold(exclusive=True))
        snapshots, damaged = _load(vault, context)
        made, unreadable = _plan(context, options, snapshots, damaged)
        show(made)
        if not options.force:
            _refuse_too_much(made, options, snapshots, context.clock.now_ns())
        going = [snapshot.id for snapshot in made.remove] + unreadable
        kept = sum(len(group.keep) for group in made.groups)
        if lock is not None:
            from holdfast.vaults.archive.forget import forget as delete

            delete(vault.repository, going, lock, emit=context.emit, cancel=context.cancel)
    return Forgotten(made, len(going), kept, len(unreadable))


def _versioned(context: Context) -> VersionedVault | None:
    """The context's vault if it is a versioned one."""
    from holdfast.app.plain import plain_vault

    plain = plain_vault(context)
    if plain is None:
        return None  # most vaults: the engine of versioned ones need not be loaded
    from holdfast.vaults.versioned import VersionedVault

    return plain if isinstance(plain, VersionedVault) else None


def _forget_versions(
    context: Context, vault: VersionedVault, options: ForgetOptions, show: Callable[[Plan], None]
) -> Forgotten:
    """The same for a versioned vault, where what only these snapshots needed goes with them."""
    snapshots = vault.snapshots()
    made, _ = _plan(context, options, snapshots, [])
    show(made)
    if not options.force:
        _refuse_too_much(made, options, snapshots, context.clock.now_ns())
    going = [snapshot.id for snapshot in made.remove]
    if going and not options.dry_run:
        done = vault.forget(going, emit=context.emit, cancel=context.cancel)
        for problem in done.problems:
            context.emit(Fact("damage.found", problem.message, "error", {"path": problem.path}))
    return Forgotten(made, len(going), sum(len(group.keep) for group in made.groups))


def refuse_append_only(storage: Storage) -> None:
    """Raise ``Denied`` where no snapshot may be deleted, before anything is written that would need it."""
    if storage.traits.append_only:
        raise Denied(
            "the vault may only be added to from here: no snapshot can be deleted or changed",
            hint="Do it where the vault may be written to without restriction.",
        )


def _refuse_unclear(options: ForgetOptions) -> None:
    if options.named and not options.policy.is_empty:
        raise Invalid(
            "both snapshots and a policy were given", hint="Name the snapshots that go, or say what to keep, not both."
        )
    if not options.named and options.policy.is_empty:
        narrowed = options.wanted != SnapshotFilter()
        if not (options.force and narrowed):
            hint = "Say what to keep, for example --keep-daily 7 --keep-weekly 4, or name the snapshots that go."
            more = " To delete all that --host, --tag and --path fit: --force." if narrowed else ""
            raise Invalid("nothing was said about what to keep", hint=hint + more)


def _load(vault: ArchiveVault, context: Context) -> tuple[Sequence[SnapshotInfo], list[SnapshotId]]:
    """The readable snapshots, and the ids of the damaged ones, which were told."""
    damaged: list[SnapshotId] = []

    def note(event: Event) -> None:
        if isinstance(event, Fact) and event.kind == "damage.found" and "snapshot" in event.data:
            damaged.append(SnapshotId(bytes.fromhex(event.data["snapshot"])))
        context.emit(event)

    return vault.snapshots(note), damaged


def _plan(
    context: Context, options: ForgetOptions, snapshots: Sequence[SnapshotInfo], damaged: Sequence[SnapshotId]
) -> tuple[Plan, list[SnapshotId]]:
    """The plan, and which damaged files go because they were named."""
    now, offset, group_by = context.clock.now_ns(), context.clock.utc_offset, options.group_by
    if options.named:
        unreadable = _named_damage(options, snapshots, damaged)
        texts = [text for text in options.named if not any(_fits(identifier, text) for identifier in unreadable)]
        chosen = [find_snapshot(snapshots, text, options.wanted, originals=False) for text in texts]
        for snapshot in chosen:
            if (hold := held_until(snapshot, now, offset)) is not None:
                raise Denied(
                    f"snapshot {short(snapshot.id)} is {in_words(hold)}",
                    hint=f"'holdfast hold --release {short(snapshot.id)}' releases it.",
                    snapshot=snapshot.id.hex(),
                )
        named = {snapshot.id for snapshot in chosen}
        return plan_named(snapshots, named, now_ns=now, local_offset=offset, group_by=group_by), unreadable
    fitting = [snapshot for snapshot in snapshots if options.wanted.matches(snapshot)]
    if options.policy.is_empty:
        everything = {snapshot.id for snapshot in fitting}
        return plan_named(fitting, everything, now_ns=now, local_offset=offset, group_by=group_by), []
    return plan(fitting, options.policy, now_ns=now, local_offset=offset, group_by=group_by), []


def _named_damage(
    options: ForgetOptions, snapshots: Sequence[SnapshotInfo], damaged: Sequence[SnapshotId]
) -> list[SnapshotId]:
    """The damaged snapshots that were named. Nobody knows what is in them: they go with ``force`` only."""
    found = []
    for text in options.named:
        fitting = [identifier for identifier in damaged if _fits(identifier, text)]
        if not fitting or any(_fits(snapshot.id, text) for snapshot in snapshots):
            continue
        if len(fitting) > 1:
            raise Invalid(f"{text} fits {len(fitting)} snapshots", hint="Give more digits.")
        if not options.force:
            raise Corrupt(
                f"snapshot {short(fitting[0])} is damaged, so nobody can say what it holds or whether it is held",
                hint="To delete its file for good: --force.",
                snapshot=fitting[0].hex(),
            )
        found += fitting
    return list(dict.fromkeys(found))


def _fits(identifier: bytes, text: str) -> bool:
    return text != "latest" and identifier.hex().startswith(text)


def _refuse_too_much(made: Plan, options: ForgetOptions, snapshots: Sequence[SnapshotInfo], now_ns: int) -> None:
    early = [] if options.named else ahead_of_time((s for s in snapshots if options.wanted.matches(s)), now_ns)
    if early:
        ids = ", ".join(f"{short(s.id)} of {s.time[:19].replace('T', ' ')}" for s in early[:SHOWN])
        raise Invalid(
            f"{len(early)} of the snapshots lie in the future ({ids}): they or the clock here are wrong, and so would"
            " be the choice of what to keep",
            hint="Set the clock, or forget those snapshots by their ids; --force goes by the times as they are.",
            snapshots=[snapshot.id.hex() for snapshot in early],
        )
    if emptied := made.emptied:
        names = "; ".join(
            ", ".join(f"{name} {value or '-'}" for name, value in g.common) or "all" for g in emptied[:SHOWN]
        )
        more = f" and {len(emptied) - SHOWN} more groups" if len(emptied) > SHOWN else ""
        raise Invalid(
            f"this would delete every snapshot of {names}{more}",
            hint="Keep some, for example with --keep-last 1, or --force it.",
            snapshots=[snapshot.id.hex() for group in emptied for snapshot in group.remove],
        )
