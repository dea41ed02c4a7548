"""What of a snapshot a drill restores, and what the vault says of it: rows for those who compare."""

from __future__ import annotations

import marshal
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from holdfast.files.chosen import Chosen
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt
from holdfast.sources.base import PLACE
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.drill.model import DrillOptions, Dump
from holdfast.vaults.items import Browsable, Item, walk

FILE, LINK, FOLDER = 0, 1, 2

Row = tuple[int, bytes, int, int, int, bytes, tuple[tuple[bytes, int], ...], bool]
"""Kind; path in the snapshot; size of the file; time of change in nanoseconds since 1970; where the pieces begin; the
target of a link; (SHA-256, length) of pieces; whether there may be an original to compare with."""

DUMPS = b"/" + b"/".join(PLACE) + b"/"
_ROWS, _BYTES = 500, 32 << 20
"""Most of both in one batch: some 20 ms of work, and bigger files are compared by several processes."""


@dataclass(slots=True)
class Listing:
    """``batches`` are marshalled lists of rows. ``chosen`` None: everything. ``unlisted`` could not be told: (path,
    why). ``passed_over`` counts files that are not in the sample. The totals are of files."""

    batches: list[bytes] = field(default_factory=list)
    chosen: Chosen | None = None
    files: int = 0
    size: int = 0
    files_total: int = 0
    size_total: int = 0
    passed_over: int = 0
    dumps: list[Dump] = field(default_factory=list)
    unlisted: list[tuple[bytes, str]] = field(default_factory=list)


def list_snapshot(browser: Browsable, snapshot: SnapshotInfo, options: DrillOptions, cancel: Cancel) -> Listing:
    """Walk the snapshot once, and choose. Memory: about 150 bytes a file that is chosen, 100 more for a sample.

    Damaged folders are told to whoever made ``browser``. Raises ``Cancelled``, and the vault's errors.
    """
    listing = Listing()
    gather = _Gather(browser, listing, _below(snapshot, options.hosts), keep=options.sample is None)
    for item in walk(browser, browser.find(snapshot, b"")):
        cancel.check()
        gather.take(item)
    if options.sample is not None:
        wanted = options.sample.of(listing.size_total)
        _choose(gather, listing, options, wanted)
    gather.end_batch()
    return listing


class _Gather:
    """Turns items into rows and rows into batches. Without ``keep`` the rows of files wait to be chosen from."""

    def __init__(self, browser: Browsable, listing: Listing, below: tuple[tuple[bytes, ...], set[bytes]], keep: bool):
        self._browser = browser
        self._listing = listing
        self._prefixes, self._exact = below
        self._keep = keep
        self._rows: list[Row] = []
        self._size = 0
        self.waiting: list[Row] = []

    def take(self, item: Item) -> None:
        kind, path = item.kind, item.path
        if kind == "file":
            self._file(item, path)
        elif kind == "dir":
            if self._keep:
                self._put((FOLDER, path, 0, 0, 0, b"", (), False), 0)
        elif kind == "symlink" and self._keep:
            try:
                target = item.entry.linktarget or b""
            except Corrupt as error:
                self._listing.unlisted.append((path, error.message))
                return
            self._put((LINK, path, 0, 0, 0, target, (), False), 0)

    def _file(self, item: Item, path: bytes) -> None:
        listing, size = self._listing, item.size
        listing.files_total += 1
        listing.size_total += size
        if path.startswith(DUMPS):
            listing.dumps.append(Dump(path, size))
        try:
            pieces = tuple(self._browser.pieces(item))
        except Corrupt as error:
            listing.unlisted.append((path, error.message))
            return
        original = path.startswith(self._prefixes) or path in self._exact
        row = (FILE, path, size, item.mtime_ns, 0, b"", pieces, original)
        if self._keep:
            self.choose(row)
        else:
            self.waiting.append(row)

    def choose(self, row: Row) -> None:
        """Have this file restored and compared. Bigger ones become several rows."""
        kind, path, size, mtime, _, target, pieces, original = row
        self._listing.files += 1
        self._listing.size += size
        at = first = held = 0
        for number, (_, length) in enumerate(pieces):
            if held and held + length > _BYTES:
                self._put((kind, path, size, mtime, at, target, pieces[first:number], original), held)
                at, first, held = at + held, number, 0
            held += length
        self._put((kind, path, size, mtime, at, target, pieces[first:], original), held)

    def _put(self, row: Row, size: int) -> None:
        if self._rows and (len(self._rows) >= _ROWS or self._size + size > _BYTES):
            self.end_batch()
        self._rows.append(row)
        self._size += size

    def end_batch(self) -> None:
        if self._rows:
            self._listing.batches.append(marshal.dumps(self._rows))
        self._rows, self._size = [], 0


def _choose(gather: _Gather, listing: Listing, options: DrillOptions, wanted: int) -> None:
    """At random, until the bytes are reached: files that do not fit are passed over. One at least is taken."""
    rows = gather.waiting
    random.Random(options.seed).shuffle(rows)
    names: list[bytes] = []
    left, small = wanted, None
    for row in rows:
        _, path, size, *_ = row
        if (options.dumps and path.startswith(DUMPS)) or options.named(path):
            pass
        elif size <= left:
            left -= size
        else:
            listing.passed_over += 1
            if small is None or size < small[2]:
                small = row
            continue
        names.append(path)
        gather.choose(row)
    if not names and small is not None:
        listing.passed_over -= 1
        names.append(small[1])
        gather.choose(small)
    if not options.dumps:
        taken = set(names)
        listing.dumps = [dump for dump in listing.dumps if dump.path in taken]
    listing.chosen = Chosen.of(names)


def _below(snapshot: SnapshotInfo, hosts: frozenset[str]) -> tuple[tuple[bytes, ...], set[bytes]]:
    """Where files of the snapshot are that may still be where they came from: (beginnings, whole paths).

    A snapshot of relative paths has other ones in its tree than it records, so nothing of it is looked for.
    """
    if snapshot.hostname not in hosts:
        return (), set()
    paths = [os.fsencode(path).rstrip(b"/") for path in snapshot.paths]
    return tuple(path + b"/" for path in paths), set(paths)


def rows_of(batch: bytes) -> Iterator[Row]:
    """The rows of a batch."""
    yield from marshal.loads(batch)
