"""Replace damaged packs by new ones that hold what is intact in them, and what a second vault still has."""

from __future__ import annotations

from dataclasses import field

from holdfast.format.index import Entries
from holdfast.format.pack import BlobType
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError, Invalid, NotFound
from holdfast.kernel.events import Emit, Tick
from holdfast.kernel.ids import BlobId, PackId, short
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository, layout
from holdfast.repository.locks import Lock
from holdfast.repository.reindex import delete_all, replace_index
from holdfast.vaults.archive.mending import NewBlobs, Teller, entries_of, locked
from holdfast.vaults.archive.reach import reach
from holdfast.vaults.archive.repair import survey
from holdfast.vaults.archive.repair.aside import Aside
from holdfast.vaults.archive.repair.damage import Damaged, find_damage
from holdfast.vaults.archive.repair.heal import Healer
from holdfast.vaults.archive.repair.index import steps
from holdfast.vaults.archive.repair.salvage import candidates, intact, read_intact
from holdfast.vaults.archive.repair.survey import IndexFiles
from holdfast.vaults.base import Outcome

_SHORTEST = 4


@dataclass(frozen=True, slots=True)
class PacksOptions:
    """``packs`` are ids or the fronts of ids, in hex; ``all_damaged`` reads every pack to find the damaged ones."""

    packs: tuple[str, ...] = ()
    all_damaged: bool = False
    dry_run: bool = False
    workers: int | None = None


@dataclass(slots=True)
class PacksRepair:
    """What a repair of packs did, or would do.

    ``damaged`` are the packs that were replaced, each with the reason (empty: it was named); ``gone`` counts those that
    were not there. ``saved`` blobs were intact in them, ``healed`` ones came from the second vault, ``fetched`` packs
    came whole from there. ``lost`` are blobs that nobody has; ``needed`` those of them that snapshots need. Outcome is
    ``failed`` where any are needed.
    """

    outcome: Outcome = Outcome.OK
    dry_run: bool = False
    damaged: list[tuple[bytes, str]] = field(default_factory=list)
    gone: int = 0
    fetched: int = 0
    saved: int = 0
    healed: int = 0
    healed_bytes: int = 0
    lost: set[bytes] = field(default_factory=set)
    needed: set[bytes] = field(default_factory=set)
    packs_written: int = 0
    packs_deleted: int = 0
    aside: str = ""
    seconds: float = 0.0

    @property
    def changes(self) -> bool:
        """Whether anything was to be done."""
        return bool(self.damaged or self.gone or self.fetched or self.healed)


def repair_packs(
    repository: Repository,
    options: PacksOptions,
    *,
    aside: Aside,
    other: Repository | None = None,
    other_lock: Lock | None = None,
    emit: Emit,
    cancel: Cancel,
) -> PacksRepair:
    """Write every blob that is intact in the chosen packs into new ones, then drop and delete the old packs.

    ``other`` is a second vault with its index loaded, ``other_lock`` the lock that is held there: packs that are gone
    and that it has byte for byte come back whole; other lost blobs, and whatever snapshots need and no index knows,
    come from it by their ids and are proved by their hashes. Nothing is deleted before a copy is in ``aside``, the new
    packs are durable, and an index names them: after a crash at any moment everything that could be read before still
    can, and the next repair finishes.

    Takes an exclusive lock, none for a dry run. Facts: ``repair.pack``, ``damage.found`` for blobs that stay lost.
    Raises ``NotFound`` or ``Invalid`` for an id that fits no pack or several, ``Corrupt`` where the index must be
    repaired first, ``Locked``, ``Cancelled``, ``Denied``, ``NoSpace``, ``Unavailable``.
    """
    began = repository.clock.monotonic()
    work = _Work(repository, options, aside, other, other_lock, emit, cancel)
    with locked(repository, dry_run=options.dry_run) as lock:
        try:
            work.run(lock)
        finally:
            work.new.discard()
    work.done.seconds = repository.clock.monotonic() - began
    return work.done


class _Work:
    """One repair of packs: the order of its steps and what they share."""

    def __init__(
        self,
        repository: Repository,
        options: PacksOptions,
        aside: Aside,
        other: Repository | None,
        other_lock: Lock | None,
        emit: Emit,
        cancel: Cancel,
    ) -> None:
        self._repository = repository
        self._options = options
        self._aside = aside
        self._other = other
        self._other_lock = other_lock
        self._locks: list[Lock] = []
        self._emit = emit
        self._tell = Teller(emit)
        self._cancel = cancel
        self.done = PacksRepair(dry_run=options.dry_run)
        self.new = NewBlobs(repository, dry_run=options.dry_run)

    def run(self, lock: Lock | None) -> None:
        done, repository = self.done, self._repository
        files = survey.sound_index(repository, steps(self._emit, self._cancel))
        damaged = self._choose(files, lock)
        self._locks += filter(None, (lock, self._other_lock))
        self._renew()
        healer = Healer(self._other, repository, self.new, dry_run=self._options.dry_run) if self._other else None
        if healer is not None:
            damaged.gone -= {pack for pack in sorted(damaged.gone) if healer.fetch_pack(pack)}
            done.fetched = healer.packs
        bad = set(damaged.packs) | damaged.gone
        done.gone = len(damaged.gone)
        done.damaged = sorted(damaged.packs.items())
        for pack in damaged.packs if lock is not None else ():
            self._aside.keep(repository, layout.name_of(layout.DATA, pack))
        done.aside = str(self._aside.folder) if self._aside.kept else ""
        good = {pack: entries for pack, entries in files.packs.items() if pack not in bad}
        survey.loaded(repository, good.items())
        self._save_all(files, damaged, healer)
        written = self._finish()
        if done.lost or healer is not None:
            written += self._look_for_needed(healer)
        if healer is not None:
            done.healed, done.healed_bytes = healer.blobs, healer.size
        if done.needed:
            done.outcome = Outcome.FAILED
        if lock is not None and (bad or written):
            self._replace(files, bad, dict(written), lock)

    def _renew(self) -> None:
        for lock in self._locks:
            lock.start_renewing()

    # -- which packs -----------------------------------------------------------------------------------------------

    def _choose(self, files: IndexFiles, lock: Lock | None) -> Damaged:
        if self._options.all_damaged:
            found = find_damage(
                self._repository, files, emit=self._emit, cancel=self._cancel, lock=lock, workers=self._options.workers
            )
            found.gone = {pack for pack in found.gone if survey.is_gone(self._repository, pack)}
        else:
            found = self._named(files)
        for pack, why in sorted(found.packs.items()):
            message = f"Pack {short(pack)} is damaged: {why}." if why else f"Pack {short(pack)} was named."
            self._tell("repair.pack", message, "warning" if why else "info", pack=pack.hex())
        for pack in sorted(found.gone):
            self._tell("repair.pack", f"Pack {short(pack)} is gone.", pack=pack.hex())
        return found

    def _named(self, files: IndexFiles) -> Damaged:
        stored = survey.stored_packs(self._repository)
        known = sorted(set(files.packs) | set(stored))
        found = Damaged()
        for text in self._options.packs:
            fitting = [pack for pack in known if pack.hex().startswith(text.lower())] if len(text) >= _SHORTEST else []
            if not fitting:
                raise NotFound(
                    f"No pack has an id that begins with {text!r}.",
                    hint="'holdfast check --read-data' names the damaged ones; give at least four digits.",
                )
            if len(fitting) > 1:
                raise Invalid(f"{text} fits {len(fitting)} packs.", hint="Give more digits.")
            pack = fitting[0]
            if pack not in stored and survey.is_gone(self._repository, pack):
                found.gone.add(pack)
            else:
                found.packs[pack] = ""
        if self._other is not None:
            found.gone.update(
                pack for pack in files.packs if pack not in stored and survey.is_gone(self._repository, pack)
            )
        return found

    # -- their blobs -----------------------------------------------------------------------------------------------

    def _save_all(self, files: IndexFiles, damaged: Damaged, healer: Healer | None) -> None:
        packs = sorted(damaged.packs)
        for number, pack in enumerate(packs):
            self._emit(Tick("packs", number, items_total=len(packs), errors=len(self.done.lost)))
            self._save(pack, files.packs.get(pack), healer)
        for pack in sorted(damaged.gone):
            self._cancel.check()
            self._get_back(_ids(files.packs[pack]), healer)

    def _save(self, pack: PackId, known: Entries | None, healer: Healer | None) -> None:
        """What is intact goes into new packs, unless a good pack has it too."""
        repository = self._repository
        size = repository.storage.size(layout.name_of(layout.DATA, pack))
        blobs = candidates(repository, pack, size, [] if known is None else [known])
        missing = {blob.id: blob.type for blob in blobs}
        for identifier in [identifier for identifier in missing if self._has_copy(identifier)]:
            del missing[identifier]
        for blob, plaintext in intact(repository, pack, [blob for blob in blobs if blob.id in missing]):
            self._cancel.check()
            self.new.add(blob.type, blob.id, plaintext)
            self.done.saved += 1
            del missing[blob.id]
        self._get_back(missing, healer)

    def _get_back(self, missing: dict[BlobId, BlobType], healer: Healer | None) -> None:
        """Blobs that are lost here: from the second vault, or not at all."""
        for identifier, kind in missing.items():
            self._cancel.check()
            if not self._has_copy(identifier) and (healer is None or not healer.fetch(identifier, kind)):
                self.done.lost.add(identifier)

    def _has_copy(self, identifier: BlobId) -> bool:
        if identifier in self.new:
            return True
        return self._repository.index.has(identifier) and read_intact(self._repository, identifier) is not None

    def _finish(self) -> list[tuple[PackId, Entries]]:
        """Make the new packs durable, and known to this process."""
        written = entries_of(self.new.finish())
        for pack, entries in written:
            self._repository.index.add_entries(pack, entries)
        self.done.packs_written += len(written)
        return written

    # -- what snapshots need ---------------------------------------------------------------------------------------

    def _look_for_needed(self, healer: Healer | None) -> list[tuple[PackId, Entries]]:
        """Find out what snapshots need and nobody has; the second vault is asked for that too."""
        done, repository = self.done, self._repository
        lost: dict[bytes, HoldfastError] = {}

        def note(identifier: bytes, error: HoldfastError) -> None:
            # In a dry run the new packs are not there to be found.
            if identifier not in self.new:
                lost[identifier] = error

        def damaged(identifier: bytes, error: HoldfastError) -> None:
            message = f"Snapshot {short(identifier)} is damaged: {error.message}"
            self._tell("damage.found", message, "error", snapshot=identifier.hex())

        snapshots = repository.snapshots(damaged)
        roots = [snapshot.tree for _, snapshot in snapshots]
        for lock in self._locks:
            lock.stop_renewing()  # it is a thread, and processes are forked now
        reach(
            repository,
            roots,
            emit=self._emit,
            cancel=self._cancel,
            workers=self._options.workers,
            forked=self._renew,
            on_damage=note,
        )
        written: list[tuple[PackId, Entries]] = []
        if healer is not None:
            for identifier in list(lost):
                self._cancel.check()
                if healer.fetch_whatever(BlobId(identifier)):
                    del lost[identifier]
            lost |= dict.fromkeys(healer.missing, NotFound("The second vault does not have it either."))
            written = self._finish()
        done.needed = set(lost)
        done.lost |= done.needed
        for identifier, error in lost.items():
            message = f"Blob {short(identifier)}, which a snapshot needs, is lost."
            self._tell("damage.found", message, "error", blob=identifier.hex(), why=error.message)
        return written

    # -- the end ---------------------------------------------------------------------------------------------------

    def _replace(self, files: IndexFiles, bad: set[PackId], written: dict[PackId, Entries], lock: Lock) -> None:
        """The new index, then the deletion of the packs that it does not name any more."""
        repository = self._repository
        obsolete, staying = files.replaced(bad)
        packs = {pack: files.packs[pack] for pack in staying} | written
        lock.confirm()
        replace_index(repository, obsolete, packs.items())
        damaged = [pack for pack, _ in self.done.damaged if pack not in written]
        delete_all(repository, layout.DATA, damaged)
        self.done.packs_deleted = len(damaged)


def _ids(entries: Entries) -> dict[BlobId, BlobType]:
    return {blob.id: blob.type for blob in entries.blobs()}
