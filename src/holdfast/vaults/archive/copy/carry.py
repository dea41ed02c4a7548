"""What one process does in a copy: read blobs of a pack, prove them, seal them anew, and prove what arrived."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import field
from hashlib import sha256
from typing import NamedTuple

from holdfast.format.compression import Decompressor
from holdfast.format.crypto import BatchOpener
from holdfast.format.pack import Blob, BlobType
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Denied, NotFound
from holdfast.kernel.ids import BlobId, short
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository, layout
from holdfast.repository.packer import OpenPack, Pack, Packer

RUN, FAR_RUN = 1 << 20, 16 << 20
"""Bytes that are read together: within the cache of a core; whole packs where every read waits for a network."""

GAP = 64 << 10
"""Bytes between two needed blobs that are rather read than skipped."""

SMALLEST_PACK = 4 << 20
"""What a worker leaves unfinished below this is merged by the parent (restic's smallest pack size)."""

_READ_BACK = 4 << 20


@dataclass(frozen=True, slots=True)
class Carry:
    """Bring the needed blobs of the source's pack number ``pack``."""

    pack: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Close what is worth a pack, set the rest down."""


class Failed(NamedTuple):
    """A blob that could not be brought, and why."""

    blob: BlobId
    why: str


@dataclass(slots=True)
class Carried:
    """What came of a task: bytes of plaintext and blobs brought, failures, and packs that are durable and proved."""

    blobs: int = 0
    size: int = 0
    failed: list[Failed] = field(default_factory=list)
    packs: list[Pack] = field(default_factory=list)
    left: list[OpenPack] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """What all processes of a copy share. ``needed`` marks the source's index entries that are to be brought."""

    source: Repository
    target: Repository
    needed: memoryview
    read_back: bool
    spool_tag: str
    cancel: Cancel


class Carrier:
    """One process's readers and packers."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._storage = job.source.storage
        self._far = self._storage.traits.connections > 1
        self._opener = BatchOpener(job.source.master)
        self._decompress = Decompressor().decompress
        self._memory = memoryview(mmap.mmap(-1, RUN + GAP))
        self._packers = [
            Packer(
                job.target.storage,
                job.target.master,
                kind,
                job.target.draw,
                spool_tag=job.spool_tag,
                compress=job.target.config.version > 1,
            )
            for kind in (BlobType.DATA, BlobType.TREE)
        ]

    def answers(self, task: Carry | Finish) -> Iterator[Carried]:
        """Do one task."""
        done = Carried()
        if isinstance(task, Finish):
            for packer in self._packers:
                left = packer.leave_open(SMALLEST_PACK)
                if left is not None:
                    done.left.append(left)
        else:
            self._carry(task.pack, done)
        self._hand_over(done)
        yield done

    def take_over(self, left: Sequence[OpenPack]) -> None:
        """Go on with what other processes left."""
        for open_pack in left:
            self._packers[open_pack.type].take_over(open_pack)

    def finish(self) -> list[Pack]:
        """Close everything; the last packs, proved."""
        done = Carried()
        for packer in self._packers:
            done.packs += packer.finish()
        self._prove(done.packs)
        return done.packs

    def discard(self) -> None:
        """Drop what is unfinished."""
        for packer in self._packers:
            packer.discard()

    def _hand_over(self, done: Carried) -> None:
        for packer in self._packers:
            done.packs += packer.finished
            packer.finished = []
        self._prove(done.packs)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _carry(self, number: int, done: Carried) -> None:
        name = layout.name_of(layout.DATA, self._job.source.index.packs[number])
        for run in _runs(self._needed_of(number), FAR_RUN if self._far else RUN):
            self._job.cancel.check()
            begin, end = run[0].offset, run[-1].offset + run[-1].length
            if end - begin > len(self._memory):
                self._memory = memoryview(mmap.mmap(-1, end - begin))
            view = self._memory[: end - begin]
            self._bring(run, self._fill(name, view, begin), begin, done)

    def _needed_of(self, number: int) -> list[Blob]:
        """The blobs of a pack whose copy there is the one to be brought, in the order of offsets."""
        index, needed = self._job.source.index, self._job.needed
        begin = index.first_entry(number)
        blobs = index.blobs_of(index.packs[number])
        mine = [blob for entry, blob in enumerate(blobs, begin) if needed[entry]]
        return sorted(mine, key=lambda blob: blob.offset)

    def _fill(self, name: str, view: memoryview, begin: int) -> memoryview:
        """What could be read of a range; nothing where the pack is gone or cannot be read."""
        try:
            return view[: self._storage.read_into(name, view, begin)]
        except (NotFound, Denied, Corrupt):
            return view[:0]

    def _bring(self, run: list[Blob], view: memoryview, begin: int, done: Carried) -> None:
        opened = self._opener.open([view[blob.offset - begin : blob.offset - begin + blob.length] for blob in run])
        keeps_frames = self._job.target.config.version > 1
        for blob, payload in zip(run, opened, strict=True):
            packer = self._packers[blob.type]
            plain = None if payload is None else self._proved(blob, payload)
            if plain is None:
                try:
                    plain = self._job.source.read_blob(blob.id)  # tries once more, and every other copy
                except (Corrupt, NotFound, Denied) as error:
                    done.failed.append(Failed(blob.id, error.message))
                    continue
                packer.add(blob.id, plain)
            elif payload is not None and blob.raw_length is not None and keeps_frames:
                packer.add_frame(blob.id, payload, len(plain))
            else:
                packer.add(blob.id, plain)
            done.blobs += 1
            done.size += len(plain)

    def _proved(self, blob: Blob, payload: bytes) -> bytes | None:
        """The plaintext if it hashes to its id."""
        try:
            plain = payload if blob.raw_length is None else self._decompress(payload, size=blob.raw_length)
        except Corrupt:
            return None
        return plain if sha256(plain).digest() == blob.id else None

    # -- arrival ---------------------------------------------------------------------------------------------------

    def _prove(self, packs: Sequence[Pack]) -> None:
        """Read back what the target has just stored. Raises ``Corrupt``: such a pack must not come into the index."""
        if not self._job.read_back:
            return
        storage = self._job.target.storage
        for pack in packs:
            name = layout.name_of(layout.DATA, pack.id)
            step = FAR_RUN if storage.traits.connections > 1 else _READ_BACK
            digest = sha256()
            for offset in range(0, pack.size, step):
                self._job.cancel.check()
                digest.update(storage.read(name, offset, min(step, pack.size - offset)))
            if digest.digest() != pack.id:
                raise Corrupt(
                    f"The pack {short(pack.id)} came back from {storage.location} with other bytes than were sent.",
                    hint="Nothing refers to it yet. Look at that disk or server before you trust it with copies.",
                    pack=pack.id.hex(),
                )


def _runs(blobs: Sequence[Blob], limit: int) -> Iterator[list[Blob]]:
    """Blobs in the order of offsets, in runs worth reading in one go (one blob may be longer than the limit)."""
    run: list[Blob] = []
    for blob in blobs:
        if run:
            stop = run[-1].offset + run[-1].length
            if blob.offset > stop + GAP or blob.offset + blob.length - run[0].offset > limit:
                yield run
                run = []
        run.append(blob)
    if run:
        yield run
