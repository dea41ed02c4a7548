"""What a backup can do before the vault is open: list directories while the key is being derived."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from holdfast.files.rules import Scope
from holdfast.kernel.clock import Clock
from holdfast.sources.directory import Lister, Listing, walk
from holdfast.storage.base import Storage
from holdfast.vaults.archive.backup import roots
from holdfast.vaults.base import BackupOptions

_MONTH_NS = 30 * 86_400 * 1_000_000_000
_MOST_ENTRIES = 100_000  # about 60 MB of listings


class Ahead:
    """Lists the directories of a backup before it begins. ``listings`` maps a directory's path to (scope, listing)."""

    def __init__(self, options: BackupOptions, storage: Storage, clock: Clock) -> None:
        self._options = options
        own = own_folder(storage)
        self.lister = Lister(options.rules, salt(clock), own, _devices(options), options.verbose, options.scan)
        self.listings: dict[bytes, tuple[Scope, Listing]] = {}

    def scan(self, until: Callable[[], bool]) -> None:
        """List directories until ``until()`` is true. What cannot be read is left for the backup itself to report."""
        entries = 0
        targets = roots.find_targets(self._options.paths, os.getcwdb())
        for path, scope, listing in walk(self.lister, [target.path for target in targets]):
            self.listings[path] = scope, listing
            entries += len(listing.items)
            if entries >= _MOST_ENTRIES or until():
                return


def salt(clock: Clock) -> bytes:
    """What trees depend on beside the directories, hashed: the names of users and groups, and the time zone."""
    digest = blake2b(digest_size=16)
    now = clock.now_ns()
    digest.update(repr([clock.utc_offset(now - _MONTH_NS * months) for months in range(24)]).encode())
    for path in ("/etc/passwd", "/etc/group"):
        with contextlib.suppress(OSError):
            digest.update(Path(path).read_bytes())
    return digest.digest()


def _devices(options: BackupOptions) -> frozenset[int]:
    """The file systems to stay on: those of all the paths that were named, also of one inside another."""
    found: set[int] = set()
    if options.one_file_system:
        for path in options.paths:
            with contextlib.suppress(OSError):
                found.add(os.lstat(path).st_dev)
    return frozenset(found)


def own_folder(storage: Storage) -> frozenset[tuple[int, int]]:
    """(device, inode) of the vault's own folder, which is never saved into itself; empty for a vault elsewhere."""
    staging = storage.staging()
    if staging is None:
        return frozenset()
    try:
        st = os.stat(os.path.dirname(os.path.abspath(staging)))
    except OSError:
        return frozenset()
    return frozenset(((st.st_dev, st.st_ino),))
