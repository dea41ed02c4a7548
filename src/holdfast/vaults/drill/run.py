"""A drill of the files: list, look for room, restore while every file is read back and compared, and count."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, suppress

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, HoldfastError, NoSpace, NotFound
from holdfast.kernel.events import Emit, Event, Fact, Tick
from holdfast.vaults.base import Damage, RestoreOptions, RestoreSummary, SnapshotInfo, Vault
from holdfast.vaults.drill.listing import Listing, list_snapshot, proving
from holdfast.vaults.drill.metadata import compare_metadata
from holdfast.vaults.drill.model import SHOWN_FILES, DrillOptions, Proof
from holdfast.vaults.items import Browsable, OnDamage

Looking = Callable[[OnDamage], AbstractContextManager[Browsable]]
"""Opens the vault for looking into snapshots; damage goes to the listener."""

SPARE = 64 << 20
"""Bytes that stay free in the scratch place, for what folders and names take."""

_MESSAGES = {
    "restore.damaged": "could not be brought back whole: the vault is damaged",
    "listing.damaged": "cannot be looked into: the vault is damaged",
    "file.differs": "not as it should be after the restore",
    "original.differs": "not what is on the disk now",
}


def drill(
    vault: Vault,
    looking: Looking,
    snapshot: SnapshotInfo,
    options: DrillOptions,
    *,
    needs: Callable[[Listing], int],
    emit: Emit,
    cancel: Cancel,
) -> Proof:
    """Restore (a sample of) ``snapshot`` into ``options.root`` and compare what is there then.

    ``needs(listing)`` are bytes that the caller will want there beside. What comes from the vault is compared with its
    hash, written, read back and compared with that; files whose originals still have the size and time of the snapshot
    are compared with those as well, byte by byte (:mod:`holdfast.vaults.witness`). Of a snapshot that was restored
    whole, permissions, owners and times are compared with what it says (:mod:`holdfast.vaults.drill.metadata`).

    Damage is in the proof and a fact ``damage.found`` of each kind, not an exception. Raises ``NoSpace`` before
    anything is written, ``NotFound`` for a snapshot that goes away meanwhile, ``Cancelled``, and the storage's errors.
    """
    damaged: list[tuple[bytes, str]] = []
    with looking(lambda path, error: damaged.append((path, error.message))) as browser:
        listing = list_snapshot(browser, snapshot, options, cancel)
    _look_for_room(options.root, listing, needs(listing))
    restored, blamed = _restore(vault, snapshot, listing, options, emit, cancel)
    proof = Proof(
        restored=restored,
        files_total=listing.files_total,
        size_total=listing.size_total,
        passed_over=listing.passed_over,
        dumps=tuple(listing.dumps),
    )
    restored.proven.sqlite.sort()
    _judge(proof, dict(damaged), blamed, snapshot)
    if not _tells_names_apart(options.root):
        _count(proof, options.root)
    if options.sample is None:
        _compare_metadata(proof, looking, snapshot, {*dict(damaged), *blamed}, options, cancel)
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


def _compare_metadata(
    proof: Proof, looking: Looking, snapshot: SnapshotInfo, wrong: set[bytes], options: DrillOptions, cancel: Cancel
) -> None:
    """What cannot be read is no damage here: the restore has just read it, so somebody forgot and pruned it since."""
    told = (wrong | {path for path, _ in proof.unproven}) - {b""}
    unread: list[bytes] = []
    with suppress(NotFound, Corrupt), looking(lambda path, _error: unread.append(path)) as browser:
        found = compare_metadata(
            browser, snapshot, options.root, told=lambda path: _is_in(path, told), seed=options.seed, cancel=cancel
        )
        found.all = found.all and not unread
        proof.metadata = found if found.items else None
        proof.unproven += found.differing


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

    how = RestoreOptions(
        target=options.root,
        include=listing.chosen,
        workers=options.workers,
        proving=proving(snapshot, options.hosts),
        transient=True,
    )
    try:
        return vault.restore(snapshot, how, emit=sort_out, cancel=cancel), blamed
    except HoldfastError as error:
        if isinstance(error, NoSpace) or snapshot.id in {known.id for known in vault.snapshots()}:
            raise
        raise NotFound("the snapshot was forgotten while the drill restored it", hint="Run the drill again.") from error


def _tells_names_apart(root: bytes) -> bool:
    """Whether the file system has ``a`` and ``A`` as two names, as most but macOS' and Windows' do."""
    probe = os.path.join(os.path.dirname(root), b"holdfast-probe")
    with open(probe, "wb"):
        found = os.path.lexists(os.path.join(os.path.dirname(root), b"HOLDFAST-probe"))
    os.unlink(probe)
    return not found


def _count(proof: Proof, root: bytes) -> None:
    """See whether as many things are in the tree as the restore says: names that the file system took for one another
    (``A`` and ``a``) left only one behind."""
    restored, found, pending = proof.restored, 0, [root]
    try:
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        found += 1
    except OSError:
        return  # a folder that forbids it to us, or is too deep
    missing = restored.files_restored + restored.links + restored.others - found
    if missing > 0:
        proof.unproven.append((b"", f"{missing:,} of the restored items are not in the scratch folder afterwards"))


def _judge(proof: Proof, unlisted: dict[bytes, str], blamed: dict[bytes, str], snapshot: SnapshotInfo) -> None:
    """Sort what went wrong into damage, and what could merely not be restored here."""
    failed = {problem.path: problem.message for problem in proof.restored.problems if problem.path not in blamed}
    proof.unproven += failed.items()
    told = failed.keys() | blamed.keys()
    found: dict[str, list[tuple[bytes, str]]] = {"restore.damaged": list(blamed.items())}
    found["listing.damaged"] = [(path, why) for path, why in unlisted.items() if not _is_in(path, told)]
    for kind, path, why in sorted(set(proof.restored.proven.findings)):
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
