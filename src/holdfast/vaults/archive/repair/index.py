"""Make the index say again what the packs hold: by their own headers where it lacks them or has them wrong."""

from __future__ import annotations

from dataclasses import field

from holdfast.format.index import Entries
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Emit, Tick
from holdfast.kernel.ids import PackId, short
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository, layout
from holdfast.repository.index import Index
from holdfast.repository.locks import Lock
from holdfast.repository.reindex import replace_index
from holdfast.vaults.archive.mending import Teller, locked
from holdfast.vaults.archive.repair import survey
from holdfast.vaults.archive.repair.aside import Aside
from holdfast.vaults.archive.repair.salvage import proven
from holdfast.vaults.archive.repair.survey import IndexFiles
from holdfast.vaults.base import Outcome


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """``read_all``: trust no index file, read the header of every pack. ``workers`` as in ``CheckOptions``."""

    read_all: bool = False
    dry_run: bool = False
    workers: int | None = None


@dataclass(slots=True)
class IndexRepair:
    """What a repair of the index did, or would do; counts of packs unless their names say otherwise.

    ``unreadable`` are packs (id, why) whose header cannot be read: what an index says of them is kept. ``lost`` counts
    blobs that were only in packs that are gone. Outcome is ``failed`` where damage remains: unreadable packs, lost
    blobs, or ``kept_damaged`` index files, which could not be copied before they would have been deleted.
    """

    outcome: Outcome = Outcome.OK
    dry_run: bool = False
    packs: int = 0
    blobs: int = 0
    headers_read: int = 0
    added: int = 0
    corrected: int = 0
    gone: int = 0
    lost: int = 0
    damaged_files: int = 0
    kept_damaged: int = 0
    files_deleted: int = 0
    files_written: int = 0
    aside: str = ""
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def changes(self) -> bool:
        """Whether anything was to be done."""
        return bool(self.added or self.corrected or self.gone or self.damaged_files or self.files_deleted)


@dataclass(frozen=True, slots=True)
class Plan:
    """The index files that go, and the packs that new ones must name; ``packs`` is everything that is then indexed."""

    obsolete: frozenset[bytes]
    rewritten: tuple[PackId, ...]
    packs: dict[PackId, Entries]


def repair_index(
    repository: Repository, options: IndexOptions, *, aside: Aside, emit: Emit, cancel: Cancel
) -> IndexRepair:
    """Compare the index with the packs that are stored and write what is missing or wrong in it.

    Packs that no index names, or whose entries do not fit their file, are listed by their own headers. Packs that are
    gone are dropped. Index files that cannot be opened are copied ``aside`` and deleted. Packs whose header cannot be
    read keep the entries that they have. New index files are durable before old ones go: after a crash at any moment
    everything that could be read before still can, and the next repair finishes. A sound index is left as it is.

    Takes an exclusive lock, none for a dry run. Facts: ``repair.index``. Raises ``Locked``, ``Cancelled``, ``Denied``
    and ``Unavailable``.
    """
    began = repository.clock.monotonic()
    done = IndexRepair(dry_run=options.dry_run)
    with locked(repository, dry_run=options.dry_run) as lock:
        found = survey.read_index(repository, steps(emit, cancel))
        plan = _Planner(repository, options, found, done, emit, cancel).plan(lock)
        _carry_out(repository, found, plan, done, aside, lock)
    if done.unreadable or done.lost or done.kept_damaged:
        done.outcome = Outcome.FAILED
    done.seconds = repository.clock.monotonic() - began
    return done


def steps(emit: Emit, cancel: Cancel) -> survey.Step:
    """Ticks while index files are read; looks at ``cancel`` between them."""

    def step(done: int, total: int) -> None:
        cancel.check()
        emit(Tick("index", done, items_total=total))

    return step


class _Planner:
    """Compares, reads headers where that is needed, and decides. Changes nothing."""

    def __init__(
        self,
        repository: Repository,
        options: IndexOptions,
        found: IndexFiles,
        done: IndexRepair,
        emit: Emit,
        cancel: Cancel,
    ) -> None:
        self._repository = repository
        self._options = options
        self._found = found
        self._done = done
        self._emit = emit
        self._teller = Teller(emit)
        self._cancel = cancel

    def plan(self, lock: Lock | None) -> Plan:
        found, done = self._found, self._done
        stored = survey.stored_packs(self._repository)
        changed = self._gone(stored)
        packs = {pack: entries for pack, entries in found.packs.items() if pack in stored}
        doubtful = {pack: size for pack, size in stored.items() if self._is_doubtful(pack, size)}
        done.headers_read = len(doubtful)
        renew = lock.start_renewing if lock is not None else None
        headers = survey.read_headers(
            self._repository, doubtful, self._cancel, workers=self._options.workers, forked=renew
        )
        for number, (pack, entries, why) in enumerate(headers, 1):
            self._emit(Tick("packs", number, items_total=len(doubtful), errors=len(done.unreadable)))
            if entries is None:
                entries = self._unreadable(pack, why)
            if entries is None or (entries == packs.get(pack) and pack not in found.conflicts):
                continue
            if pack in packs:
                done.corrected += 1
                self._tell(pack, "The index was wrong about pack {}; its header says what it holds.", why)
            else:
                done.added += 1
            packs[pack] = entries
            changed.add(pack)
        obsolete, rewritten = found.replaced(changed)
        rewritten += [pack for pack in changed if pack in packs]
        self._count(packs)
        return Plan(frozenset(obsolete), tuple(rewritten), packs)

    def _gone(self, stored: dict[PackId, int]) -> set[PackId]:
        """Packs that the index names and that are not there."""
        gone = set()
        for pack in self._found.packs:
            if pack not in stored and survey.is_gone(self._repository, pack):
                gone.add(pack)
                self._tell(pack, "Pack {} is gone; the index forgets it.")
            elif pack not in stored:  # listed late
                stored[pack] = self._repository.storage.size(layout.name_of(layout.DATA, pack))
        self._done.gone = len(gone)
        return gone

    def _is_doubtful(self, pack: PackId, size: int) -> bool:
        entries = self._found.packs.get(pack)
        return (
            self._options.read_all
            or entries is None
            or pack in self._found.conflicts
            or survey.file_size(entries) != size
        )

    def _unreadable(self, pack: PackId, why: str) -> Entries | None:
        """What is known of a pack whose header cannot be read; None if that is nothing, or needs no change."""
        self._done.unreadable.append((pack, why))
        known = self._found.packs.get(pack)
        if known is None:
            message = "Pack {} is in no index and its header cannot be read; it stays as it is."
        else:
            message = "The header of pack {} cannot be read; the index keeps what it knows of it."
        self._tell(pack, message, why)
        others = self._found.conflicts.get(pack)
        if known is None or not others:
            return None
        true = proven(self._repository, pack, [known, *others])
        return true if true.trees else known

    def _count(self, packs: dict[PackId, Entries]) -> None:
        done, found = self._done, self._found
        done.packs = len(packs)
        index = Index()
        index.reserve(sum(len(entries.trees) for entries in packs.values()))
        for pack, entries in packs.items():
            index.add_entries(pack, entries)
        done.blobs = len(index)
        lost = {
            entries.ids[at : at + 32]
            for pack, entries in found.packs.items()
            if pack not in packs
            for at in range(0, len(entries.ids), 32)
        }
        done.lost = sum(1 for identifier in lost if not index.has(identifier))
        done.damaged_files = len(found.damaged)
        for identifier, error in found.damaged.items():
            message = f"The index file {short(identifier)} is damaged: {error.message}"
            self._teller("repair.index", message, index=identifier.hex())

    def _tell(self, pack: PackId, message: str, why: str = "") -> None:
        self._teller("repair.index", message.format(short(pack)), pack=pack.hex(), why=why)


def _carry_out(
    repository: Repository, found: IndexFiles, plan: Plan, done: IndexRepair, aside: Aside, lock: Lock | None
) -> None:
    """Write the new index files, then delete the old ones. A dry run only counts."""
    done.files_deleted = len(plan.obsolete) + len(found.damaged)
    if lock is None:
        return
    copied = [identifier for identifier in found.damaged if _set_aside(repository, identifier, aside)]
    kept = set(found.damaged).difference(copied)
    if kept and not done.unreadable:
        kept.clear()  # all that they could say stands in the headers of the packs
    done.kept_damaged = len(kept)
    done.files_deleted -= len(kept)
    done.aside = str(aside.folder) if aside.kept else ""
    obsolete = plan.obsolete.union(found.damaged) - kept
    if obsolete or plan.rewritten:
        lock.confirm()
        entries = ((pack, plan.packs[pack]) for pack in plan.rewritten)
        done.files_written = len(replace_index(repository, obsolete, entries))


def _set_aside(repository: Repository, identifier: bytes, aside: Aside) -> bool:
    return aside.keep(repository, layout.name_of(layout.INDEX, identifier))
