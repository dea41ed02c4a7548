"""Reads packs once, front to back, and proves every byte of them: name, blobs, header; trees are parsed on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from hashlib import sha256
from typing import NamedTuple

from holdfast.format.accelerated import sha256_each
from holdfast.format.compression import Decompressor
from holdfast.format.crypto import BatchOpener, unseal
from holdfast.format.pack import TRAILER_SIZE, Blob, BlobType, decode_header, encode_header, parse_trailer
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Invalid, NotFound, Unavailable
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository, layout
from holdfast.vaults.archive.check.findings import listed
from holdfast.vaults.archive.check.index import Catalogue
from holdfast.vaults.archive.check.trees import Parsed, TreeParser
from holdfast.vaults.archive.window import PackWindow

WINDOW = 1 << 20  # bytes read, hashed and opened at a time: stays in the cache of one core
_HASHED_TOGETHER = 1 << 20  # plaintext: what is decompressed stays in the cache until it is hashed
PART = 2 << 20  # stored bytes of trees in one task: they take five times as long as data


class ReadPack(NamedTuple):
    """Read one pack, or the ``part``-th of ``parts`` equal stretches of it (blobs belong to where they begin).

    ``blobs``: look at the blobs there; with ``trees_only`` just at those of trees. ``whole``: prove name and header.
    """

    pack: int
    part: int = 0
    parts: int = 1
    blobs: bool = True
    trees_only: bool = False
    whole: bool = True


@dataclass(slots=True)
class PackReport:
    """What reading brought to light: ``reasons`` in words, ids of ``lost`` blobs, what a second read found
    ``unsteady``.

    ``failure`` is why nothing could be read at all. ``last`` marks the last report of its task.
    """

    task: ReadPack
    bytes_read: int = 0
    kind: str = "pack.corrupt"
    reasons: list[str] = field(default_factory=list)
    lost: set[bytes] = field(default_factory=set)
    unsteady: list[str] = field(default_factory=list)
    failure: HoldfastError | None = None
    trees: Parsed | None = None


class PackReader:
    """One process's reader, with buffers that are never given back.
    Looks blobs up in the catalogue of before the fork.
    """

    def __init__(self, repository: Repository, catalogue: Catalogue, cancel: Cancel) -> None:
        self._master = repository.master
        self._catalogue = catalogue
        self._cancel = cancel
        self._opener = BatchOpener(repository.master)
        self._decompress = Decompressor().decompress
        self._trees = TreeParser(catalogue)
        self._window = PackWindow(repository.storage)
        self._known: tuple[int, list[Blob]] = (-1, [])

    def answers(self, task: ReadPack) -> Iterable[PackReport]:
        """Do one task. What is wrong is read a second time before it is reported."""
        report = self._read(task)
        if report.reasons:
            again = self._read(task)
            if not again.reasons:
                again.unsteady = report.reasons
            report = again
        return (report,)

    def _read(self, task: ReadPack) -> PackReport:
        report = PackReport(task)
        name = layout.name_of(layout.DATA, self._catalogue.index.packs[task.pack])
        blobs = self._blobs(task)
        self._window.expect(name, self._spans(task, blobs))
        try:
            if task.whole:
                self._prove(name, task, blobs if task.blobs else [], report)
            else:
                for _ in self._stretches(name, blobs, report):
                    pass
        except NotFound:
            report.kind = "pack.missing"
            report.reasons.append("it is not there")
            report.lost.update(blob.id for blob in blobs)
        except (Unavailable, Denied, Corrupt, Invalid) as error:
            report.kind = "pack.unreadable"
            report.reasons.append(error.message)
            report.lost.update(blob.id for blob in blobs)
            report.failure = error
        if report.lost:
            report.reasons.append(f"damaged blobs: {listed(report.lost)}")
        report.trees = self._trees.take()
        return report

    def _blobs(self, task: ReadPack) -> list[Blob]:
        number, blobs = self._known
        if number != task.pack:
            blobs = self._catalogue.index.blobs_of(self._catalogue.index.packs[task.pack])
            self._known = task.pack, blobs
        if task.parts > 1:
            size = self._catalogue.expected[task.pack]
            begin, end = size * task.part // task.parts, size * (task.part + 1) // task.parts
            blobs = [blob for blob in blobs if begin <= blob.offset < end]
        if task.trees_only:
            blobs = [blob for blob in blobs if blob.type == BlobType.TREE]
        return blobs

    def _spans(self, task: ReadPack, blobs: list[Blob]) -> list[tuple[int, int]]:
        """What of the pack will be looked at, as (begin, end)."""
        if task.whole:
            return [(0, self._catalogue.expected[task.pack] + 1)]  # one more, to see where it ends
        return [(blob.offset, blob.offset + blob.length) for blob in blobs]

    # -- the whole pack --------------------------------------------------------------------------------------------

    def _prove(self, name: str, task: ReadPack, blobs: list[Blob], report: PackReport) -> None:
        """Name, header and (where they are asked for) blobs. Without gaps each byte is read once for all of it."""
        everything = self._known[1]
        digest = sha256()
        at = 0
        if task.pack in self._catalogue.broken or not blobs:
            for _ in self._stretches(name, blobs, report):
                pass
        else:
            for piece in self._stretches(name, blobs, report):
                digest.update(piece)
                at += len(piece)
        tail = b""
        keep = self._catalogue.expected[task.pack] - (
            everything[-1].offset + everything[-1].length if everything else 0
        )
        end = self._catalogue.expected[task.pack]
        while piece := self._window.read(at, min(WINDOW, end + 1 - at) if at <= end else WINDOW):
            digest.update(piece)
            tail = (tail + piece)[-keep:]
            at += len(piece)
        report.bytes_read = at
        if digest.digest() != self._catalogue.index.packs[task.pack]:
            report.reasons.append("its content does not match its name")
        try:
            self._prove_header(tail, everything)
        except Corrupt as error:
            report.reasons.append(error.message)

    def _prove_header(self, tail: bytes, blobs: list[Blob]) -> None:
        length = parse_trailer(tail[-TRAILER_SIZE:])
        sealed = tail[-TRAILER_SIZE - length : -TRAILER_SIZE]
        if len(sealed) != length:
            raise Corrupt("its header length is wrong")
        try:
            header = unseal(self._master, sealed)
        except Corrupt as error:
            raise Corrupt(f"its header is damaged: {error.message}") from error
        if header != encode_header(blobs):
            decode_header(header)
            raise Corrupt("its header and the index differ")

    # -- blobs -----------------------------------------------------------------------------------------------------

    def _stretches(self, name: str, blobs: list[Blob], report: PackReport) -> Iterator[memoryview]:
        """Read neighbouring blobs a window at a time, prove them, and yield the bytes that were read."""
        for group in _neighbours(blobs):
            self._cancel.check()
            begin = group[0].offset
            size = group[-1].offset + group[-1].length - begin
            stretch = self._window.read(begin, size)
            count = len(stretch)
            if count < size:
                report.lost.update(blob.id for blob in group if blob.offset - begin + blob.length > count)
                group = [blob for blob in group if blob.offset - begin + blob.length <= count]
            yield stretch
            self._prove_blobs(stretch, begin, group, report)

    def _prove_blobs(self, stretch: memoryview, begin: int, blobs: list[Blob], report: PackReport) -> None:
        decompress = self._decompress
        units = [stretch[blob.offset - begin : blob.offset - begin + blob.length] for blob in blobs]
        waiting: list[tuple[Blob, bytes]] = []
        size = 0
        for blob, plain in zip(blobs, self._opener.open(units), strict=True):
            if plain is not None and blob.raw_length is not None:
                try:
                    plain = decompress(plain, size=blob.raw_length)
                except Corrupt:
                    plain = None
            if plain is None:
                report.lost.add(blob.id)
                continue
            waiting.append((blob, plain))
            size += len(plain)
            if size >= _HASHED_TOGETHER:
                self._prove_content(waiting, report)
                waiting, size = [], 0
        self._prove_content(waiting, report)

    def _prove_content(self, opened: list[tuple[Blob, bytes]], report: PackReport) -> None:
        digests = sha256_each([plain for _, plain in opened])
        for (blob, plain), digest in zip(opened, digests, strict=True):
            if digest != blob.id:
                report.lost.add(blob.id)
            elif blob.type is BlobType.TREE:
                self._trees.add(blob.id, plain)


def _neighbours(blobs: list[Blob]) -> Iterator[list[Blob]]:
    """Runs of blobs that lie back to back, at most a window long (one blob may be longer)."""
    run: list[Blob] = []
    size = end = 0
    for blob in blobs:
        length = blob.length
        if run and (blob.offset != end or size + length > WINDOW):
            yield run
            run, size = [], 0
        run.append(blob)
        size += length
        end = blob.offset + length
    if run:
        yield run
