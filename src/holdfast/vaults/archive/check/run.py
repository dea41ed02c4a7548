"""Check an archive vault: every file of it, every reference in it, and (if asked) every byte."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from holdfast.format.snapshot import Snapshot
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Corrupt
from holdfast.kernel.events import Emit, Tick
from holdfast.kernel.heap import paused_collection
from holdfast.kernel.ids import SnapshotId, short
from holdfast.kernel.pool import Pool, default_size
from holdfast.repository.locks import Lock
from holdfast.vaults.archive.check.files import SmallFiles, still_there
from holdfast.vaults.archive.check.findings import Findings, listed
from holdfast.vaults.archive.check.index import Catalogue, compare_with_storage, load
from holdfast.vaults.archive.check.packs import PackReader, PackReport
from holdfast.vaults.archive.check.plan import Progress, plan
from holdfast.vaults.archive.check.touched import Touched, without_intact_copies
from holdfast.vaults.archive.check.trees import Forest, Problem
from holdfast.vaults.base import CheckOptions, CheckReport, Outcome

if TYPE_CHECKING:
    from holdfast.vaults.archive.vault import ArchiveVault

ALONE_BYTES = 4 << 20  # less than this is read before three workers are forked


def check(
    vault: ArchiveVault, options: CheckOptions, *, emit: Emit, cancel: Cancel, chance: random.Random | None = None
) -> CheckReport:
    """Look at everything in the vault and report all damage; nothing damaged ends the check of the rest.

    Always: keys, configuration, locks, snapshots and index files open and make sense; every indexed pack is there with
    the right size; every tree that a snapshot needs is read, hashed and sound; every blob that a file needs is in the
    index, and their sizes add up to the file's. With ``options.read_data`` every byte of the chosen packs is proved as
    well: name, header, blobs. What fails is read again before it is reported. ``chance`` picks the packs of a
    percentage.

    Holds a shared lock only (restic's is exclusive), so that backups go on meanwhile: snapshots are listed first, then
    the index is read, then packs are listed, so whatever a snapshot of the first list needs is seen, and what is added
    later is not looked at. Deleting (forget, prune) is kept out. Without ``no_lock`` the lock is all that is written.

    Every damage is also told as a fact ``damage.found``. Raises ``Cancelled``, ``Locked``, and ``Unavailable`` or
    ``Denied`` when the whole vault is out of reach.
    """
    return _Check(vault, options, emit, cancel, chance or random.Random()).run()


class _Check:
    """One check: the order of its steps and what they share."""

    def __init__(
        self, vault: ArchiveVault, options: CheckOptions, emit: Emit, cancel: Cancel, chance: random.Random
    ) -> None:
        self._vault = vault
        self._repository = vault.repository
        self._options = options
        self._emit = emit
        self._cancel = cancel
        self._chance = chance
        self._findings = Findings()
        self._report = CheckReport()
        self._own_lock: Lock | None = None

    def run(self) -> CheckReport:
        began = self._repository.clock.monotonic()
        report, findings = self._report, self._findings
        try:
            with contextlib.ExitStack() as stack:
                own_lock = self._lock(stack)
                small = SmallFiles(self._repository, findings)
                small.check_keys()
                small.check_config()
                small.check_locks(own_lock)
                snapshots = small.snapshots()
                catalogue = self._catalogue()
                forest = Forest(len(catalogue.index))
                self._read(catalogue, forest)
                self._walk(catalogue, forest, snapshots)
                self._name(catalogue, snapshots)
        finally:
            findings.tell(self._emit)
        report.snapshots = len(snapshots)
        report.damage = [finding.damage() for finding in findings.all]
        if findings.errors:
            report.outcome = Outcome.FAILED
        report.seconds = self._repository.clock.monotonic() - began
        return report

    def _lock(self, stack: contextlib.ExitStack) -> bytes | None:
        """Take the vault's lock; the id of its file. A lock file that nobody can read must not keep us from looking."""
        if self._vault._no_lock:  # not vault.reading(): that loads the index
            return None
        try:
            self._own_lock = stack.enter_context(self._repository.locks.hold(exclusive=False))
        except Corrupt:
            return None  # told by check_locks; a shared lock of ours would not help against what it may stand for
        return self._own_lock.id

    def _catalogue(self) -> Catalogue:
        def step(done: int, total: int) -> None:
            self._cancel.check()
            self._emit(Tick("index", done, items_total=total, errors=self._findings.errors))

        with paused_collection():
            catalogue = load(self._repository, self._findings, step)
        compare_with_storage(self._repository, catalogue, self._findings)
        self._report.packs = len(catalogue.index.packs)
        self._report.unused_packs = catalogue.unused_packs
        return catalogue

    # -- packs and trees -------------------------------------------------------------------------------------------

    def _read(self, catalogue: Catalogue, forest: Forest) -> None:
        """Read what was chosen; trees are parsed in the workers, and their numbers kept in ``forest``."""
        tasks = plan(catalogue, self._options.read_data, self._chance)
        progress = Progress(catalogue, tasks, "trees" if self._options.read_data is None else "packs")
        repository, cancel = self._repository, self._cancel
        with Pool(lambda: PackReader(repository, catalogue, cancel).answers, self._workers(progress.total)) as pool:
            self._renew_lock()
            for task in tasks:
                pool.submit(task)
            try:
                for report in pool.results():
                    cancel.check()
                    if report is not None:
                        progress.take(report)
                        self._take(report, catalogue, forest)
                    self._emit(progress.tick(self._findings.errors))
            except Cancelled:
                cancel.check()  # raised by a worker it lacks the reason, which only this process knows
                raise

    def _workers(self, size: int) -> int:
        if not self._repository.storage.traits.fork_safe:
            return 0
        if self._options.workers is not None:
            return self._options.workers
        return default_size(self._repository.storage.traits.connections) if size >= ALONE_BYTES else 0

    def _renew_lock(self) -> None:
        """Keep the lock fresh; a thread, so it starts only after the workers were forked."""
        if self._own_lock is not None:
            self._own_lock.start_renewing()

    def _take(self, report: PackReport, catalogue: Catalogue, forest: Forest) -> None:
        task = report.task
        if report.failure is not None:
            still_there(self._repository.storage, report.failure)
        if report.reasons or report.unsteady:
            trouble = self._findings.pack(catalogue.index.packs[task.pack])
            trouble.kind = report.kind if not trouble.reasons else trouble.kind
            trouble.reasons.update(dict.fromkeys(report.reasons))
            trouble.unsteady.update(dict.fromkeys(report.unsteady))
            trouble.lost |= report.lost
        if report.trees is not None:
            forest.add(report.trees)
        if task.whole:
            self._report.packs_read += 1
            self._report.bytes_read += report.bytes_read

    def _walk(self, catalogue: Catalogue, forest: Forest, snapshots: Sequence[tuple[SnapshotId, Snapshot]]) -> None:
        """From every snapshot to everything that it needs; what is not there is found here."""
        roots: list[int] = []
        missing: set[bytes] = set()
        for _, snapshot in snapshots:
            number = catalogue.number(snapshot.tree, tree=True)
            if number < 0:
                missing.add(snapshot.tree)
            else:
                roots.append(number)
        reached = forest.walk(roots)
        self._report.trees, self._report.files = reached.trees, reached.files
        missing |= reached.missing
        if missing:
            message = f"{len(missing):,} blobs that snapshots need are in no index: {listed(missing)}."
            if len(missing) == 1:
                message = f"Blob {listed(missing)}, which a snapshot needs, is in no index."
            self._findings.add("blob.missing", message, lost=missing)
        for problem in reached.problems:
            self._add_problem(problem)

    def _add_problem(self, problem: Problem) -> None:
        message = f"Tree {short(problem.tree)} is wrong: {problem.message}."
        finding = self._findings.add(problem.kind, message, lost=(problem.tree,) if problem.lost else ())
        if not problem.lost:
            finding.nodes[problem.number] = list(problem.names or (b"",))

    def _name(self, catalogue: Catalogue, snapshots: Sequence[tuple[SnapshotId, Snapshot]]) -> None:
        """Make the packs' troubles findings, and say what all findings touch."""
        without_intact_copies(catalogue, {pack: trouble.lost for pack, trouble in self._findings.packs.items()})
        self._findings.close_packs()
        if any(finding.lost or finding.nodes for finding in self._findings.all):
            Touched(self._repository, catalogue, self._findings.all, self._cancel).name(snapshots)
