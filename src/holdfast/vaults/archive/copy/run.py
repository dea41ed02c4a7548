"""Copy snapshots into another archive vault: choose, find what is missing there, carry it over, commit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import field

from holdfast.format.crypto import OVERHEAD
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, HoldfastError, Invalid
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.heap import keep_large_blocks
from holdfast.kernel.ids import SnapshotId, short
from holdfast.kernel.pool import Pool, default_size
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository, Writer, writing
from holdfast.repository.locks import Lock
from holdfast.repository.packer import Pack, sweep_spool
from holdfast.vaults.archive.copy.carry import Carried, Carrier, Carry, Finish, Job
from holdfast.vaults.archive.copy.select import Stored, as_copied, missing
from holdfast.vaults.archive.reach import Reached, reach
from holdfast.vaults.base import Outcome, Problem

ALONE_BYTES = 8 << 20  # less than this is carried without worker processes


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How to copy. ``read_back`` reads every new pack from the target and compares its hash before it counts."""

    read_back: bool = True
    dry_run: bool = False
    workers: int | None = None


@dataclass(slots=True)
class CopySummary:
    """What a copy did, or in a dry run would do.

    ``copied`` pairs each source id with the id in the target (None in a dry run); ``already`` were there before.
    ``bytes`` is plaintext, ``stored`` what the new packs occupy. ``same_cutting`` tells whether both vaults cut files
    alike: if not, what the target saves by itself shares no data with what was copied into it.
    """

    outcome: Outcome = Outcome.OK
    copied: list[tuple[SnapshotId, SnapshotId | None]] = field(default_factory=list)
    already: int = 0
    blobs: int = 0
    bytes: int = 0
    stored: int = 0
    packs: int = 0
    same_cutting: bool = True
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)


def copy(
    source: Repository,
    target: Repository,
    wanted: Sequence[Stored],
    options: CopyOptions,
    *,
    emit: Emit,
    cancel: Cancel,
    source_lock: Lock | None = None,
) -> CopySummary:
    """Bring the snapshots ``wanted`` of ``source`` into ``target``, with all that they need and that is not there.

    The caller holds ``source_lock`` (or chose not to), listed ``wanted`` before that, and has loaded the source's
    index. Every blob is proved against its hash on its way; a snapshot is committed when all its blobs are durable
    in the target. A snapshot whose data is damaged in the source is a problem and is left out, whole; the others
    are copied. Data keeps its cutting and its compression.

    After a crash the target holds no snapshot more, but what had arrived is in its index (at the latest after five
    minutes) and the next copy goes on from there. Raises ``Invalid`` for a vault copied into itself, ``Cancelled``,
    ``Corrupt`` where the target does not give back what it was given, and the storages' errors.
    """
    return _Copy(source, target, options, emit, cancel, source_lock).run(wanted)


class _Copy:
    """One copy: the order of its steps and what they share."""

    def __init__(
        self,
        source: Repository,
        target: Repository,
        options: CopyOptions,
        emit: Emit,
        cancel: Cancel,
        source_lock: Lock | None,
    ) -> None:
        if source.storage.location == target.storage.location:
            raise Invalid("A vault cannot be copied into itself.", hint="Name two different vaults.")
        self._source = source
        self._target = target
        self._options = options
        self._emit = emit
        self._cancel = cancel
        self._source_lock = source_lock
        self._spool_tag = f"{os.getpid()}-{os.urandom(4).hex()}-"  # two containers may have the same process number
        self._summary = CopySummary(same_cutting=source.config.polynomial == target.config.polynomial)
        self._failed: dict[bytes, str | None] = {}
        self._total = 0
        self._total_bytes = 0

    def run(self, wanted: Sequence[Stored]) -> CopySummary:
        clock = self._target.clock
        began = clock.monotonic()
        with contextlib.ExitStack() as stack:
            writer = None if self._options.dry_run else stack.enter_context(writing(self._target))
            there = self._target.snapshots(self._pass_over)
            new = missing(there, wanted)
            self._summary.already = len(wanted) - len(new)
            if new:
                self._target.load_index(self._pass_over)
                stack.callback(self._sweep_spool)
                new = self._bring(new, writer)
            self._commit(new, writer)
        summary = self._summary
        if summary.problems:
            summary.outcome = Outcome.PARTIAL
        summary.seconds = clock.monotonic() - began
        return summary

    # -- finding out -----------------------------------------------------------------------------------------------

    def _needed(self, new: Sequence[Stored]) -> memoryview:
        """Marks by entry number of the source's index: what these snapshots use and the target lacks."""
        reached = self._reach(new)
        marks = reached.marks
        self._failed |= dict.fromkeys(reached.lost)
        has, id_of = self._target.index.has, self._source.index.id_of
        for number in (number for number, mark in enumerate(marks) if mark):
            if has(id_of(number)):
                marks[number] = 0
        return marks

    def _reach(self, snapshots: Sequence[Stored]) -> Reached:
        return reach(
            self._source,
            [snapshot.tree for _, snapshot in snapshots],
            emit=self._emit,
            cancel=self._cancel,
            workers=self._options.workers,
            on_damage=lambda _blob, error: self._emit(Fact("damage.found", error.message, "error")),
        )

    # -- bringing --------------------------------------------------------------------------------------------------

    def _bring(self, new: Sequence[Stored], writer: Writer | None) -> list[Stored]:
        """Carry everything over that the snapshots need; those of them that are whole in the target now."""
        needed = self._needed(new)
        index = self._source.index
        marked = [number for number, mark in enumerate(needed) if mark]
        packs = sorted({index.pack_number(number) for number in marked})
        self._total = len(marked)
        self._total_bytes = sum(plain_size(*index.entry(number)[2:]) for number in marked)
        if writer is None:
            self._summary.blobs, self._summary.bytes = self._total, self._total_bytes
        elif packs:
            self._carry(needed, packs, writer)
        if not self._failed:
            return list(new)
        return [stored for stored in new if self._is_whole(stored)]

    def _carry(self, needed: memoryview, packs: Sequence[int], writer: Writer) -> None:
        job = Job(self._source, self._target, needed, self._options.read_back, self._spool_tag, self._cancel)
        keep_large_blocks()
        own = Carrier(job)
        try:
            with Pool(lambda: Carrier(job).answers, self._workers()) as pool:
                writer.lock.start_renewing()
                if self._source_lock is not None:
                    self._source_lock.start_renewing()
                for number in packs:
                    pool.submit(Carry(number))
                for answer in pool.results():
                    self._take(answer, writer)
                    if self._cancel.requested:
                        pool.forget_waiting()
                for answer in pool.each(Finish()):
                    self._take(answer, writer)
                    own.take_over(answer.left)
            self._record(own.finish(), writer)
            self._cancel.check()
        except Cancelled:
            self._cancel.check()  # raised by a worker it lacks the reason, which only this process knows
            raise
        finally:
            own.discard()

    def _workers(self) -> int:
        traits = (self._source.storage.traits, self._target.storage.traits)
        if not all(trait.fork_safe for trait in traits):
            return 0
        if self._options.workers is not None:
            return self._options.workers
        if self._total_bytes < ALONE_BYTES:
            return 0
        return default_size(max(trait.connections for trait in traits))

    def _take(self, answer: Carried | None, writer: Writer) -> None:
        summary = self._summary
        if answer is not None:
            summary.blobs += answer.blobs
            summary.bytes += answer.size
            for blob, why in answer.failed:
                self._failed[blob] = why
                self._emit(Fact("damage.found", why, "error", {"blob": blob.hex()}))
            self._record(answer.packs, writer)
        self._emit(Tick("copy", summary.blobs, summary.bytes, self._total, self._total_bytes, errors=len(self._failed)))

    def _record(self, packs: Sequence[Pack], writer: Writer) -> None:
        for pack in packs:
            self._summary.packs += 1
            self._summary.stored += pack.size
            writer.record(pack)

    def _is_whole(self, stored: Stored) -> bool:
        """Whether nothing that could not be brought belongs to this snapshot; if not, it is told."""
        reached = self._reach([stored])
        find = self._source.index.copies
        used = (number for blob in self._failed for tree in (True, False) for number in find(blob, tree=tree))
        if not reached.lost and not any(reached.marks[number] for number in used):
            return True
        identifier, snapshot = stored
        why = f"Snapshot {short(identifier)} needs data that is damaged in the source; it was not copied."
        self._summary.problems.append(Problem(os.fsencode(short(identifier)), why, "copy"))
        data = {"snapshot": identifier.hex(), "time": snapshot.time}
        self._emit(Fact("item.failed", why, "error", data))
        return False

    # -- committing ------------------------------------------------------------------------------------------------

    def _commit(self, new: Sequence[Stored], writer: Writer | None) -> None:
        for identifier, snapshot in new:
            made = None
            if writer is not None:
                made = writer.commit(as_copied(identifier, snapshot))
                message = f"Snapshot {short(identifier)} copied as {short(made)}."
                self._emit(Fact("snapshot.copied", message, data={"from": identifier.hex(), "to": made.hex()}))
            self._summary.copied.append((identifier, made))

    def _pass_over(self, _identifier: bytes, error: HoldfastError) -> None:
        self._emit(Fact("damage.found", f"{error.message} It is passed over; run 'holdfast check'.", "warning"))

    def _sweep_spool(self) -> None:
        sweep_spool(self._target.storage, self._spool_tag, self._target.clock.now_ns())


def plain_size(length: int, raw_length: int) -> int:
    """Bytes of plaintext of a blob that is stored in ``length`` bytes (``raw_length`` 0: not compressed)."""
    return raw_length or length - OVERHEAD
