"""Find folders that no snapshot leads to any more, and make one snapshot of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import field
from hashlib import sha256

from holdfast.format.filemode import go_mode
from holdfast.format.node import Node, NodeWriter
from holdfast.format.pack import BlobType
from holdfast.format.snapshot import Snapshot
from holdfast.format.time import format_time
from holdfast.format.tree import decode_tree, encode_tree
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, HoldfastError, NotFound
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.ids import BlobId, SnapshotId, short
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository, Writer
from holdfast.repository.locks import Lock
from holdfast.vaults.archive.mending import NewBlobs, locked
from holdfast.vaults.archive.reach import reach
from holdfast.vaults.base import Outcome

TAG = "recovered"
PATH = "/recover"  # what restic records as the path of such a snapshot


@dataclass(frozen=True, slots=True)
class RecoverOptions:
    """Who recovers, as recorded in the snapshot."""

    hostname: str = ""
    username: str = ""
    program: str = "holdfast"
    dry_run: bool = False
    workers: int | None = None


@dataclass(slots=True)
class RecoverSummary:
    """What was found. ``roots`` are the trees that are in the new ``snapshot`` (None in a dry run, or where there are
    none); ``trees`` counts all that no snapshot led to, ``unreadable`` those of them that are damaged. Outcome is
    ``failed`` where damage was met."""

    outcome: Outcome = Outcome.OK
    dry_run: bool = False
    snapshot: SnapshotId | None = None
    roots: list[BlobId] = field(default_factory=list)
    trees: int = 0
    unreadable: int = 0
    seconds: float = 0.0


def recover(repository: Repository, options: RecoverOptions, *, emit: Emit, cancel: Cancel) -> RecoverSummary:
    """Make a snapshot of every folder that neither a snapshot nor another folder refers to, each under its id.

    Such folders are left by forgotten snapshots until a prune, by snapshots whose file or upper folders are damaged,
    and by interrupted backups. Nothing is deleted. Takes an exclusive lock (a backup that is under way has folders that
    no snapshot names yet), none for a dry run. Facts: ``damage.found``. Raises ``Corrupt`` where the index is damaged,
    ``Locked``, ``Cancelled``, ``Denied``, ``NoSpace``, ``Unavailable``.
    """
    began = repository.clock.monotonic()
    done = RecoverSummary(dry_run=options.dry_run)
    new = NewBlobs(repository, dry_run=options.dry_run)
    with locked(repository, dry_run=options.dry_run) as lock:
        lost = _lost_trees(repository, options, done, lock, emit, cancel)
        done.trees = len(lost)
        done.roots = sorted(_roots(repository, lost, done, emit, cancel))
        if done.roots and lock is not None:
            try:
                done.snapshot = _save(repository, options, done.roots, new, lock)
            finally:
                new.discard()
    done.seconds = repository.clock.monotonic() - began
    return done


def _lost_trees(
    repository: Repository, options: RecoverOptions, done: RecoverSummary, lock: Lock | None, emit: Emit, cancel: Cancel
) -> dict[BlobId, None]:
    """Every tree that the snapshots do not lead to, in the order of packs."""

    def tell(identifier: bytes, error: HoldfastError) -> None:
        done.outcome = Outcome.FAILED
        emit(Fact("damage.found", error.message, "warning", {"id": identifier.hex()}))

    snapshots = repository.snapshots(tell)
    repository.load_index()
    index = repository.index
    roots = [snapshot.tree for _, snapshot in snapshots]
    renew = lock.start_renewing if lock is not None else None
    reached = reach(repository, roots, emit=emit, cancel=cancel, workers=options.workers, forked=renew, on_damage=tell)
    used: set[BlobId] = set()
    lost: dict[BlobId, None] = {}
    for number, tree in enumerate(index.tree_flags()):
        if tree:
            if reached.marks[number]:
                used.add(index.id_of(number))
            else:
                lost[index.id_of(number)] = None
    return {identifier: None for identifier in lost if identifier not in used}


def _roots(
    repository: Repository, lost: dict[BlobId, None], done: RecoverSummary, emit: Emit, cancel: Cancel
) -> set[BlobId]:
    """Those of the lost trees that no other one refers to and that can be read."""
    roots = set(lost)
    for number, identifier in enumerate(lost):
        cancel.check()
        emit(Tick("trees", number, items_total=len(lost), errors=done.unreadable))
        try:
            roots.difference_update(_subtrees(repository, identifier))
        except (Corrupt, NotFound) as error:
            roots.discard(identifier)
            done.unreadable += 1
            done.outcome = Outcome.FAILED
            emit(Fact("damage.found", f"Folder {short(identifier)} cannot be read: {error.message}", "warning"))
    return roots


def _subtrees(repository: Repository, tree: BlobId) -> Iterator[BlobId]:
    for node in decode_tree(repository.read_blob(tree)):
        if node.type == "dir" and node.subtree is not None:
            yield node.subtree


def _save(
    repository: Repository, options: RecoverOptions, roots: Iterable[BlobId], new: NewBlobs, lock: Lock
) -> SnapshotId:
    now = repository.clock.now_ns()
    writer = NodeWriter(lambda seconds: repository.clock.utc_offset(seconds * 1_000_000_000))
    nodes = {
        name: Node(
            name,
            "dir",
            mode=go_mode(stat.S_IFDIR | 0o755),
            mtime=now,
            atime=now,
            ctime=now,
            uid=os.getuid(),
            gid=os.getgid(),
            subtree=root,
        )
        for root, name in _named(roots)
    }
    data = encode_tree([writer.node(nodes[name]) for name in sorted(nodes)])
    tree = BlobId(sha256(data).digest())
    new.add(BlobType.TREE, tree, data)
    commits = Writer(repository, lock)
    for pack in new.finish():
        commits.record(pack)
    return commits.commit(
        Snapshot(
            time=format_time(now, repository.clock.utc_offset(now)),
            tree=tree,
            paths=(PATH,),
            hostname=options.hostname,
            username=options.username,
            uid=os.getuid(),
            gid=os.getgid(),
            tags=(TAG,),
            program_version=options.program,
        )
    )


def _named(roots: Iterable[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
    """A folder name for each: its short id, or the whole one where two would be alike."""
    taken: set[str] = set()
    for root in roots:
        name = short(root) if short(root) not in taken else root.hex()
        taken.add(name)
        yield root, name.encode("ascii")
