"""``dump``: a saved file as a stream of its bytes, a saved folder as a stream of tar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import field

from holdfast.files.entry import Entry
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Invalid
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.values import dataclass
from holdfast.vaults import pax
from holdfast.vaults.base import Outcome, Problem, SnapshotInfo
from holdfast.vaults.items import Browsable, Item, walk

Write = Callable[[bytes], object]
"""Where the bytes go: ``write`` of a binary stream that takes all it is given. What it raises ends the dump."""


@dataclass(slots=True)
class DumpSummary:
    """What was written. ``bytes_written`` is the stream's length; ``problems`` are items that are not in it."""

    outcome: Outcome = Outcome.OK
    files: int = 0
    dirs: int = 0
    others: int = 0
    bytes_written: int = 0
    problems: list[Problem] = field(default_factory=list)


def dump_file(
    vault: Browsable, snapshot: SnapshotInfo, path: bytes, write: Write, *, emit: Emit, cancel: Cancel
) -> DumpSummary:
    """Write the content of one file. Memory: one piece, a few MiB.

    Raises ``NotFound``; ``Invalid`` for what is no file; ``Corrupt`` where the vault is damaged (what was written until
    then is good, but it is not all); ``Cancelled``; and what ``write`` raises.
    """
    item = vault.find(snapshot, path)
    if item.kind != "file":
        raise Invalid(
            f"{os.fsdecode(item.path)} is not a file in this snapshot, but a {item.kind}",
            hint="A folder is written as tar: holdfast dump --tar.",
        )
    summary = DumpSummary(files=1)
    for piece in vault.content(item):
        cancel.check()
        write(piece)
        summary.bytes_written += len(piece)
        emit(Tick("dump", 0, summary.bytes_written, bytes_total=item.size, current=os.fsdecode(item.path)))
    return summary


def dump_tar(
    vault: Browsable, snapshot: SnapshotInfo, path: bytes, write: Write, *, emit: Emit, cancel: Cancel
) -> DumpSummary:
    """Write ``path`` (a folder, the root, or a single item) as a tar stream in the pax format.

    Names are exact bytes and begin with the name of ``path`` itself (for the root: with what is in it); mtimes are
    exact to the nanosecond; hard links (equal device, inode and content) refer to the first of them; sockets are left
    out. The same snapshot gives the same bytes. Nothing is kept on a disk; memory: one piece and the paths of hard
    links.

    A damaged item is left out, told to ``emit`` as ``damage.found`` and listed in the summary, which is then
    ``partial``. If the damage shows only in the middle of a file, after its size was written, ``Corrupt`` is raised:
    no tar can be finished honestly then. Raises ``NotFound``, ``Cancelled`` and what ``write`` raises as well.
    """
    top = vault.find(snapshot, path)
    tar = _Tar(vault, write, emit, len(top.path) - len(top.name))
    for item in _with_top(vault, top):
        cancel.check()
        tar.add(item)
    return tar.finish()


def _with_top(vault: Browsable, top: Item) -> Iterator[Item]:
    if top.name:
        yield top
    yield from walk(vault, top)


class _Tar:
    """One archive being written."""

    def __init__(self, vault: Browsable, write: Write, emit: Emit, cut: int) -> None:
        self._vault = vault
        self._write = write
        self._emit = emit
        self._cut = cut  # this many bytes of every path are not part of names in the archive
        self._summary = DumpSummary()
        self._links: dict[tuple[int, int], Item] = {}

    def add(self, item: Item) -> None:
        """Write one item, or note why it is not there."""
        entry = item.entry
        if item.kind == "dir":
            self._summary.dirs += 1
            self._send(pax.header(self._name(item) + b"/", entry))
        elif item.kind == "file":
            self._file(item, entry)
        elif item.kind == "symlink" and b"\0" in (entry.linktarget or b""):
            self._leave_out(item, "the target of the link holds a NUL")
        elif pax.supports(item.kind):
            self._summary.others += 1
            self._send(pax.header(self._name(item), entry))
        elif item.kind != "socket":
            self._leave_out(item, f"a tar file cannot hold a {item.kind}")

    def finish(self) -> DumpSummary:
        """End the archive."""
        self._send(pax.END)
        return self._summary

    def _file(self, item: Item, entry: Entry) -> None:
        original = self._original(item, entry)
        if original is not None:
            self._send(pax.header(self._name(item), entry, link=self._name(original)))
            self._summary.files += 1
            return
        pieces = self._vault.content(item)
        try:
            piece = next(pieces, b"")  # before the header: nearly all damage shows now
        except Corrupt as error:
            self._leave_out(item, error.message, damage=True)
            return
        self._send(pax.header(self._name(item), entry, size=item.size))
        self._send(piece)
        for piece in pieces:
            self._send(piece)
        self._send(pax.padding(item.size))
        self._summary.files += 1
        if entry.st_nlink > 1 and entry.st_ino:
            self._links[entry.st_dev, entry.st_ino] = item
        self._emit(Tick("dump", self._summary.files, self._summary.bytes_written, current=os.fsdecode(item.path)))

    def _original(self, item: Item, entry: Entry) -> Item | None:
        """The earlier item that this one is a hard link to."""
        first = self._links.get((entry.st_dev, entry.st_ino)) if entry.st_nlink > 1 else None
        return first if first is not None and first.mark is not None and first.mark == item.mark else None

    def _name(self, item: Item) -> bytes:
        return item.path[self._cut :]

    def _leave_out(self, item: Item, why: str, *, damage: bool = False) -> None:
        self._summary.outcome = Outcome.PARTIAL
        self._summary.problems.append(Problem(item.path, why, "dump"))
        kind = "damage.found" if damage else "item.failed"
        self._emit(Fact(kind, why, "error", {"path": item.path, "why": why}))

    def _send(self, data: bytes) -> None:
        if data:
            self._write(data)
            self._summary.bytes_written += len(data)
