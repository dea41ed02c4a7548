"""Back up paths into an archive vault: targets, parent snapshot, directories, trees, index, snapshot."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from holdfast.format.snapshot import Snapshot
from holdfast.format.time import format_time
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, HoldfastError, Invalid, NotFound
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.heap import keep_large_blocks
from holdfast.kernel.pool import Pool, default_size
from holdfast.repository import Repository, Writer, writing
from holdfast.repository.index import SharedIds
from holdfast.repository.packer import Pack, sweep_spool
from holdfast.sources.base import as_path
from holdfast.vaults.archive.backup import roots
from holdfast.vaults.archive.backup.ahead import Ahead
from holdfast.vaults.archive.backup.assembly import Assembly
from holdfast.vaults.archive.backup.estimate import Estimate
from holdfast.vaults.archive.backup.job import Job
from holdfast.vaults.archive.backup.lookback import MemoFile, Parent, choose_parent
from holdfast.vaults.archive.backup.roots import Target
from holdfast.vaults.archive.backup.saver import Saver
from holdfast.vaults.archive.backup.streams import Folder, plan, refuse_taken_places
from holdfast.vaults.archive.backup.tasks import Answer, Cut, Finish, Finished, Stream, Task, Whole
from holdfast.vaults.archive.backup.top import begin
from holdfast.vaults.base import BackupOptions, BackupSummary, Outcome, Problem

ALONE_SECONDS = 0.15  # what is done by then needs no worker processes; forking three costs about 30 ms
LONG_BYTES = 32 << 20  # a file that takes longer to read than workers take to start
FIRST_ALONE_SECONDS = 0.03  # with nothing to compare with there is more to do


def backup(
    repository: Repository,
    options: BackupOptions,
    *,
    memo_folder: Path | None,
    emit: Emit,
    cancel: Cancel,
    ahead: Ahead | None = None,
) -> BackupSummary:
    """Save ``options.paths`` as one snapshot and return what was done.

    ``ahead`` holds directories that were listed with the same options while the vault was being opened.

    Raises ``NotFound`` if none of the paths exists, ``Cancelled`` when asked to stop (what was stored by then is kept
    and found again by the next backup), and the storage's errors. Single items that cannot be read are problems in
    the summary and make its outcome ``partial``. A crash at any point leaves all older snapshots as they were.
    """
    ahead = ahead or Ahead(options, repository.storage, repository.clock)
    return _Backup(repository, options, ahead, memo_folder, emit, cancel).run()


class _Backup:
    """One backup: the order of its steps and what they share."""

    def __init__(
        self,
        repository: Repository,
        options: BackupOptions,
        ahead: Ahead,
        memo_folder: Path | None,
        emit: Emit,
        cancel: Cancel,
    ) -> None:
        self._ahead = ahead
        self._repository = repository
        self._options = options
        self._emit = emit
        self._cancel = cancel
        self._clock = repository.clock
        self._summary = BackupSummary()
        self._packed = 0
        self._estimate: Estimate | None = None
        self._cwd = os.getcwdb()
        self._paths = (
            *(os.fsdecode(roots.absolute(path, self._cwd)) for path in options.paths),
            *(os.fsdecode(as_path(source.place)) for source in options.sources),
        )
        self._memo = MemoFile(
            None if options.force else memo_folder, repository, options.hostname, self._paths, ahead.lister.salt
        )
        self._spool_tag = f"{os.getpid()}-{os.urandom(4).hex()}-"  # two containers may have the same process number

    def run(self) -> BackupSummary:
        began, started_ns = self._clock.monotonic(), self._clock.now_ns()
        targets = self._existing_targets()
        streams = self._plan_streams(targets)
        with contextlib.ExitStack() as stack:
            writer = None
            if not self._options.dry_run:
                stack.callback(self._sweep_spool)
                self._remove_dead_locks()
                writer = stack.enter_context(writing(self._repository))
            options = self._options
            parent = choose_parent(
                self._repository, options.hostname, self._paths, options.parent, self._pass_over_damage
            )
            self._summary.parent = parent.id
            assembly = self._save(targets, streams, parent, writer, started_ns)
            self._count(assembly, bool(targets))
            if writer is not None:
                self._summary.snapshot = writer.commit(self._snapshot(assembly, parent, started_ns))
                self._memo.save(self._summary.snapshot, assembly.memo)
        self._summary.seconds = self._clock.monotonic() - began
        return self._summary

    def _existing_targets(self) -> list[Target]:
        if not self._options.paths and not self._options.sources:
            raise Invalid("Nothing to back up was named.", hint="Name at least one file or folder.")
        targets = []
        optional = {roots.absolute(path, self._cwd) for path in self._options.optional}
        for target in roots.find_targets(self._options.paths, self._cwd, whole=bool(self._options.sources)):
            try:
                os.lstat(target.path)
                targets.append(target)
            except OSError as error:
                why = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
                self._tell("warning" if target.path in optional else "failed", target.path, why)
        if not targets and not self._options.sources:
            named = self._paths[0] if len(self._paths) == 1 else "none of the given paths"
            raise NotFound(
                f"There is nothing to back up: {named} {'does not exist' if len(self._paths) == 1 else 'exists'}.",
                hint="Check the spelling, and whether the disk is mounted.",
                paths=list(self._paths),
            )
        return targets

    def _plan_streams(self, targets: list[Target]) -> Folder | None:
        if not self._options.sources:
            return None
        refuse_taken_places(targets)
        return plan(self._options.sources, self._cancel, lambda path, why: self._tell("failed", path, why))

    # -- the work --------------------------------------------------------------------------------------------------

    def _save(
        self, targets: list[Target], streams: Folder | None, parent: Parent, writer: Writer | None, started_ns: int
    ) -> Assembly:
        job = self._job(parent)
        saver = Saver(job)
        queue: deque[Task] = deque()
        long: list[Task] = []  # these would keep this process from handing out work to others
        pools: list[Pool[Task, Answer]] = []  # none while this process works alone

        def submit(task: Task, first: bool) -> None:
            if not pools and (isinstance(task, (Stream, Cut)) or (isinstance(task, Whole) and task.size >= LONG_BYTES)):
                long.append(task)
            elif pools:
                pools[0].submit(task, first=first)
            elif first:
                queue.appendleft(task)
            else:
                queue.append(task)

        def record(pack: Pack) -> None:
            self._packed += pack.payload
            if writer is not None:
                writer.record(pack)

        keep_large_blocks()
        assembly = Assembly(saver, submit, record, self._tell)
        try:
            begin(
                targets, self._options, parent, saver, assembly, submit, self._tell, streams,
                lister=self._ahead.lister, now=started_ns,
            )  # fmt: skip
            self._alone(queue, saver, assembly, FIRST_ALONE_SECONDS if parent.tree is None else ALONE_SECONDS)
            if (queue or long) and not self._cancel.requested:
                with self._estimating(targets), Pool(lambda: Saver(job).answers, self._workers()) as pool:
                    pools.append(pool)
                    if writer is not None:
                        writer.lock.start_renewing()
                    for task in (*long, *queue):
                        pool.submit(task)
                    self._together(pool, saver, assembly, record)
            for pack in saver.store.finish():
                record(pack)
            assembly.take(saver.take_report())
        except BaseException:
            saver.store.discard()
            raise
        if self._cancel.requested:
            raise Cancelled(self._cancel.reason)
        return assembly

    def _job(self, parent: Parent) -> Job:
        options, repository = self._options, self._repository
        offsets: dict[int, int] = {}

        def offset_at(seconds: int) -> int:
            hour = seconds // 900  # zones change at full quarters of an hour
            if hour not in offsets:
                offsets[hour] = self._clock.utc_offset(seconds * 1_000_000_000)
            return offsets[hour]

        return Job(
            repository=repository,
            lister=self._ahead.lister,
            ahead=self._ahead.listings,
            memo=self._memo.load(parent),
            stored=SharedIds(),
            cancel=self._cancel,
            offset_at=offset_at,
            force=options.force,
            verbose=options.verbose,
            dry_run=options.dry_run,
            share_files=self._workers() > 1,
            spool_tag=self._spool_tag,
            sqlite=options.sqlite,
            sources=options.sources,
        )

    def _workers(self) -> int:
        if not self._repository.storage.traits.fork_safe:
            return 0
        if self._options.workers is not None:
            return self._options.workers
        return default_size(self._repository.storage.traits.connections)

    def _alone(self, queue: deque[Task], saver: Saver, assembly: Assembly, seconds: float) -> None:
        """Work in this process for a moment: most backups of a small or unchanged folder end here."""
        deadline = self._clock.monotonic() + seconds
        while queue and self._clock.monotonic() < deadline and not self._cancel.requested:
            for answer in saver.answers(queue.popleft()):
                assembly.take(answer)
            self._tick(assembly)

    def _together(
        self, pool: Pool[Task, Answer], saver: Saver, assembly: Assembly, record: Callable[[Pack], None]
    ) -> None:
        for answer in pool.results():
            if answer is not None:
                assembly.take(answer)
            self._tick(assembly)
            if self._cancel.requested:
                pool.forget_waiting()
        for finished in pool.each(Finish()):
            if isinstance(finished, Finished):
                for pack in finished.packs:
                    record(pack)
                saver.store.take_over(finished.left)

    @contextlib.contextmanager
    def _estimating(self, targets: list[Target]) -> Iterator[None]:
        """Count in a process of its own what there is to do, if somebody looks at the progress."""
        if not self._options.estimate or self._workers() == 0:
            yield
            return
        lister = dataclasses.replace(self._ahead.lister, explain=False)
        with Estimate(targets, lister) as estimate:
            self._estimate = estimate
            yield
        self._estimate = None

    # -- after -----------------------------------------------------------------------------------------------------

    def _count(self, assembly: Assembly, has_targets: bool) -> None:
        summary, counts = self._summary, assembly.counts
        for name in ("files_new", "files_changed", "files_unmodified", "dirs_new", "dirs_changed", "dirs_unmodified",
                     "data_blobs", "tree_blobs", "data_added", "total_bytes", "excluded", "databases"):  # fmt: skip
            setattr(summary, name, getattr(counts, name))
        summary.total_files = counts.files_new + counts.files_changed + counts.files_unmodified
        summary.data_added_packed = self._packed
        if summary.problems:
            summary.outcome = Outcome.PARTIAL
        if self._options.sources and not has_targets and not summary.total_files:
            why = "; ".join(dict.fromkeys(problem.message for problem in summary.problems))
            raise HoldfastError(f"Nothing was saved: {why or 'there is no database to save'}")
        if assembly.root is None:
            raise Invalid(
                "Nothing was left to save: everything was excluded or could not be read.",
                hint="Look at the exclude rules with 'holdfast backup --dry-run -v'.",
            )

    def _snapshot(self, assembly: Assembly, parent: Parent, started_ns: int) -> Snapshot:
        options, summary, clock = self._options, self._summary, self._clock
        assert assembly.root is not None
        ended_ns = clock.now_ns()
        counted = ("files_new", "files_changed", "files_unmodified", "dirs_new", "dirs_changed", "dirs_unmodified",
                   "data_blobs", "tree_blobs", "data_added", "data_added_packed")  # fmt: skip
        block = {
            "backup_start": format_time(started_ns, clock.utc_offset(started_ns)),
            "backup_end": format_time(ended_ns, clock.utc_offset(ended_ns)),
            **{name: getattr(summary, name) for name in counted},
            "total_files_processed": summary.total_files,
            "total_bytes_processed": summary.total_bytes,
        }
        return Snapshot(
            time=format_time(started_ns, clock.utc_offset(started_ns)),
            parent=parent.id,
            tree=assembly.root,
            paths=self._paths,
            hostname=options.hostname,
            username=options.username,
            uid=os.getuid(),
            gid=os.getgid(),
            excludes=options.exclude_texts,
            tags=options.tags,
            program_version=options.program,
            summary=block,
            extra={"description": options.note} if options.note else {},  # rustic's name for a note
        )

    def _tick(self, assembly: Assembly) -> None:
        counts, summary = assembly.counts, self._summary
        done = counts.files_new + counts.files_changed + counts.files_unmodified
        files, size = (self._estimate.totals() if self._estimate else None) or (None, None)
        current, errors = os.fsdecode(assembly.current), len(summary.problems)
        self._emit(Tick("backup", done, counts.total_bytes + assembly.underway, files, size, current, errors))

    def _tell(self, kind: str, path: bytes, why: str) -> None:
        problem = Problem(path, why, "backup")
        if kind == "failed":
            self._summary.problems.append(problem)
        elif kind == "warning":
            self._summary.warnings.append(problem)
        level = {"failed": "error", "warning": "warning"}.get(kind, "info")
        self._emit(Fact(f"item.{kind}", why, level, {"path": path, "why": why}))

    def _remove_dead_locks(self) -> None:
        """A backup that was killed on this machine leaves a lock that would keep restic's check and prune out."""
        if self._repository.locks.patience.on_removed is not None:
            return  # taking our own lock does it: one listing less
        for lock in self._repository.locks.remove_stale():
            message = f"Removed the lock of process {lock.info.pid} of this machine, which is gone."
            self._emit(Fact("lock.removed", message, "info", {"lock": lock.id.hex(), "pid": lock.info.pid}))

    def _pass_over_damage(self, _identifier: bytes, error: HoldfastError) -> None:
        self._emit(Fact("damage.found", f"{error.message} It is passed over; run 'holdfast check'.", "warning"))

    def _sweep_spool(self) -> None:
        """Remove what dead workers of this run left, and any run's that nobody wrote to for a day."""
        sweep_spool(self._repository.storage, self._spool_tag, self._clock.now_ns())
