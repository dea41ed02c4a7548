"""``diff``: what changed between two snapshots, or between a snapshot and the disk it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from holdfast.files.entry import Entry
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt
from holdfast.kernel.values import dataclass
from holdfast.vaults.items import Folders, Item


class Change(StrEnum):
    """What happened to an item from the first side to the second; the value is its mark in a listing."""

    ADDED = "+"
    REMOVED = "-"
    MODIFIED = "M"
    METADATA = "U"
    TYPE = "T"


@dataclass(frozen=True, slots=True)
class Difference:
    """One item that is not the same on both sides. A missing side is None.

    ``details`` say what differs, for ``M``, ``U`` and ``T``: any of ``content``, ``target`` (of a link), ``device``,
    ``type``, ``mode``, ``owner``, ``group``, ``mtime``, ``xattrs``. Names of owners, access times, change times and
    inode numbers do not count: no restore brings these back. A folder's mtime counts only where no name came or went
    in it.
    """

    path: bytes
    change: Change
    before: Item | None
    after: Item | None
    details: tuple[str, ...] = ()


@dataclass(slots=True)
class DiffSummary:
    """Counts over differences (:meth:`count` them one by one).

    ``bytes_added``: sizes of files that are only on the second side, and of modified ones as they are there;
    ``bytes_removed`` the other way round. Sizes of files, not what they occupy in a vault.
    """

    files_added: int = 0
    files_removed: int = 0
    files_modified: int = 0
    dirs_added: int = 0
    dirs_removed: int = 0
    others_added: int = 0
    others_removed: int = 0
    others_modified: int = 0
    metadata: int = 0
    types: int = 0
    bytes_added: int = 0
    bytes_removed: int = 0

    def count(self, difference: Difference) -> None:
        """Take one difference into account."""
        change, before, after = difference.change, difference.before, difference.after
        if change is Change.METADATA:
            self.metadata += 1
            return
        if change is Change.TYPE:
            self.types += 1
        elif change is Change.MODIFIED:
            if after is not None and after.kind == "file":
                self.files_modified += 1
            else:
                self.others_modified += 1
        elif change is Change.ADDED and after is not None:
            name = f"{_COUNTED.get(after.kind, 'others')}_added"
            setattr(self, name, getattr(self, name) + 1)
        elif before is not None:
            name = f"{_COUNTED.get(before.kind, 'others')}_removed"
            setattr(self, name, getattr(self, name) + 1)
        self.bytes_added += after.size if after is not None and after.kind == "file" else 0
        self.bytes_removed += before.size if before is not None and before.kind == "file" else 0

    @property
    def equal(self) -> bool:
        """Whether no difference was counted."""
        return self == DiffSummary()


_COUNTED = {"file": "files", "dir": "dirs"}

SameContent = Callable[[Item, Item], bool]
"""Whether two files, first and second side, hold the same bytes; asked where their marks do not tell it."""

OnError = Callable[[bytes, OSError | Corrupt], None]
"""Told the path of an item that could not be compared, and why."""

_Pair = tuple[Item | None, Item | None]


def compare(
    first: Folders,
    before: Item | None,
    second: Folders,
    after: Item | None,
    same_content: SameContent,
    *,
    on_error: OnError | None = None,
    cancel: Cancel | None = None,
) -> Iterator[Difference]:
    """Differences between two items and everything beneath them, depth first, in byte order of names.

    Folders with equal marks are not read. The two may have different names and places: paths are those of the second
    side, or of the first where an item is only there. Every item beneath an added or removed folder is yielded, and a
    folder that became a file yields ``T`` and then a removal for each item that was in it. What is ``passed_over`` on
    one side and absent on the other is no difference. An item that cannot be compared (``Corrupt``, ``OSError``) goes
    to ``on_error``, or raises without it. Raises ``Cancelled``. Memory: the folders from the top to where it is.
    """
    pending: list[Iterator[_Pair]] = [iter([(before, after)])]
    while pending:
        pair = next(pending[-1], None)
        if pair is None:
            pending.pop()
            continue
        if cancel is not None:
            cancel.check()
        old, new = pair
        if (old is None and new is not None and new.passed_over) or (
            new is None and old is not None and old.passed_over
        ):
            continue
        below_old = first.children(old) if old is not None and _worth_reading(old, new) else ()
        below_new = second.children(new) if new is not None and _worth_reading(new, old) else ()
        try:
            difference = _difference(old, new, below_old, below_new, same_content)
        except (OSError, Corrupt) as error:
            if on_error is None:
                raise
            on_error(new.path if new is not None else b"", error)
            difference = None
        if difference is not None:
            yield difference
        if below_old or below_new:
            pending.append(_pairs(below_old, below_new))


def _worth_reading(item: Item, other: Item | None) -> bool:
    return item.kind == "dir" and (other is None or other.kind != "dir" or item.mark is None or item.mark != other.mark)


def _pairs(old: Sequence[Item], new: Sequence[Item]) -> Iterator[_Pair]:
    """Items of the same name together, in byte order of names."""
    left, right = iter(old), iter(new)
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a.name < b.name):
            yield a, None
            a = next(left, None)
        elif a is None or b.name < a.name:
            yield None, b
            b = next(right, None)
        else:
            yield a, b
            a, b = next(left, None), next(right, None)


def _difference(
    old: Item | None, new: Item | None, below_old: Sequence[Item], below_new: Sequence[Item], same_content: SameContent
) -> Difference | None:
    if new is None:
        return None if old is None else Difference(old.path, Change.REMOVED, old, None)
    if old is None:
        return Difference(new.path, Change.ADDED, None, new)
    if old.kind != new.kind:
        return Difference(new.path, Change.TYPE, old, new, ("type",))
    if not (old.name and new.name):
        return None  # a snapshot records no metadata of its root
    before, after = old.entry, new.entry
    content = _content_details(old, new, before, after, same_content)
    same_names = [item.name for item in below_old] == [item.name for item in below_new if not item.passed_over]
    details = content + _metadata_details(before, after, with_mtime=new.kind != "dir" or same_names)
    if not details:
        return None
    return Difference(new.path, Change.MODIFIED if content else Change.METADATA, old, new, details)


def _content_details(old: Item, new: Item, before: Entry, after: Entry, same_content: SameContent) -> tuple[str, ...]:
    if old.kind == "file":
        if old.mark is not None and old.mark == new.mark:
            return ()
        return () if old.size == new.size and same_content(old, new) else ("content",)
    if old.kind == "symlink":
        return () if before.linktarget == after.linktarget else ("target",)
    if old.kind in ("dev", "chardev"):
        return () if before.st_rdev == after.st_rdev else ("device",)
    return ()


def _metadata_details(before: Entry, after: Entry, *, with_mtime: bool) -> tuple[str, ...]:
    is_link = after.kind == "symlink"
    compared = (
        ("mode", not is_link and (before.st_mode ^ after.st_mode) & 0o7777),  # a link's mode means nothing
        ("owner", before.st_uid != after.st_uid),
        ("group", before.st_gid != after.st_gid),
        ("mtime", with_mtime and before.st_mtime_ns != after.st_mtime_ns),
        ("xattrs", before.xattrs != after.xattrs and sorted(before.xattrs) != sorted(after.xattrs)),
    )
    return tuple(name for name, differs in compared if differs)
