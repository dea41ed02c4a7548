"""Take files out of existing snapshots by gitignore rules, for example one that should never have been saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import field, replace

from holdfast.files.rules import Rules, Scope
from holdfast.format.snapshot import Snapshot
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, NotFound
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.ids import BlobId, SnapshotId, short
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository
from holdfast.repository.locks import Lock
from holdfast.vaults.archive.mending import NewBlobs, locked
from holdfast.vaults.archive.rewrite.replace import Replacement, TreeStore, commit, successor
from holdfast.vaults.archive.rewrite.trees import RawNode, Rewriter, nodes_of
from holdfast.vaults.base import Outcome

TAG = "rewrite"


@dataclass(frozen=True, slots=True)
class RewriteOptions:
    """``rules`` say what goes; ``only`` names the snapshots that are looked at (None: all). ``forget`` deletes the old
    ones."""

    rules: Rules
    only: frozenset[bytes] | None = None
    forget: bool = False
    dry_run: bool = False


@dataclass(slots=True)
class RewriteSummary:
    """What a rewrite did, or would do. ``removed`` names (snapshot, path) of all that went, each folder that several
    snapshots share with the first of them. ``damaged`` are snapshots (id, why) that could not be rewritten; where there
    are any, the outcome is ``failed``."""

    outcome: Outcome = Outcome.OK
    dry_run: bool = False
    snapshots: int = 0
    folders: int = 0
    replaced: list[Replacement] = field(default_factory=list)
    removed: list[tuple[SnapshotId, bytes]] = field(default_factory=list)
    damaged: list[tuple[SnapshotId, str]] = field(default_factory=list)
    forgotten: int = 0
    seconds: float = 0.0


def rewrite(
    repository: Repository,
    options: RewriteOptions,
    *,
    protected: Callable[[Snapshot], bool],
    emit: Emit,
    cancel: Cancel,
) -> RewriteSummary:
    """Make every wanted snapshot that holds something excluded anew without it, tagged ``rewrite`` unless the old one
    is forgotten. Folders in which nothing changes keep their ids; snapshots without any such file stay as they are.

    Rules mean what they mean in a backup of the same paths; an absolute path means just that. What was saved itself can
    be excluded, too. The data is gone only after ``forget`` of the old snapshots and ``prune``.

    After a crash at any moment each old snapshot is there, or its successor. Takes a shared lock, an exclusive one with
    ``forget``, none for a dry run. Raises ``Denied``, before anything is done, where a snapshot to be forgotten is
    ``protected``; ``Locked``, ``Corrupt`` (index), ``Cancelled``, ``NoSpace``, ``Unavailable``.
    """
    began = repository.clock.monotonic()
    new = NewBlobs(repository, dry_run=options.dry_run)
    with locked(repository, exclusive=options.forget, dry_run=options.dry_run) as lock:
        if lock is not None:
            lock.start_renewing()
        try:
            done = _run(repository, options, new, protected, emit, cancel, lock)
        finally:
            new.discard()
    done.seconds = repository.clock.monotonic() - began
    return done


def _run(
    repository: Repository,
    options: RewriteOptions,
    new: NewBlobs,
    protected: Callable[[Snapshot], bool],
    emit: Emit,
    cancel: Cancel,
    lock: Lock | None,
) -> RewriteSummary:
    done = RewriteSummary(dry_run=options.dry_run)

    def damaged(identifier: SnapshotId, why: str) -> None:
        done.damaged.append((identifier, why))
        message = f"Snapshot {short(identifier)} cannot be rewritten: {why}"
        emit(Fact("damage.found", message, "error", {"snapshot": identifier.hex()}))

    def unreadable(identifier: bytes, error: HoldfastError) -> None:
        if options.only is None or identifier in options.only:
            damaged(SnapshotId(identifier), error.message)

    listed = repository.snapshots(unreadable)
    wanted = [pair for pair in listed if options.only is None or pair[0] in options.only]
    repository.load_index()
    edit = Exclude(repository, options.rules)
    rewriter = Rewriter(edit, TreeStore(repository, new).put, cancel)
    successors: list[tuple[SnapshotId, Snapshot]] = []
    for number, (identifier, snapshot) in enumerate(wanted):
        emit(Tick("snapshots", number, items_total=len(wanted), errors=len(done.damaged)))
        try:
            rewritten = rewriter.rewrite(snapshot.tree, edit.start(snapshot))
        except Corrupt as error:
            damaged(identifier, error.message)
            continue
        done.removed += [(identifier, path) for path in edit.take()]
        if rewritten.tree != snapshot.tree:
            if options.forget and protected(snapshot):
                raise _held(identifier)
            successors.append((identifier, successor(identifier, snapshot, rewritten, "" if options.forget else TAG)))
    done.snapshots, done.folders = len(wanted), rewriter.folders
    if lock is None:
        done.replaced = [Replacement(old, snapshot.tree) for old, snapshot in successors]
    elif successors:
        done.replaced = commit(repository, lock, new, successors, listed, forget=lambda _: options.forget)
    done.forgotten = len(successors) if options.forget else 0
    if done.damaged:
        done.outcome = Outcome.FAILED
    return done


def _held(identifier: SnapshotId) -> Denied:
    return Denied(
        f"Snapshot {short(identifier)} is held, so it cannot be forgotten.",
        hint=f"Release it first ('holdfast hold --release {short(identifier)}'), or rewrite without --forget.",
        snapshot=identifier.hex(),
    )


class Place:
    """Where a folder stands: in a saved path (``scope``), or above saved paths (``below``: what is saved in it).

    ``origin`` tells scopes apart that began elsewhere.
    """

    __slots__ = ("below", "origin", "scope")

    def __init__(
        self, scope: Scope | None, origin: bytes = b"", below: tuple[tuple[tuple[bytes, ...], bytes], ...] = ()
    ) -> None:
        self.scope = scope
        self.origin = origin
        self.below = below


class Exclude:
    """The edit that takes out what the rules exclude."""

    def __init__(self, repository: Repository, rules: Rules) -> None:
        self._repository = repository
        self._rules = replace(rules, ignore_file=b"")
        absolute = tuple(line for line in rules.lines if line.removeprefix(b"!").startswith(b"/"))
        self._everywhere = self._rules.root(b"/")
        self._absolute = replace(self._rules, lines=absolute).root(b"/")
        self._removed: list[bytes] = []

    def take(self) -> list[bytes]:
        """The paths that were removed since the last call."""
        removed, self._removed = self._removed, []
        return removed

    def start(self, snapshot: Snapshot) -> Place:
        """The state of a snapshot's root: which rules hold where, by the paths that were saved.

        A path that was saved relative to a folder stands in the tree with its end only: with the longest one that is
        there, as a restore finds it.
        """
        below = []
        paths = [os.fsencode(text) for text in snapshot.paths]
        for path in paths:
            parts = tuple(part for part in path.split(b"/") if part)
            if not parts:
                return self._inside(path)
            if end := self._longest_end(snapshot.tree, parts):
                below.append((end, path))
        if below:
            return Place(None, below=tuple(below))
        return self._inside(paths[0] if len(paths) == 1 else b"/")  # the content of the folder itself was saved

    def _inside(self, saved: bytes) -> Place:
        root = saved if saved.startswith(b"/") else b"/"
        return Place(self._rules.root(root), root)

    def key(self, tree: BlobId, path: bytes, state: Place) -> object:
        return tree, path, state.origin, state.below

    def enter(self, node: RawNode, path: bytes, state: Place) -> Place:
        if state.scope is not None:
            return Place(state.scope.enter(node.name), state.origin)
        deeper = []
        for parts, saved in state.below:
            if parts[0] == node.name:
                if len(parts) == 1:
                    return self._inside(saved)
                deeper.append((parts[1:], saved))
        if not deeper:  # beside what was saved: no backup makes this
            return Place(self._everywhere, b"/")
        return Place(None, below=tuple(deeper))

    def read(self, tree: BlobId, path: bytes) -> list[RawNode] | None:
        try:
            return nodes_of(self._repository.read_blob(tree))
        except (Corrupt, NotFound) as error:
            raise Corrupt(
                f"the folder {os.fsdecode(path) or '/'} is damaged: {error.message} 'holdfast repair' comes first."
            ) from error

    def nodes(self, nodes: list[RawNode], path: bytes, state: Place) -> list[RawNode]:
        kept = []
        for node in nodes:
            if self._excludes(node, path, state):
                self._removed.append(path + b"/" + node.name)
            else:
                kept.append(node)
        return kept

    def _excludes(self, node: RawNode, path: bytes, state: Place) -> bool:
        is_dir = node.type == "dir"
        if state.scope is not None:
            return state.scope.excludes(node.name, is_dir)
        for parts, saved in state.below:
            if parts == (node.name,):
                # A folder that was named itself goes only by its absolute path: in a backup, too, "docs" does not
                # keep "backup docs" from saving it.
                scope = self._absolute if is_dir else self._everywhere
                for name in filter(None, os.path.dirname(saved).split(b"/")):
                    scope = scope.enter(name)
                return scope.excludes(node.name, is_dir)
        return False

    def _longest_end(self, root: BlobId, parts: Sequence[bytes]) -> tuple[bytes, ...]:
        for begin in range(len(parts)):
            if self._has(root, parts[begin:]):
                return tuple(parts[begin:])
        return ()

    def _has(self, root: BlobId, parts: Sequence[bytes]) -> bool:
        tree: BlobId | None = root
        for part in parts:
            if tree is None:
                return False
            found = None
            for node in self._nodes(tree):
                if node.name == part:
                    found = node
            if found is None:
                return False
            tree = found.subtree
        return True

    def _nodes(self, tree: BlobId) -> list[RawNode]:
        try:
            return nodes_of(self._repository.read_blob(tree))
        except HoldfastError:
            return []  # told when the walk comes to it
