"""A drill of the files: list, look for room, restore, read back and compare."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import HoldfastError, NoSpace, NotFound
from holdfast.kernel.events import Emit, Event, Fact, Tick
from holdfast.kernel.pool import Pool, default_size
from holdfast.vaults.base import Damage, RestoreOptions, RestoreSummary, SnapshotInfo, Vault
from holdfast.vaults.drill.compare import Comparer
from holdfast.vaults.drill.listing import Listing, list_snapshot
from holdfast.vaults.drill.model import SHOWN_FILES, Compared, DrillOptions, Proof
from holdfast.vaults.items import Browsable, OnDamage

Looking = Callable[[OnDamage], AbstractContextManager[Browsable]]
"""Opens the vault for looking into snapshots; damage goes to the listener."""

SPARE = 64 << 20
"""Bytes that stay free in the scratch place, for what folders and names take."""

_MESSAGES = {
    "restore.damaged": "could not be brought back whole: the vault is damaged",
    "listing.damaged": "cannot be looked into: the vault is damaged",
    "file.missing": "not there after the restore",
    "file.size": "not as long after the restore as the vault says",
    "file.differs": "other bytes after the restore than the vault holds",
    "file.unreadable": "cannot be read back after the restore",
    "folder.missing": "no folder after the restore",
    "link.differs": "a link that leads elsewhere after the restore",
    "original.differs": "not what is on the disk, though size and times of the original are unchanged",
}


def drill(
    vault: Vault,
    looking: Looking,
    snapshot: SnapshotInfo,
    options: DrillOptions,
    *,
    needs: Callable[[Listing], int],
    clock: Clock,
    emit: Emit,
    cancel: Cancel,
) -> Proof:
    """Restore (a sample of) ``snapshot`` into ``options.root`` and compare what is there then.

    ``needs(listing)`` are bytes that the caller will want there beside. Every blob was compared with its hash before it
    was written; after it every file is read back, its hashes are compared with the vault's, and files whose originals
    have still the size and time of the snapshot are compared with those byte by byte.

    Damage is in the proof and a fact ``damage.found`` of each kind, not an exception. Raises ``NoSpace`` before
    anything is written, ``NotFound`` for a snapshot that goes away meanwhile, ``Cancelled``, and the storage's errors.
    """
    damaged: list[tuple[bytes, str]] = []
    with looking(lambda path, error: damaged.append((path, error.message))) as browser:
        listing = list_snapshot(browser, snapshot, options, cancel)
    _look_for_room(options.root, listing, needs(listing))
    restored, blamed = _restore(vault, snapshot, listing, options, emit, cancel)
    began = clock.monotonic()
    compared = _compare(listing, snapshot, options, emit, cancel)
    proof = Proof(
        restored=restored,
        compared=compared,
        files_total=listing.files_total,
        size_total=listing.size_total,
        files=listing.files,
        size=listing.size,
        passed_over=listing.passed_over,
        compare_seconds=clock.monotonic() - began,
        dumps=tuple(listing.dumps),
    )
    _judge(proof, {**dict(listing.unlisted), **dict(damaged)}, blamed, snapshot)
    for damage in proof.damage:
        emit(Fact("damage.found", damage.message, "error", damage_data(damage)))
    return proof


def damage_data(damage: Damage) -> dict[str, object]:
    """What a fact tells of a damage."""
    files = [file.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for file in damage.files[:20]]
    return {
        "kind": damage.kind,
        "snapshots": list(damage.snapshots),
        "files": files,
        "files_total": damage.files_total,
    }


def free_bytes(root: bytes) -> tuple[int, int]:
    """Bytes and inodes that are free for us at ``root``; of inodes -1 where the file system does not count them."""
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else -1


def _look_for_room(root: bytes, listing: Listing, more: int) -> None:
    free, inodes = free_bytes(root)
    needed = listing.size + more + SPARE
    shown = os.fsdecode(os.path.dirname(root))
    if needed > free:
        raise NoSpace(
            f"the drill needs {needed:,} bytes at {shown}, and {free:,} are free",
            hint="Name a place with more room by --scratch (or 'scratch' of the plan's drill), or restore a --sample.",
            needed=needed,
            free=free,
        )
    if 0 <= inodes < listing.files:
        raise NoSpace(
            f"the drill makes {listing.files:,} files at {shown}, whose file system has room for {inodes:,}",
            hint="Name another place by --scratch, or restore a --sample.",
        )


def _restore(
    vault: Vault, snapshot: SnapshotInfo, listing: Listing, options: DrillOptions, emit: Emit, cancel: Cancel
) -> tuple[RestoreSummary, dict[bytes, str]]:
    """Restore. Single damages are no facts of their own here: they are returned (path -> why), and told together."""
    blamed: dict[bytes, str] = {}

    def sort_out(event: Event) -> None:
        if isinstance(event, Fact) and event.kind == "damage.found":
            path = event.data.get("path", b"")
            blamed[os.fsencode(path) if isinstance(path, (str, bytes)) else b""] = event.message
        elif isinstance(event, Tick) or event.kind != "item.failed":
            emit(event)

    how = RestoreOptions(target=options.root, include=listing.chosen, workers=options.workers)
    try:
        return vault.restore(snapshot, how, emit=sort_out, cancel=cancel), blamed
    except HoldfastError as error:
        if isinstance(error, NoSpace) or snapshot.id in {known.id for known in vault.snapshots()}:
            raise
        raise NotFound("the snapshot was forgotten while the drill restored it", hint="Run the drill again.") from error


def _compare(listing: Listing, snapshot: SnapshotInfo, options: DrillOptions, emit: Emit, cancel: Cancel) -> Compared:
    size = default_size(0) if options.workers is None else options.workers
    if listing.files <= 200 and listing.size <= 8 << 20:
        size = 0  # forking costs more
    done = Compared()
    with Pool(lambda: Comparer(options.root, snapshot.time_ns, cancel).answers, size) as pool:
        for batch in listing.batches:
            pool.submit(batch)
        for answer in pool.results():
            if answer is not None:
                done.add(answer)
            emit(Tick("compare", done.files, done.size, listing.files, listing.size, "", len(done.findings)))
            if cancel.requested:
                pool.forget_waiting()
    cancel.check()
    done.sqlite.sort()
    return done


def _judge(proof: Proof, unlisted: dict[bytes, str], blamed: dict[bytes, str], snapshot: SnapshotInfo) -> None:
    """Sort what went wrong into damage, and what could merely not be restored here."""
    failed = {problem.path: problem.message for problem in proof.restored.problems if problem.path not in blamed}
    proof.unproven += failed.items()
    told = failed.keys() | blamed.keys()
    found: dict[str, list[tuple[bytes, str]]] = {"restore.damaged": list(blamed.items())}
    found["listing.damaged"] = [(path, why) for path, why in unlisted.items() if not _is_in(path, told)]
    for kind, path, why in sorted(set(proof.compared.findings)):
        if not _is_in(path, told):
            found.setdefault(kind, []).append((path, why))
    short = snapshot.id.hex()[:8]
    for kind, items in found.items():
        if items:
            proof.damage.append(_damage(kind, items, short))


def _is_in(path: bytes, told: Collection[bytes]) -> bool:
    """Whether ``path`` or a folder around it is among those that were told already."""
    while path not in told:
        if not path:
            return False
        path = path.rpartition(b"/")[0]
    return True


def _damage(kind: str, items: list[tuple[bytes, str]], snapshot: str) -> Damage:
    count, (first, why) = len(items), items[0]
    which = os.fsdecode(first) or "the snapshot"
    if count > 1:
        which = f"{count:,} items, such as {which}"
    return Damage(
        kind=f"drill.{kind}",
        message=f"{which}: {_MESSAGES[kind]} ({why})",
        snapshots=(snapshot,),
        files=tuple(f"{snapshot}:{os.fsdecode(path)}" for path, _ in items[:SHOWN_FILES]),
        files_total=count,
    )
