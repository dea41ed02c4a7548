"""Prune an archive vault: everything up to the deletion beside running backups, the deletion alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Denied, Locked
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.ids import PackId, short
from holdfast.kernel.pool import default_size
from holdfast.repository import Repository, Writer, layout, writing
from holdfast.repository.packer import Pack, sweep_spool
from holdfast.vaults.archive.prune.delete import Deletion, Doomed
from holdfast.vaults.archive.prune.model import PruneOptions, PruneSummary
from holdfast.vaults.archive.prune.plan import Plan, plan
from holdfast.vaults.archive.prune.repack import Copied, repack
from holdfast.vaults.archive.prune.survey import Survey, survey, unsound
from holdfast.vaults.archive.reach import reach
from holdfast.vaults.base import Outcome

ALONE_BYTES = 4 << 20  # packs of fewer bytes together are copied by this process
_SHOWN = 5
_HINT = "Nothing was deleted. 'holdfast check' tells what is touched, 'holdfast repair packs' mends what can be mended."


def prune(repository: Repository, options: PruneOptions, *, emit: Emit, cancel: Cancel) -> PruneSummary:
    """Remove what no snapshot uses.

    First, under a shared lock and beside running backups: find out what is used, copy it out of packs that are to go,
    and make that durable, index included. Then, under an exclusive lock, which waits for others as patiently as
    ``repository.locks`` does: read the snapshots made meanwhile, spare what they use, write the final index, delete.
    The exclusive lock is not taken when there is nothing to delete.

    A crash, an error or a stop at any moment leaves every snapshot whole and the next prune goes on with the rest.
    Raises ``Corrupt`` before anything is changed if anything that a snapshot needs is missing or a tree is damaged;
    ``Locked`` if the vault is not free (what was copied by then is kept); ``Denied`` for a vault that cannot be deleted
    from; ``Cancelled``. A damaged blob that is found while copying keeps its pack; it is told as ``damage.found`` and
    in the summary. Nothing but a lock is written by a dry run.
    """
    return _Prune(repository, options, emit, cancel).run()


class _Prune:
    """One prune: the order of its steps and what they share."""

    def __init__(self, repository: Repository, options: PruneOptions, emit: Emit, cancel: Cancel) -> None:
        self._repository = repository
        self._options = options
        self._emit = emit
        self._cancel = cancel
        self._summary = PruneSummary(dry_run=options.dry_run)
        self._spool_tag = f"{os.getpid()}-{os.urandom(4).hex()}-"  # two containers may have the same process number
        self._roots: set[bytes] = set()

    def run(self) -> PruneSummary:
        clock, summary = self._repository.clock, self._summary
        began = clock.monotonic()
        self._refuse_undeletable()
        with writing(self._repository) as writer:
            found = self._survey(writer)
            chosen = plan(found, self._options, version=self._repository.config.version, snapshots=self._snapshots)
            summary.figures = chosen.figures
            self._cancel.check()
            doomed = None
            if not self._options.dry_run:
                copied = self._repack(found, chosen, writer)
                doomed = self._doom(found, chosen, copied)
        if doomed is not None and (doomed.packs or doomed.orphans or self._has_doubles()):
            self._delete(doomed)
        if summary.damaged_packs or summary.outcome is not Outcome.OK:
            summary.outcome = Outcome.PARTIAL
        summary.seconds = clock.monotonic() - began
        return summary

    def _refuse_undeletable(self) -> None:
        traits = self._repository.storage.traits
        if not self._options.dry_run and (traits.append_only or traits.read_only):
            raise Denied(
                "Nothing can be deleted from this vault: it is used append-only or read-only.",
                hint="Prune it from a machine that has the right to delete.",
            )

    # -- beside others ---------------------------------------------------------------------------------------------

    def _survey(self, writer: Writer) -> Survey:
        """Snapshots, then the index, then trees, then packs: so whatever a snapshot needs is seen."""
        repository = self._repository
        snapshots = repository.snapshots()
        self._snapshots = len(snapshots)
        self._roots = {bytes(snapshot.tree) for _, snapshot in snapshots}
        self._emit(Tick("index"))
        repository.reload_index()
        reached = reach(
            repository,
            self._roots,
            emit=self._emit,
            cancel=self._cancel,
            workers=self._options.workers,
            forked=writer.lock.start_renewing,
        )
        writer.lock.stop_renewing()
        self._emit(Tick("plan"))
        found = survey(repository.index, reached, self._packs())
        if lost := unsound(repository.index, found):
            self._refuse(found, lost)
        return found

    def _packs(self) -> Iterator[tuple[PackId, int]]:
        """Every pack in the storage with its size. One that lies where nobody looks for it is as good as not there."""
        for pack, info in layout.listing(self._repository.storage, layout.DATA):
            if info.name == layout.name_of(layout.DATA, pack):
                yield PackId(pack), info.size

    def _refuse(self, found: Survey, lost: Mapping[int, int]) -> None:
        packs = self._repository.index.packs
        names = ", ".join(short(packs[pack]) for pack in list(lost)[:_SHOWN]) + (", ..." if len(lost) > _SHOWN else "")
        raise Corrupt(
            f"{len(lost):,} packs that snapshots need are missing or have the wrong size ({names}).",
            hint=_HINT,
            packs=[packs[pack].hex() for pack in lost],
        )

    def _repack(self, found: Survey, chosen: Plan, writer: Writer) -> set[int]:
        """Copy; the packs that were copied as a whole. All that was copied is durable and in the index after this."""
        copied: set[int] = set()
        total, done = chosen.figures.repack_bytes, 0

        def record(pack: Pack) -> None:
            self._summary.new_packs += 1
            self._summary.new_bytes += pack.size
            writer.record(pack)

        if not chosen.repack:
            return copied
        # A place that lets nobody delete must say so before copies are made that nobody could remove again.
        self._repository.storage.delete(layout.name_of(layout.DATA, self._repository.draw(32)))
        answers = repack(
            self._repository,
            found.keep,
            chosen.repack,
            cancel=self._cancel,
            workers=self._workers(total),
            recompress=self._options.repack_uncompressed,
            spool_tag=self._spool_tag,
            record=record,
            forked=writer.lock.start_renewing,
        )
        try:
            for answer in answers:
                if answer is not None:
                    done += found.found[answer.pack]
                    if answer.damaged:
                        self._keep_damaged(answer)
                    else:
                        copied.add(answer.pack)
                self._emit(Tick("repack", len(copied), done, len(chosen.repack), total))
        finally:
            answers.close()
            sweep_spool(self._repository.storage, self._spool_tag, self._repository.clock.now_ns())
        writer.save_index()
        return copied

    def _workers(self, size: int) -> int:
        traits = self._repository.storage.traits
        if not traits.fork_safe:
            return 0
        if self._options.workers is not None:
            return self._options.workers
        return default_size(traits.connections) if size >= ALONE_BYTES else 0

    def _keep_damaged(self, answer: Copied) -> None:
        index = self._repository.index
        pack = index.packs[answer.pack]
        blobs = [index.id_of(number) for number, _ in answer.damaged]
        self._summary.damaged_packs.append(pack.hex())
        self._emit(
            Fact(
                "damage.found",
                f"Pack {short(pack)} stays: {len(blobs):,} blobs in it that snapshots need are damaged "
                f"({', '.join(map(short, blobs[:_SHOWN]))}{', ...' if len(blobs) > _SHOWN else ''}).",
                "error",
                {"pack": pack.hex(), "blobs": [blob.hex() for blob in blobs]},
            )
        )

    # -- alone -----------------------------------------------------------------------------------------------------

    def _doom(self, found: Survey, chosen: Plan, copied: set[int]) -> Doomed:
        index = self._repository.index
        leaving = [*chosen.remove, *(pack for pack in chosen.repack if pack in copied)]
        packs = {index.packs[pack]: found.found[pack] for pack in leaving}
        packs.update((index.packs[pack], 0) for pack in chosen.gone)
        known = set(self._repository.packs_of_file)
        return Doomed(packs, dict(chosen.orphans), found.used, self._roots, known)

    def _has_doubles(self) -> bool:
        """Whether several index files name the same pack: left by a crash while an index was replaced."""
        contents = self._repository.packs_of_file.values()
        return sum(map(len, contents)) > len(self._repository.index.packs)

    def _delete(self, doomed: Doomed) -> None:
        summary = self._summary
        size = sum(doomed.packs.values()) + sum(doomed.orphans.values())
        waiting = len(doomed.packs) + len(doomed.orphans)
        with contextlib.ExitStack() as stack:
            try:
                lock = stack.enter_context(self._repository.locks.hold(exclusive=True))
            except Locked as error:
                raise Locked(
                    f"{waiting:,} packs are ready to be deleted, but others use the vault: {error.message}",
                    hint=f"Nothing is lost. Run it again later, or with --retry-lock 1h to wait. {error.hint}".rstrip(),
                    waiting_packs=waiting,
                    waiting_bytes=size,
                    **error.context,
                ) from error
            done = Deletion(self._repository, doomed, lock, self._emit, self._cancel, self._options.workers).run()
        summary.removed_packs, summary.removed_bytes = done.packs, done.size
        summary.rescued_packs, summary.index_files = done.rescued, done.index_files
        if done.undeleted:
            summary.outcome = Outcome.PARTIAL
        message = f"{done.packs:,} packs were deleted."
        self._emit(Fact("prune.deleted", message, "info", {"packs": done.packs, "bytes": done.size}))
