"""Use cases: change the tags of snapshots, and hold snapshots back from being forgotten."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from holdfast.app.context import Context
from holdfast.app.endings import of_tags
from holdfast.app.forget import refuse_append_only
from holdfast.app.recording import recording
from holdfast.app.selection import find_snapshot, readable_snapshots
from holdfast.kernel.errors import Invalid
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo
from holdfast.vaults.holds import HOLD, is_hold, with_hold, without_hold
from holdfast.vaults.retention import held_until, today
from holdfast.vaults.tags import Rewrite, TagChange, Tags, plan_rewrites


@dataclass(frozen=True, slots=True)
class Retagged:
    """One snapshot with its tags before and after, and the id that it has now (after a dry run: still has)."""

    before: SnapshotInfo
    tags: Tags
    id: bytes

    @property
    def is_changed(self) -> bool:
        """Whether the tags differ."""
        return set(self.tags) != set(self.before.tags)


@dataclass(frozen=True, slots=True)
class Held:
    """One snapshot with a hold: what holds it, or None if it has ended."""

    snapshot: SnapshotInfo
    until: str | None


@recording("tag", of_tags)
def change_tags(
    context: Context, named: Sequence[str], wanted: SnapshotFilter, change: TagChange, *, dry_run: bool = False
) -> list[Retagged]:
    """Change the tags of the snapshots that are ``named``, or without names of all that ``wanted`` fits.

    The tags of a hold stay as they are: to touch them is ``Invalid``. Also raises ``NotFound``, ``Denied``, ``Locked``.
    """
    if change == TagChange():
        raise Invalid("nothing was said about what to change", hint="Give --add, --remove or --set.")
    if change.replace is not None and (change.add or change.remove):
        raise Invalid("--set cannot go together with --add or --remove", hint="--set alone says all tags.")
    if any(map(is_hold, (*change.add, *change.remove, *(change.replace or ())))):
        raise Invalid(
            f"the tags '{HOLD}' and '{HOLD}-until:...' are holds", hint="'holdfast hold' sets and releases them."
        )
    if not named and wanted == SnapshotFilter():
        raise Invalid("no snapshot was named", hint="Name snapshots, or choose them with --host, --tag or --path.")

    def apply(tags: Tags) -> Tags:
        return (*change.apply(without_hold(tags)), *(tag for tag in tags if is_hold(tag)))

    return _rewrite(context, named, wanted, apply, dry_run=dry_run)


@recording("hold", of_tags)
def hold(
    context: Context,
    named: Sequence[str],
    wanted: SnapshotFilter,
    *,
    until: str | None = None,
    release: bool = False,
    dry_run: bool = False,
) -> list[Retagged]:
    """Hold snapshots until they are released, or through the day ``until`` (an ISO date); or ``release`` them."""
    if until is not None and until < today(context.clock.now_ns(), context.clock.utc_offset):
        raise Invalid(f"{until} is over", hint="Give a day to come, or none to hold until --release.")
    if not named and wanted == SnapshotFilter():
        raise Invalid("no snapshot was named", hint="Name snapshots, or choose them with --host, --tag or --path.")
    change: Callable[[Tags], Tags] = without_hold if release else lambda tags: with_hold(tags, until)
    return _rewrite(context, named, wanted, change, dry_run=dry_run)


def list_holds(context: Context, wanted: SnapshotFilter) -> list[Held]:
    """Every snapshot with a hold, oldest first; those whose hold has ended as well."""
    now, offset = context.clock.now_ns(), context.clock.utc_offset
    with context.opened() as vault:
        found = [s for s in vault.snapshots(context.emit) if wanted.matches(s) and any(map(is_hold, s.tags))]
    return [Held(snapshot, held_until(snapshot, now, offset)) for snapshot in found]


def _rewrite(
    context: Context, named: Sequence[str], wanted: SnapshotFilter, change: Callable[[Tags], Tags], *, dry_run: bool
) -> list[Retagged]:
    with context.opened() as vault, contextlib.ExitStack() as stack:
        lock = None
        if not dry_run:
            refuse_append_only(vault.repository.storage)
            lock = stack.enter_context(vault.repository.locks.hold(exclusive=True))
        snapshots = readable_snapshots(vault, context.emit)
        chosen = [find_snapshot(snapshots, text, wanted) for text in named]
        if not named:
            chosen = [snapshot for snapshot in snapshots if wanted.matches(snapshot)]
        rewrites = plan_rewrites(snapshots, chosen, change)
        if lock is None:
            return [_told(rewrite, rewrite.base.id) for rewrite in rewrites]
        from holdfast.vaults.archive.tag import retag

        done = retag(vault.repository, rewrites, lock, emit=context.emit, cancel=context.cancel)
    return [_told(rewrite, new) for rewrite, (_, new) in zip(rewrites, done, strict=True)]


def _told(rewrite: Rewrite, now: bytes) -> Retagged:
    return Retagged(rewrite.base, rewrite.base.tags if rewrite.tags is None else rewrite.tags, now)
