"""Use case: tell in one document what a snapshot holds, from which run it is, and what came of each of its sources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Any

from holdfast.app.browse import browsing
from holdfast.app.context import Context
from holdfast.app.selection import find_snapshot
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.values import dataclass
from holdfast.sources.base import PLACE
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo
from holdfast.vaults.items import walk

if TYPE_CHECKING:
    from holdfast.monitor.journal import Journal, RunRow
    from holdfast.monitor.record import Record
    from holdfast.vaults.items import Browsable, Item

_HOUR_NS = 3600 * 10**9
_DATABASES = "/" + os.fsdecode(b"/".join(PLACE)) + "/"


@dataclass(frozen=True, slots=True)
class Line:
    """One item with what is known of its content: ``sha256`` of a file's bytes, or ``blobs``, the ids of its pieces."""

    item: Item
    sha256: bytes | None = None
    blobs: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Source:
    """One path that was saved, or one database: what of it is in the snapshot, and what went wrong with it."""

    path: str
    files: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    outcome: str = "unknown"


@dataclass(slots=True)
class Manifest:
    """A snapshot that is being told. ``lines`` can be gone through once; afterwards ``sources`` and ``counts`` are
    right. ``run`` is None where the journal of this machine knows of none."""

    kind: str
    location: str
    snapshot: SnapshotInfo
    run: RunRow | None
    lines: Iterator[Line]
    sources: list[Source]
    counts: dict[str, int]


def manifest(context: Context, text: str, wanted: SnapshotFilter, *, hashes: bool) -> Iterator[Manifest]:
    """Yields the one manifest, while the vault is open. With ``hashes`` every file is read, to tell its SHA-256 where
    the vault does not know it. Raises ``NotFound``, and what a vault raises; what is damaged is told as a fact."""
    with browsing(context) as there:
        snapshot = find_snapshot(there.snapshots, text, wanted)
        run, facts = _run_of(context, snapshot)
        sources = [Source(path) for path in snapshot.paths]
        counts = {"files": 0, "folders": 0, "others": 0, "bytes": 0}
        kind = there.vault.kind

        def lines() -> Iterator[Line]:
            yield from _lines(context, there.browser, snapshot, kind, hashes, sources, counts)
            if run is not None:
                _judge(sources, facts)

        yield Manifest(kind, there.vault.location, snapshot, run, lines(), sources, counts)


def _lines(
    context: Context,
    browser: Browsable,
    snapshot: SnapshotInfo,
    kind: str,
    hashes: bool,
    sources: list[Source],
    counts: dict[str, int],
) -> Iterator[Line]:
    for item in walk(browser, browser.find(snapshot, b"/")):
        context.cancel.check()
        if item.kind == "file":
            counts["files"] += 1
            counts["bytes"] += item.size
            _count(os.fsdecode(item.path), item.size, sources)
        else:
            counts["folders" if item.kind == "dir" else "others"] += 1
        yield _line(context, browser, item, kind, hashes)


def _line(context: Context, browser: Browsable, item: Item, kind: str, hashes: bool) -> Line:
    mark = item.mark if item.kind == "file" else None
    if kind == "versioned" and isinstance(mark, bytes) and len(mark) == 32:
        return Line(item, sha256=mark)
    blobs = mark if isinstance(mark, tuple) else ()
    return Line(item, _hashed(context, browser, item) if hashes and item.kind == "file" else None, blobs)


def _hashed(context: Context, browser: Browsable, item: Item) -> bytes | None:
    from hashlib import sha256

    from holdfast.kernel.events import Fact

    found = sha256()
    try:
        for piece in browser.content(item):
            found.update(piece)
    except HoldfastError as error:
        context.emit(Fact("damage.found", error.message, "error", {"path": item.path}))
        return None
    return found.digest()


def _count(path: str, size: int, sources: list[Source]) -> None:
    if path.startswith(_DATABASES) and not any(path == source.path for source in sources):
        sources.append(Source(path))
    for source in sources:
        if path == source.path or path.startswith(source.path.rstrip("/") + "/"):
            source.files += 1
            source.bytes += size


def _run_of(context: Context, snapshot: SnapshotInfo) -> tuple[RunRow | None, list[Record]]:
    """The run that made the snapshot, and its facts, if the journal knows it. A journal in trouble is only told."""
    from holdfast.app.journal import open_journal

    try:
        with open_journal(context) as journal:
            return _look_for(journal, snapshot)
    except HoldfastError as error:
        context.warn(f"which run made the snapshot cannot be told: {error.message}")
        return None, []


def _look_for(journal: Journal, snapshot: SnapshotInfo) -> tuple[RunRow | None, list[Record]]:
    ids = {each.hex() for each in (snapshot.id, snapshot.original) if each}
    near = journal.runs(
        operations=["backup"], since_ns=snapshot.time_ns - _HOUR_NS, until_ns=snapshot.time_ns + _HOUR_NS
    )
    run = next((each for each in near if each.data.get("snapshot") in ids), None)
    return (None, []) if run is None else (run, journal.facts(run=run.id, kinds=["item.*"], newest_first=False))


def _judge(sources: list[Source], facts: list[Record]) -> None:
    for source in sources:
        whole = source.path.rstrip("/")
        for fact in facts:
            path = str(fact.data.get("path", ""))
            if fact.kind == "item.failed" and (path == whole or path.startswith(whole + "/")):
                source.problems.append(fact.message)
        source.outcome = "ok" if not source.problems else "partial" if source.files else "failed"


def source_fields(source: Source) -> dict[str, Any]:
    """A source as JSON."""
    return {
        "path": source.path,
        "outcome": source.outcome,
        "files": source.files,
        "bytes": source.bytes,
        "problems": source.problems,
    }
