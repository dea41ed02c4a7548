"""What of a snapshot a drill restores: all of it, or files picked at random."""

from __future__ import annotations

import os
import random
from dataclasses import field

from holdfast.files.chosen import Chosen
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import NotFound
from holdfast.kernel.values import dataclass
from holdfast.sources.base import PLACE
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.drill.model import DrillOptions, Dump
from holdfast.vaults.items import Browsable, walk
from holdfast.vaults.proven import Proving

DUMPS = b"/" + b"/".join(PLACE) + b"/"
"""Where dumps of databases are, in the snapshot and below the root."""


@dataclass(slots=True)
class Listing:
    """``chosen`` None: everything. ``files`` and ``size`` (bytes) are of what is restored, the totals of the snapshot.
    ``passed_over`` counts files that are not in the sample."""

    chosen: Chosen | None = None
    files: int = 0
    size: int = 0
    files_total: int = 0
    size_total: int = 0
    passed_over: int = 0
    dumps: list[Dump] = field(default_factory=list)


def list_snapshot(browser: Browsable, snapshot: SnapshotInfo, options: DrillOptions, cancel: Cancel) -> Listing:
    """Find out how much there is, and choose.

    Without a sample the figures that the backup left are taken; only where it left none, or for a sample, the snapshot
    is walked (which takes as long as a fifth of a restore of small files). Memory: about 100 bytes a file for a sample.
    Damaged folders are told to whoever made ``browser``. Raises ``Cancelled``, and the vault's errors.
    """
    listing = Listing(dumps=_dumps(browser, snapshot))
    figures = snapshot.summary or {}
    files, size = figures.get("total_files_processed"), figures.get("total_bytes_processed")
    if options.sample is None and isinstance(files, int) and isinstance(size, int):
        listing.files = listing.files_total = files
        listing.size = listing.size_total = size
        return listing
    found: list[tuple[bytes, int]] = []
    for item in walk(browser, browser.find(snapshot, b"")):
        cancel.check()
        if item.kind == "file":
            listing.files_total += 1
            listing.size_total += item.size
            if options.sample is not None:
                found.append((item.path, item.size))
    if options.sample is None:
        listing.files, listing.size = listing.files_total, listing.size_total
    else:
        _choose(found, listing, options, options.sample.of(listing.size_total))
    return listing


def proving(snapshot: SnapshotInfo, hosts: frozenset[str]) -> Proving:
    """Where files of the snapshot are that may still be where they came from.

    A snapshot of relative paths has other ones in its tree than it records, so nothing of it is looked for.
    """
    if snapshot.hostname not in hosts:
        return Proving(made_ns=snapshot.time_ns)
    paths = [os.fsencode(path).rstrip(b"/") for path in snapshot.paths]
    paths = [path for path in paths if not path.startswith(DUMPS)]  # these have no file for a source
    return Proving(tuple(path + b"/" for path in paths), frozenset(paths), snapshot.time_ns)


def _dumps(browser: Browsable, snapshot: SnapshotInfo) -> list[Dump]:
    if not any(path.startswith(os.fsdecode(DUMPS)) for path in snapshot.paths):
        return []
    try:
        top = browser.find(snapshot, DUMPS)
    except NotFound:
        return []
    return [Dump(item.path, item.size) for item in walk(browser, top) if item.kind == "file"]


def _choose(found: list[tuple[bytes, int]], listing: Listing, options: DrillOptions, wanted: int) -> None:
    """At random, until the bytes are reached: files that do not fit are passed over. One at least is taken."""
    random.Random(options.seed).shuffle(found)
    names: list[bytes] = []
    left = wanted
    for path, size in found:
        if not ((options.dumps and path.startswith(DUMPS)) or options.named(path)):
            if size > left:
                continue
            left -= size
        names.append(path)
        listing.size += size
    if not names and found:
        path, size = min(found, key=lambda pair: pair[1])
        names.append(path)
        listing.size += size
    listing.files = len(names)
    listing.passed_over = len(found) - len(names)
    taken = set(names)
    listing.dumps = [dump for dump in listing.dumps if dump.path in taken]
    listing.chosen = Chosen.of(names)
