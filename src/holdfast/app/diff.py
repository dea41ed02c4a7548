"""Use case: what changed between two snapshots, or between a snapshot and the disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.app.browse import Browsing, browsing
from holdfast.app.context import Context
from holdfast.app.selection import find_snapshot
from holdfast.kernel.errors import Invalid, NotFound
from holdfast.kernel.ids import short
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo

if TYPE_CHECKING:
    from holdfast.files.rules import Rules
    from holdfast.vaults.diff import Difference
    from holdfast.vaults.items import Browsable, Item

Unreadable = Callable[[bytes, str], None]
"""Told what on the disk could not be read, and why."""

PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class DiffRequest:
    """The two sides, each a snapshot and a path in it (empty: everything); ``second`` None means the disk.

    For the disk: what the snapshot records as left out, the default excludes (``default_excludes``) and ``excludes``
    are passed over; ``reread`` compares contents even where size, times and inode are the same.
    """

    first: tuple[str, bytes]
    second: tuple[str, bytes] | None = None
    excludes: tuple[str, ...] = ()
    default_excludes: bool = True
    reread: bool = False


def diff(
    context: Context, request: DiffRequest, wanted: SnapshotFilter, unreadable: Unreadable
) -> Iterator[Difference]:
    """Every difference, in order of paths. Raises ``NotFound`` where a path is on neither side."""
    from holdfast.vaults.diff import compare

    with browsing(context) as there:
        before = find_snapshot(there.snapshots, request.first[0], wanted)
        browser = there.browser
        if request.second is None:
            yield from _with_disk(context, there, before, request, unreadable)
            return
        after = find_snapshot(there.snapshots, request.second[0], wanted)
        old, new = _find(browser, before, request.first[1]), _find(browser, after, request.second[1])
        if old is None and new is None:
            browser.find(before, request.first[1])  # says what is missing
        yield from compare(browser, old, browser, new, _same_content(browser), cancel=context.cancel)


def diff_text(context: Context, request: DiffRequest, wanted: SnapshotFilter, file: bytes) -> Iterator[str]:
    """The unified diff of one text file, line by line (bytes that are not UTF-8 as surrogate escapes).

    ``file`` is a path in the snapshots, or of a file on the disk, from the working folder on; it may be missing on one
    side. Raises ``Invalid`` for what is no file.
    """
    from holdfast.vaults.textdiff import text_diff

    with browsing(context, tolerant=False) as there:
        before = find_snapshot(there.snapshots, request.first[0], wanted)
        place = _place(there.browser, before, file)
        old = _find(there.browser, before, place)
        if request.second is None:
            name, pieces = _on_disk(there.browser, before, place)
        else:
            after = find_snapshot(there.snapshots, request.second[0], wanted)
            new = _find(there.browser, after, _place(there.browser, after, file))
            if old is None and new is None:
                there.browser.find(before, place)
            name, pieces = short(after.id), _content(there.browser, new)
        shown = os.fsdecode(place).lstrip("/")
        first = f"{short(before.id)}/{shown}" if old is not None else "/dev/null"
        second = f"{name}/{shown}" if pieces is not None else "/dev/null"
        yield from text_diff(_content(there.browser, old) or (), pieces or (), first, second)


def _with_disk(
    context: Context, there: Browsing, snapshot: SnapshotInfo, request: DiffRequest, unreadable: Unreadable
) -> Iterator[Difference]:
    from holdfast.vaults.diff import compare
    from holdfast.vaults.disk import Disk, pairs_with_disk, same_as_disk

    def problem(path: bytes, error: OSError) -> None:
        unreadable(path, error.strerror or str(error))

    disk = Disk(_rules(context, snapshot.excludes, request), problem, skip=_own_folder(context, there))
    same = same_as_disk(there.browser, reread=request.reread)

    def same_or_problem(saved: Item, here: Item) -> bool:
        try:
            return same(saved, here)
        except OSError as error:
            problem(here.path, error)
            return True

    for old, new in pairs_with_disk(there.browser, snapshot, request.first[1], disk):
        yield from compare(there.browser, old, disk, new, same_or_problem, cancel=context.cancel)


def _own_folder(context: Context, there: Browsing) -> frozenset[tuple[int, int]]:
    """(device, inode) of the vault's own folder, which no backup saves; empty for a vault beyond this machine.

    Only looked at: nothing is made in a vault to compare it with the disk. (The location as it is shown may lack bytes
    that are no text, that of a URL is no path: so both.)
    """
    for place in (os.path.expanduser(context.location), there.vault.location):
        with suppress(OSError):
            st = os.stat(place)
            return frozenset(((st.st_dev, st.st_ino),))
    return frozenset()


def _rules(context: Context, recorded: Sequence[str], request: DiffRequest) -> Rules:
    """What a backup of the same paths would leave out. Recorded patterns that mean nothing to us are passed over."""
    from holdfast.files.rules import Rules

    lines = []
    for line in recorded:
        try:
            Rules.compile([line], defaults=False)
        except Invalid as error:
            context.warn(f"a recorded exclude pattern is passed over: {error.message}")
        else:
            lines.append(line)
    defaults = request.default_excludes
    home = os.fsencode(os.path.expanduser("~")) if defaults else b""
    return Rules.compile([*lines, *request.excludes], defaults=defaults, cachedir_tag=defaults, home=home)


def _find(browser: Browsable, snapshot: SnapshotInfo, path: bytes) -> Item | None:
    try:
        return browser.find(snapshot, path)
    except NotFound:
        return None


def _place(browser: Browsable, snapshot: SnapshotInfo, file: bytes) -> bytes:
    """Where a file is in a snapshot: as the path says, or else where what was saved of the disk has it."""
    from holdfast.vaults.disk import tops

    if _find(browser, snapshot, file) is not None:
        return file
    here = os.path.abspath(file)
    for saved, real in tops(browser, snapshot):
        if here == real or here.startswith(real.rstrip(b"/") + b"/"):
            return saved + here[len(real) :] if saved != b"/" else here[len(real) :]
    return file


def _same_content(browser: Browsable) -> Callable[[Item, Item], bool]:
    """Files that were cut differently may still hold the same bytes: compare those, up to the first difference."""

    def same(old: Item, new: Item) -> bool:
        pieces = browser.content(new)
        rest = bytearray()

        def read(count: int) -> bytes:
            while len(rest) < count and (piece := next(pieces, b"")):
                rest.extend(piece)
            data = bytes(rest[:count])
            del rest[:count]
            return data

        return browser.holds(old, read)

    return same


def _content(browser: Browsable, item: Item | None) -> Iterable[bytes] | None:
    return None if item is None else browser.content(item)


def _on_disk(browser: Browsable, snapshot: SnapshotInfo, file: bytes) -> tuple[str, Iterable[bytes] | None]:
    """The name of the disk side, and the content of the file there; None if nothing is there."""
    from holdfast.vaults.disk import Disk, pairs_with_disk

    def fail(_path: bytes, error: OSError) -> None:
        raise error

    ((_, here), *_) = pairs_with_disk(browser, snapshot, file, Disk(None, fail))
    if here is None:
        return "disk", None
    if here.kind != "file":
        raise Invalid(f"{os.fsdecode(here.real)} is a {here.kind}, not a file", hint="Name one file.")
    return "disk", _pieces(here.real)


def _pieces(path: bytes) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            yield piece
