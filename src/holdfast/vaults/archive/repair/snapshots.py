"""Make snapshots whole again by leaving out what is lost: folders and contents of files that nobody has any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

from holdfast.format.snapshot import Snapshot
from holdfast.format.tree import encode_tree
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, HoldfastError, NotFound, Unsupported
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.ids import BlobId, PackId, SnapshotId, short
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository, layout
from holdfast.repository.locks import Lock
from holdfast.vaults.archive.mending import NewBlobs, locked
from holdfast.vaults.archive.repair import survey
from holdfast.vaults.archive.repair.aside import Aside
from holdfast.vaults.archive.repair.index import steps
from holdfast.vaults.archive.repair.salvage import read_intact
from holdfast.vaults.archive.rewrite.replace import Replacement, TreeStore, commit, successor
from holdfast.vaults.archive.rewrite.trees import RawNode, Rewriter, nodes_of
from holdfast.vaults.base import Outcome

TAG = "repaired"
_TYPES = frozenset(("file", "dir", "symlink", "socket", "chardev", "dev", "fifo"))
_EMPTY = encode_tree([])


@dataclass(frozen=True, slots=True)
class SnapshotsOptions:
    """``only`` names the snapshots that are looked at (None: all). ``forget`` deletes the damaged ones, repaired or
    beyond repair."""

    only: frozenset[bytes] | None = None
    forget: bool = False
    dry_run: bool = False


@dataclass(slots=True)
class SnapshotsRepair:
    """What a repair of snapshots did, or would do.

    ``replaced`` has what came of each damaged snapshot; ``changes`` names what was taken out, as (snapshot, path, in
    words), each folder with the first snapshot that holds it. ``hopeless`` are snapshots (id, why) of which nothing can
    be repaired. Outcome is ``failed`` where damaged snapshots stay in the vault.
    """

    outcome: Outcome = Outcome.OK
    dry_run: bool = False
    snapshots: int = 0
    folders: int = 0
    replaced: list[Replacement] = field(default_factory=list)
    hopeless: list[tuple[SnapshotId, str]] = field(default_factory=list)
    changes: list[tuple[SnapshotId, bytes, str]] = field(default_factory=list)
    forgotten: int = 0
    kept: int = 0
    aside: str = ""
    seconds: float = 0.0


def repair_snapshots(
    repository: Repository,
    options: SnapshotsOptions,
    *,
    aside: Aside,
    protected: Callable[[Snapshot], bool],
    emit: Emit,
    cancel: Cancel,
) -> SnapshotsRepair:
    """Rewrite the folders of damaged snapshots without what is missing, as new snapshots with the tag ``repaired``.

    A file loses the blobs that no index knows, a folder that cannot be read becomes empty, entries that no file system
    could hold go. Folders without damage keep their ids, sound snapshots stay as they are. The old snapshots stay, too,
    unless ``options.forget`` is set and ``protected`` does not say that one must stay. A snapshot whose file or root
    folder cannot be read is not repaired: with ``forget`` it is copied ``aside`` and deleted.

    After a crash at any moment each old snapshot is there, or its successor. Takes an exclusive lock, none for a dry
    run. Facts: ``repair.snapshot``. Raises ``Corrupt``, having changed nothing, where the index must be repaired first
    (it is damaged, names packs that are gone, or lacks some), or a pack must; ``Locked``, ``Cancelled``, ``Denied``,
    ``NoSpace``, ``Unavailable``.
    """
    began = repository.clock.monotonic()
    work = _Work(repository, options, aside, protected, emit, cancel)
    with locked(repository, dry_run=options.dry_run) as lock:
        if lock is not None:
            lock.start_renewing()
        try:
            work.run(lock)
        finally:
            work.new.discard()
    work.done.seconds = repository.clock.monotonic() - began
    return work.done


class _Work:
    """One repair of snapshots."""

    def __init__(
        self,
        repository: Repository,
        options: SnapshotsOptions,
        aside: Aside,
        protected: Callable[[Snapshot], bool],
        emit: Emit,
        cancel: Cancel,
    ) -> None:
        self._repository = repository
        self._options = options
        self._aside = aside
        self._protected = protected
        self._emit = emit
        self._cancel = cancel
        self.done = SnapshotsRepair(dry_run=options.dry_run)
        self.new = NewBlobs(repository, dry_run=options.dry_run)
        self._unlisted: dict[PackId, int] = {}

    def run(self, lock: Lock | None) -> None:
        done = self.done
        listed = self._snapshots()
        wanted = [pair for pair in listed if self._is_wanted(pair[0])]
        self._load_index()
        mend = Mend(self._repository, TreeStore(self._repository, self.new).put)
        rewriter = Rewriter(mend, mend.put, self._cancel)
        successors: list[tuple[SnapshotId, Snapshot]] = []
        for number, (identifier, snapshot) in enumerate(wanted):
            self._emit(Tick("snapshots", number, items_total=len(wanted), errors=len(done.changes)))
            try:
                rewritten = rewriter.rewrite(snapshot.tree, None)
            except DamagedPack:
                raise
            except Corrupt as error:
                self._give_up(identifier, error.message)
                continue
            done.changes += [(identifier, path, what) for path, what in mend.take()]
            if rewritten.tree != snapshot.tree:
                successors.append((identifier, successor(identifier, snapshot, rewritten, TAG)))
        done.snapshots, done.folders = len(wanted), rewriter.folders
        self._refuse_unlisted(mend.missing)
        going = self._going(listed)
        if lock is None:
            done.replaced = [Replacement(old, snapshot.tree) for old, snapshot in successors]
        else:
            done.replaced = commit(self._repository, lock, self.new, successors, listed, forget=going.__contains__)
            going -= self._drop(going, lock)
        self._judge({*(old for old, _ in successors), *(old for old, _ in done.hopeless)}, going)

    def _going(self, listed: Sequence[tuple[SnapshotId, Snapshot]]) -> set[SnapshotId]:
        """The snapshots that may be deleted."""
        if not self._options.forget:
            return set()
        held = {identifier for identifier, snapshot in listed if self._protected(snapshot)}
        return {*(old for old, _ in listed), *(old for old, _ in self.done.hopeless)} - held

    def _drop(self, going: set[SnapshotId], lock: Lock) -> set[SnapshotId]:
        """Delete what cannot be repaired, once a whole copy of it is set aside; those of which there is none stay."""
        stay = set()
        for identifier, _ in self.done.hopeless:
            if identifier not in going:
                continue
            if self._aside.keep(self._repository, layout.name_of(layout.SNAPSHOTS, identifier)):
                lock.confirm()
                self._repository.delete_unpacked(layout.SNAPSHOTS, identifier)
            else:
                stay.add(identifier)
        self.done.aside = str(self._aside.folder) if self._aside.kept else ""
        return stay

    def _judge(self, bad: set[SnapshotId], going: set[SnapshotId]) -> None:
        done = self.done
        done.forgotten = len(bad & going)
        done.kept = len(bad - going)
        if done.kept or (bad and done.dry_run):
            done.outcome = Outcome.FAILED

    def _is_wanted(self, identifier: bytes) -> bool:
        return self._options.only is None or identifier in self._options.only

    def _snapshots(self) -> list[tuple[SnapshotId, Snapshot]]:
        def damaged(identifier: bytes, error: HoldfastError) -> None:
            if isinstance(error, Unsupported):
                self._tell(f"Snapshot {short(identifier)} is passed over: {error.message}")
            elif self._is_wanted(identifier):
                self._give_up(SnapshotId(identifier), error.message)

        return self._repository.snapshots(damaged)

    def _give_up(self, identifier: SnapshotId, why: str) -> None:
        self.done.hopeless.append((identifier, why))
        self._tell(f"Nothing of snapshot {short(identifier)} can be repaired: {why}")

    def _tell(self, message: str) -> None:
        self._emit(Fact("repair.snapshot", message, "warning"))

    def _load_index(self) -> None:
        files = survey.sound_index(self._repository, steps(self._emit, self._cancel))
        stored = survey.stored_packs(self._repository)
        for pack in files.packs:
            if pack not in stored and survey.is_gone(self._repository, pack):
                raise Corrupt(
                    f"The index names pack {short(pack)}, which is gone.",
                    hint="If another vault has its data: 'holdfast repair packs --from VAULT'. Else 'holdfast repair "
                    "index' comes first, so that only what is truly lost is taken out of snapshots.",
                    pack=pack.hex(),
                )
        self._unlisted = {pack: size for pack, size in stored.items() if pack not in files.packs}
        survey.loaded(self._repository, files.packs.items())

    def _refuse_unlisted(self, missing: set[bytes]) -> None:
        """What is missing must not lie in a pack that just no index names."""
        headers = survey.read_headers(self._repository, self._unlisted if missing else {}, self._cancel, workers=0)
        for pack, entries, _ in headers:
            ids = b"" if entries is None else entries.ids
            if any(ids[at : at + 32] in missing for at in range(0, len(ids), 32)):
                raise Corrupt(
                    f"Pack {short(pack)} is in no index, but has what snapshots miss.",
                    hint="Run 'holdfast repair index' first.",
                    pack=pack.hex(),
                )


class DamagedPack(Corrupt):
    """A folder is in a pack that must be repaired before anybody can tell that the folder is lost."""


class Mend:
    """The edit that takes out what is missing. Folders with equal trees come out equal, wherever they are.

    ``missing`` collects the ids of all blobs that no index knows.
    """

    def __init__(self, repository: Repository, put: Callable[[bytes], BlobId]) -> None:
        self._repository = repository
        self.put = put
        self._told: list[tuple[bytes, str]] = []
        self.missing: set[bytes] = set()
        self._empty: BlobId | None = None  # the empty folder's tree, once it was put

    def take(self) -> list[tuple[bytes, str]]:
        """What was taken out since the last call: (path, in words)."""
        told, self._told = self._told, []
        return told

    def key(self, tree: BlobId, path: bytes, state: None) -> object:
        return tree

    def enter(self, node: RawNode, path: bytes, state: None) -> None:
        return None

    def read(self, tree: BlobId, path: bytes) -> list[RawNode] | None:
        if tree == self._empty:
            return []
        data = read_intact(self._repository, tree)
        place = self._repository.index.place(tree)
        if data is None and place is not None:
            raise DamagedPack(
                f"Pack {short(place.pack)} is damaged.",
                hint=f"Run 'holdfast repair packs {short(place.pack)}' first: it may have more to save.",
                pack=place.pack.hex(),
            )
        try:
            if data is None:
                self.missing.add(tree)
                raise NotFound("it is in no index")
            return nodes_of(data)
        except (Corrupt, NotFound) as error:
            if not path:
                raise Corrupt(f"its root folder cannot be read: {error.message}.") from error
            self._told.append((path, f"this folder cannot be read and is empty now: {error.message}"))
            return None

    def nodes(self, nodes: list[RawNode], path: bytes, state: None) -> list[RawNode]:
        kept: dict[bytes, RawNode] = {}
        for node in nodes:
            at = path + b"/" + node.name
            if node.name in (b"", b".", b"..") or b"/" in node.name or b"\0" in node.name:
                self._told.append((at, "no file can have this name; it is left out"))
            elif node.type not in _TYPES:
                self._told.append((at, "this is of an unknown kind; it is left out"))
            elif node.name in kept:
                self._told.append((at, "this name is twice in its folder; only the first is kept"))
            elif node.type == "file":
                kept[node.name] = self._file(node, at)
            elif node.type == "dir" and node.subtree is None:
                self._told.append((at, "this folder has no content in the vault and is empty now"))
                self._empty = self.put(_EMPTY)
                kept[node.name] = node.with_subtree(self._empty)
            else:
                kept[node.name] = node
        # Only where names are out of order does this make another list; restic refuses such a folder.
        return [kept[name] for name in sorted(kept)]

    def _file(self, node: RawNode, path: bytes) -> RawNode:
        index = self._repository.index
        listed = node.fields.get("content")
        content = [text for text in listed if isinstance(text, str)] if isinstance(listed, list) else []
        kept, size = [], 0
        for text in content:
            number = index.find(_identifier(text), tree=False)
            if number >= 0:
                _, _, length, raw = index.entry(number)
                size += raw or length - 32
                kept.append(text)
            else:
                self.missing.add(_identifier(text))
        if kept == listed and size == node.size:
            return node
        lost = node.size - size
        if not isinstance(listed, list):
            self._told.append((path, "it has no content in the vault and is empty now"))
        elif kept == listed:
            self._told.append((path, f"its size was wrong: it has {size:,} bytes, not {node.size:,}"))
        else:
            self._told.append((path, f"{lost:,} of its {node.size:,} bytes are lost; the rest is kept"))
        return node.with_content(kept, size)


def _identifier(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
