"""Restore from an archive vault: find out what has to be done, then show it or do it."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import TYPE_CHECKING

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.pool import Pool, default_size
from holdfast.vaults.archive.restore.execute import Execution
from holdfast.vaults.archive.restore.finish import sweep_temporaries, warn_of_space
from holdfast.vaults.archive.restore.plan import Plan, Planner
from holdfast.vaults.archive.restore.start import Start, begin
from holdfast.vaults.archive.restore.survey import Job
from holdfast.vaults.archive.restore.tasks import Answer, Note, Survey, Surveyed, Task, Visit
from holdfast.vaults.archive.restore.write import Hand
from holdfast.vaults.base import Outcome, Problem, RestoreOptions, RestoreSummary, SnapshotInfo

if TYPE_CHECKING:
    from holdfast.repository.locks import Lock
    from holdfast.vaults.archive.vault import ArchiveVault

ALONE_SECONDS = 0.1  # a survey that is done by then needs no worker processes; forking three costs about 30 ms
ALONE_FILES, ALONE_BYTES = 500, 8 << 20  # and so does writing no more than this
MOST_VISITS = 32  # folders in one task
_KINDS = {
    "failed": ("item.failed", "error"),
    "damage": ("damage.found", "error"),
    "warning": ("item.warning", "warning"),
}


def restore(
    vault: ArchiveVault, snapshot: SnapshotInfo, options: RestoreOptions, *, emit: Emit, cancel: Cancel
) -> RestoreSummary:
    """Write a snapshot, or what is at ``options.path`` in it, below the target; return what was done.

    Every blob is verified against its hash before it is written. A file appears under its name when it is complete,
    with its metadata, or not at all; nothing is written outside of the target whatever the snapshot says. What cannot
    be restored is a problem (with a fact ``damage.found`` if the vault is at fault, else ``item.failed``), makes the
    outcome ``partial`` and stops nothing else. Nothing is flushed to the disk: after a power loss, run it again.

    Raises ``NotFound`` (no such path in the snapshot), ``Invalid`` (an in-place restore of a snapshot of relative
    paths), ``NoSpace``, ``Denied``, ``Corrupt``, the storage's errors, and ``Cancelled`` between two files. What was
    complete by then stays, unfinished files are removed; a crash leaves them, named ``.holdfast-tmp-`` and more.
    """
    return _Restore(vault, snapshot, options, emit, cancel).run()


class _Restore:
    """One restore: the order of its steps and what they share."""

    def __init__(
        self, vault: ArchiveVault, snapshot: SnapshotInfo, options: RestoreOptions, emit: Emit, cancel: Cancel
    ) -> None:
        self._vault = vault
        self._snapshot = snapshot
        self._options = options
        self._emit = emit
        self._cancel = cancel
        self._clock = vault.repository.clock
        self._summary = RestoreSummary(snapshot=snapshot.id)
        self._base = b""
        self._pool: Pool[Task, Answer] | None = None
        self._sweep: tuple[Job, Plan] | None = None  # what to look through for unfinished files if we are stopped

    def run(self) -> RestoreSummary:
        began = self._clock.monotonic()
        summary = self._summary
        with self._vault.reading(on_damage=self._tell_damaged_index) as lock, contextlib.ExitStack() as stack:
            start = begin(self._vault.repository, self._snapshot, self._options, self._cancel)
            job, self._base = start.job, start.job.base
            hand = Hand(job)
            stack.callback(hand.close)
            stack.push(self._stopped)
            plan = self._survey(start, hand, lock, stack)
            for note in plan.notes:
                self._note(note)
            summary.files_skipped = plan.skipped
            if self._options.dry_run:
                self._show(plan, job)
            else:
                self._carry_out(plan, job, hand, lock, stack)
        summary.outcome = Outcome.PARTIAL if summary.problems else Outcome.OK
        summary.seconds = self._clock.monotonic() - began
        return summary

    # -- finding out -----------------------------------------------------------------------------------------------

    def _survey(self, start: Start, hand: Hand, lock: Lock | None, stack: contextlib.ExitStack) -> Plan:
        """Walk the trees: alone for a moment, then with workers."""
        options = self._options
        selective = options.include is not None or options.exclude is not None
        planner = Planner(self._vault.repository.index, keep_content=options.verify, selective=selective)
        visits = start.plan(hand.surveyor)
        planner.take(hand.surveyor.survey(Survey([])))
        deadline = self._clock.monotonic() + ALONE_SECONDS
        while visits and (self._clock.monotonic() < deadline or self._workers() == 0):
            self._cancel.check()
            found = hand.surveyor.survey(Survey(visits))
            visits = found.visits
            planner.take(found)
            self._tick_survey(planner)
        if visits:
            self._survey_together(planner, visits, self._workers_forked(hand, lock, stack))
        return planner.finish(show=options.dry_run)

    def _survey_together(self, planner: Planner, visits: list[Visit], pool: Pool[Task, Answer]) -> None:
        def share(visits: list[Visit]) -> None:
            size = max(1, min(MOST_VISITS, len(visits) // (2 * pool.size)))
            for at in range(0, len(visits), size):
                pool.submit(Survey(visits[at : at + size]))

        share(visits)
        for found in pool.results():
            if isinstance(found, Surveyed):
                planner.take(found)
                share(found.visits)
            self._tick_survey(planner)
            if self._cancel.requested:
                pool.forget_waiting()
        self._cancel.check()

    def _workers(self) -> int:
        if not self._vault.repository.storage.traits.fork_safe:
            return 0
        if self._options.workers is not None:
            return self._options.workers
        return default_size(self._vault.repository.storage.traits.connections)

    def _workers_forked(self, hand: Hand, lock: Lock | None, stack: contextlib.ExitStack) -> Pool[Task, Answer]:
        """The worker processes; the lock's thread must not be there before them."""
        if self._pool is None:
            job = hand.job
            self._pool = stack.enter_context(Pool(lambda: Hand(job).answers, self._workers()))
            if lock is not None:
                lock.start_renewing()
        return self._pool

    # -- doing it --------------------------------------------------------------------------------------------------

    def _carry_out(self, plan: Plan, job: Job, hand: Hand, lock: Lock | None, stack: contextlib.ExitStack) -> None:
        if warning := warn_of_space(job.root, plan.size):
            self._emit(Fact("item.warning", warning, "warning", {"bytes": plan.size}))
        small = plan.files <= ALONE_FILES and plan.size <= ALONE_BYTES
        if self._pool is None and (small or self._workers() == 0):
            pool: Pool[Task, Answer] = Pool(lambda: hand.answers, 0)
            if lock is not None:
                lock.start_renewing()
        else:
            pool = self._workers_forked(hand, lock, stack)
        self._sweep = (job, plan)
        Execution(plan, hand.writer, pool, self._summary, self._note, self._tick, self._cancel).run()

    def _show(self, plan: Plan, job: Job) -> None:
        """A dry run: the plan as (verb, path in the file system), and what would be counted."""
        summary = self._summary
        summary.actions = [(verb, os.path.join(job.root, path)) for verb, path in plan.actions]
        summary.files_restored, summary.bytes_restored = plan.files, plan.size
        summary.files_deleted = sum(verb == "delete" for verb, _ in plan.actions)
        summary.dirs = len(plan.folders)
        summary.links, summary.others = plan.others

    def _stopped(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Leaving, the workers have ended: remove what they could not finish."""
        if kind is not None and self._sweep is not None:
            sweep_temporaries(*self._sweep)

    # -- telling ---------------------------------------------------------------------------------------------------

    def _note(self, note: Note) -> None:
        kind, path, why = note
        shown = self._base + b"/" + path
        word, level = _KINDS[kind]
        if kind != "warning":
            self._summary.problems.append(Problem(shown, why, "restore"))
        self._emit(Fact(word, why, level, {"path": shown, "why": why}))

    def _tick_survey(self, planner: Planner) -> None:
        found = planner.found
        self._emit(Tick("plan", found.files + found.skipped, found.size, errors=len(found.notes)))

    def _tick(self, plan: Plan, current: bytes) -> None:
        summary = self._summary
        shown = os.fsdecode(self._base + b"/" + current) if current else ""
        done, size = summary.files_restored, summary.bytes_restored
        self._emit(Tick("restore", done, size, plan.files, plan.size, shown, len(summary.problems)))

    def _tell_damaged_index(self, _identifier: bytes, error: HoldfastError) -> None:
        message = f"{error.message} It is passed over; files that only it knows cannot be restored."
        self._emit(Fact("damage.found", message, "error"))
