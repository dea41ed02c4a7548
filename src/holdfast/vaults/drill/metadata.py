"""What a restore sets beside content: permissions, owners and times, compared with what the snapshot says of them."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable
from dataclasses import field

from holdfast.files.entry import Entry, kind_of
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.items import Browsable, Item

MOST = 4_000
"""So many items are compared: a fifth of a second. All of 60,000 would take as long as half of their restore."""

_UNITS = (1, 100, 1_000, 1_000_000, 1_000_000_000, 2_000_000_000)
"""Nanoseconds to which file systems round times down: ext4, NTFS, others, HFS and ext3, FAT."""


@dataclass(slots=True)
class Metadata:
    """``items`` were compared, ``all`` of them or some folders' that were picked at random; with their ``owners`` where
    we are root, whom alone the system lets set them. ``differing``: (path, how), not counted among ``items``."""

    items: int = 0
    all: bool = False
    owners: bool = False
    differing: list[tuple[bytes, str]] = field(default_factory=list)


def compare_metadata(
    browser: Browsable,
    snapshot: SnapshotInfo,
    root: bytes,
    *,
    told: Callable[[bytes], bool],
    seed: bytes,
    cancel: Cancel,
    most: int = MOST,
) -> Metadata:
    """Look at what was restored of ``snapshot`` to ``root``, item by item, by the vault's own records.

    ``told(path)``: something is known to be wrong there already, so it is passed over; sockets, and what has too long a
    path to be looked at, are as well. ``seed`` decides which folders come first where there are more than ``most``
    items. Raises what the browser raises for its first folder, and ``Cancelled``.
    """
    found, chance = Metadata(owners=os.geteuid() == 0), random.Random(seed)
    pending: list[Item] = [browser.find(snapshot, b"")]
    while pending:
        at = chance.randrange(len(pending))
        pending[at], pending[-1] = pending[-1], pending[at]
        children = list(browser.children(pending.pop()))
        cancel.check()
        if found.items + len(children) > most:
            chance.shuffle(children)
        for item in children:
            if found.items + len(found.differing) >= most:
                return found
            if item.kind == "dir":
                pending.append(item)
            if item.kind != "socket" and not told(item.path):
                _look(item, root, found)
    found.all = True
    return found


def _look(item: Item, root: bytes, found: Metadata) -> None:
    try:
        there = os.lstat(root + item.path)
        how = difference(item.entry, there, owners=found.owners)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return
        how = error.strerror or str(error)
    except HoldfastError as error:
        how = error.message
    if how:
        found.differing.append((item.path, f"not as saved after the restore: {how}"))
    else:
        found.items += 1


def difference(saved: Entry, there: os.stat_result, *, owners: bool) -> str:
    """In which way ``there`` is not what was saved; empty for none. Of a link the permissions mean nothing."""
    kind = kind_of(there.st_mode)
    if kind != saved.kind:
        return f"{kind} instead of {saved.kind}"
    found = []
    mode, wanted = stat.S_IMODE(there.st_mode), stat.S_IMODE(saved.st_mode)
    if kind != "symlink" and mode != wanted:
        found.append(f"permissions {mode:04o} instead of {wanted:04o}")
    if owners and (there.st_uid, there.st_gid) != (saved.st_uid, saved.st_gid):
        found.append(f"owner {there.st_uid}:{there.st_gid} instead of {saved.st_uid}:{saved.st_gid}")
    if not any(there.st_mtime_ns == saved.st_mtime_ns - saved.st_mtime_ns % unit for unit in _UNITS):
        found.append("another time of change")
    return ", ".join(found)
