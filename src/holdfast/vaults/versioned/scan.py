"""Walk through the source, folder by folder, and draft what has to change in the vault."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable
from hashlib import blake2b

from holdfast.files.names import Names
from holdfast.files.rules import Scope
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.sources.directory import NOTHING, Item, Lister, Listing, entry, open_directory
from holdfast.vaults.batches import Batches
from holdfast.vaults.standin import SALT as DATABASES
from holdfast.vaults.standin import StandIns
from holdfast.vaults.versioned.arrivals import MOST_AT_ONCE, Arrivals
from holdfast.vaults.versioned.compare import Comparison, is_fresh
from holdfast.vaults.versioned.draft import Draft, version_of
from holdfast.vaults.versioned.index import Index
from holdfast.vaults.versioned.model import Change, Version, join
from holdfast.vaults.versioned.tally import Tally


class Scan:
    """One backup's look at its source. With ``force`` no folder is taken for unchanged as a whole."""

    def __init__(
        self,
        index: Index,
        draft: Draft,
        lister: Lister,
        tally: Tally,
        batches: Batches,
        *,
        force: bool,
        allow_empty: bool,
        sqlite: bool,
        clock: Clock,
        cancel: Cancel,
    ) -> None:
        self._index = index
        self._draft = draft
        self._lister = lister
        self._tally = tally
        self._clock = clock
        self._cancel = cancel
        self._names = Names()
        self._stand_ins = StandIns(cancel, tally.tell, on=sqlite)
        self._batches = batches
        self._arrivals = Arrivals(batches, draft, tally, self._names)
        self._doubtful: set[bytes] = set()  # folders of which a file could not be saved later on
        self._comparison = Comparison(
            index, draft, tally, self._names, self._stand_ins, force=force, allow_empty=allow_empty
        )
        self._listings = {} if force else index.listings()
        self._above: set[bytes] = set()

    def target(self, path: bytes) -> None:
        """One path that was named (absolute; it exists). Errors of the source are told; raises the vault's."""
        if path != b"/":
            folder, _, name = path.rpartition(b"/")
            self._folders_above(folder)
            fd = _open_parent(folder or b"/")
            try:
                found = entry(fd, name)
                known = self._index.one(folder, name)
                if found is None:
                    self._tally.tell("failed", path, "vanished, or is a socket")
                    return
                entered = False
                for item in self._stand_ins.named(folder, found):
                    known = known if item.name == name else self._index.one(folder, item.name)
                    entered = self._comparison.item(fd, folder, item, known, self._clock.now_ns())
            finally:
                os.close(fd)
            if not entered:
                return
        self._tree(path)

    # -- folders ---------------------------------------------------------------------------------------------------

    def _tree(self, top: bytes) -> None:
        stack: list[tuple[bytes, bytes, Scope]] = [(top, b"", self._lister.rules.root(top))]
        while stack:
            self._cancel.check()
            path, name, scope = stack.pop()
            try:
                fd = open_directory(path)
            except OSError as error:
                gone = isinstance(error, FileNotFoundError)
                why = "vanished while the backup was running" if gone else error.strerror or str(error)
                self._tally.tell("warning" if gone else "failed", path, why)
                continue
            try:
                began = self._clock.now_ns()
                inner, listing = self._lister.look(fd, scope, name, path)
                folders = self._folder(fd, b"" if path == b"/" else path, listing, began)
            except OSError as error:
                self._tally.tell("failed", path, error.strerror or str(error))
                continue
            finally:
                os.close(fd)
            prefix = b"" if path == b"/" else path
            stack += [(join(prefix, one), one, inner) for one in reversed(folders)]
            self._tally.tick(path)

    def _folder(self, fd: int, path: bytes, listing: Listing, began: int) -> list[bytes]:
        """Draft the changes directly in one folder; returns the names of folders to go on with."""
        self._tally.summary.excluded += listing.excluded
        for name, why in listing.reasons:
            self._tally.tell("excluded", join(path, name), why)
        key, again = listing.key, listing.at_ns is not None
        began = began if listing.at_ns is None else listing.at_ns
        items = self._stand_ins.listed(fd, path, listing.items)
        if self._listings.get(path) == key:
            return self._unchanged(path, items)
        known = {version.name: version for version in self._index.at(path)}
        found = {item.name for item in items}
        failed = self._tally.trouble
        for version in known.values():
            if version.name not in found:
                self._comparison.remove(path, version)
        folders = []
        fresh = False
        arriving = self._arrive(fd, path, items, known, began)
        for item in items:
            fresh = fresh or is_fresh(item.stat, began)
            if item.name in arriving:
                continue
            if self._comparison.item(fd, path, item, known.get(item.name), began, again=again):
                folders.append(item.name)
            self._commit_if_full()
        sound = not fresh and failed == self._tally.trouble and path not in self._doubtful
        self._draft.listings[path] = key if sound and key != NOTHING else None
        return folders

    def _arrive(
        self, fd: int, path: bytes, items: list[Item], known: dict[bytes, Version], began: int
    ) -> Collection[bytes]:
        """Have new files staged by threads, if there are many; returns their names. What goes wrong, also later on,
        is told, and then the folder's listing counts for nothing."""
        picked = self._arrivals.pick(items, known)

        def slowly(folder: int, item: Item) -> None:
            failed = self._tally.trouble
            self._comparison.item(folder, path, item, None, began, again=True)
            if failed != self._tally.trouble:
                self._doubtful.add(path)
                self._draft.listings[path] = None

        for at in range(0, len(picked), MOST_AT_ONCE):
            self._arrivals.stage(fd, path, picked[at : at + MOST_AT_ONCE], began, slowly)
            self._commit_if_full()
        return {item.name for item in picked}

    def _commit_if_full(self) -> None:
        if self._draft.full:
            self._batches.drain()
            self._draft.commit()

    def _unchanged(self, path: bytes, items: Iterable[Item]) -> list[bytes]:
        folders = []
        files = size = 0
        for name, st in items:
            kind = st.st_mode & 0o170000
            if kind == 0o040000:
                folders.append(name)
            elif kind == 0o100000:
                files += 1
                size += st.st_size
                if self._tally.verbose:
                    self._tally.unchanged(join(path, name))
        summary = self._tally.summary
        summary.dirs_unmodified += len(folders)
        summary.files_unmodified += files
        summary.total_bytes += size
        return folders

    def _folders_above(self, path: bytes) -> None:
        """The folders that lead to what was named: kept with their permissions, not followed in their times."""
        above = path
        chain = []
        while above and above not in self._above:
            chain.append(above)
            self._above.add(above)
            above = above.rpartition(b"/")[0]
        for one in reversed(chain):
            folder, _, name = one.rpartition(b"/")
            known = self._index.one(folder, name)
            st = os.stat(one)
            if known is None or not known.is_dir or _rights(known) != (st.st_mode, st.st_uid, st.st_gid):
                before, _ = (None, 0) if known is None else self._draft.end(folder, known, None, 0)
                after = version_of(name, st, self._draft.number, self._names)
                self._draft.add(Change(folder, name, before, after))


def salt(*, sqlite: bool = False) -> bytes:
    """Listings of another way of comparing are not trusted."""
    return blake2b(b"versioned 1" + DATABASES * sqlite, digest_size=16).digest()


def _open_parent(path: bytes) -> int:
    """The folder around what was named, which may be reached through a link. Raises ``OSError``."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return open_directory(path)


def _rights(version: Version) -> tuple[int, int, int]:
    return version.mode, version.uid, version.gid
