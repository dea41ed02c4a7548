"""Carrying out the plan of a restore: removals, files by packs, links, and the folders' metadata."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, HoldfastError
from holdfast.kernel.pool import Pool
from holdfast.vaults.archive.restore.finish import apply_folder, link_or_copy
from holdfast.vaults.archive.restore.parts import Identity
from holdfast.vaults.archive.restore.plan import Plan
from holdfast.vaults.archive.restore.tasks import Answer, Big, Finish, Note, Task, WriteParts, Written
from holdfast.vaults.archive.restore.write import Writer
from holdfast.vaults.base import RestoreSummary


class Execution:
    """Does what a plan says, once. ``pool`` does the writing tasks, ``writer`` the rest in this process.

    ``tell`` gets what went wrong, ``tick`` is called with the plan and a path whenever something is done.
    """

    def __init__(
        self,
        plan: Plan,
        writer: Writer,
        pool: Pool[Task, Answer],
        summary: RestoreSummary,
        tell: Callable[[Note], None],
        tick: Callable[[Plan, bytes], None],
        cancel: Cancel,
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._pool = pool
        self._summary = summary
        self._tell = tell
        self._tick = tick
        self._cancel = cancel
        self._tasks = iter(plan.tasks)
        self._waiting = dict(plan.shares)  # tasks that are still to come, by shared file
        self._bigs: dict[bytes, Big] = {}
        self._identities: dict[bytes, Identity] = {}
        self._failed: dict[bytes, str] = {}

    def run(self) -> None:
        """All steps in order. Raises ``Cancelled`` between files, ``NoSpace`` and the storage's errors."""
        self._remove()
        self._write()
        self._link()
        self._finish_folders()

    def _remove(self) -> None:
        for path in self._plan.removals:
            self._cancel.check()
            try:
                self._writer.target.remove(path)
                self._summary.files_deleted += 1
            except HoldfastError as error:
                self._fail(path, error)

    def _write(self) -> None:
        """Keep the workers busy, a few tasks ahead: temporary files of bigger files are made as late as possible."""
        pool = self._pool
        for _ in range(2 * pool.size + 1):
            self._submit_next()
        for answer in pool.results():
            if isinstance(answer, Written):
                self._take(answer)
                self._submit_next()
                self._tick(self._plan, answer.current)
            else:
                self._tick(self._plan, b"")
            if self._cancel.requested:
                pool.forget_waiting()
        if self._cancel.requested:
            raise Cancelled(self._cancel.reason)

    def _submit_next(self) -> None:
        task = next(self._tasks, None)
        if task is None or self._cancel.requested:
            return
        if isinstance(task, WriteParts):
            task = self._with_temporaries(task)
        self._pool.submit(task)

    def _with_temporaries(self, task: WriteParts) -> WriteParts:
        """Make the files that other tasks share; parts of files that have failed already are left out by the worker."""
        shared: dict[bytes, Identity] = {}
        for big in task.bigs:
            path = big.path
            if path not in self._waiting:
                continue
            if path not in self._identities:
                self._bigs[path] = big
                self._identities[path] = (0, 0)
                try:
                    self._identities[path] = self._writer.temporaries.create(big)
                    self._writer.temporaries.close(path)
                except HoldfastError as error:
                    self._failed[path] = error.message
                    self._fail(path, error)
            shared[path] = self._identities[path]
        return task._replace(shared=shared, failed=frozenset(path for path in shared if path in self._failed))

    def _take(self, written: Written) -> None:
        summary = self._summary
        summary.files_restored += written.files
        summary.bytes_restored += written.size
        summary.bytes_read += written.read
        summary.links += written.links
        summary.others += written.others
        if written.proven is not None:
            summary.proven.add(written.proven)
        known = self._failed
        for note in written.notes:
            if not (note[1] in known and note[1] in self._identities):  # of a shared file every worker tells
                self._tell(note)
            known.setdefault(note[1], note[2])
        for path, why in written.parts:
            if why:
                known.setdefault(path, why)
            self._waiting[path] -= 1
            if self._waiting[path] == 0:
                self._close_shared(path)

    def _close_shared(self, path: bytes) -> None:
        """The last part of a shared file is done."""
        identity, big = self._identities[path], self._bigs.pop(path)
        if path in self._failed:
            self._writer.temporaries.abandon(path)
        else:
            self._pool.submit(Finish(big, identity), first=True)

    def _fail(self, path: bytes, error: HoldfastError) -> None:
        """Tell of one item, or raise what ends everything (a full disk)."""
        written = Written()
        written.fail(path, error)
        for note in written.notes:
            self._tell(note)

    def _link(self) -> None:
        target = self._writer.target
        for existing, path in self._plan.links:
            self._cancel.check()
            if existing in self._failed:
                self._tell(("damage", path, self._failed[existing]))
                continue
            try:
                for problem in link_or_copy(target, path, existing, self._writer.owner):
                    self._tell(("failed", path, problem))
                self._summary.links += 1
            except HoldfastError as error:
                self._fail(path, error)

    def _finish_folders(self) -> None:
        """Deepest first: a folder's times change with its entries, and its permissions may shut us out."""
        for folder in reversed(self._plan.folders):
            try:
                for problem in apply_folder(self._writer, folder, self._writer.owner):
                    self._tell(("failed", folder.path, problem))
                self._summary.dirs += 1
            except HoldfastError as error:
                self._fail(folder.path, error)
