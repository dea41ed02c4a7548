"""A versioned vault's snapshots, one folder at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence

from holdfast.files.entry import Entry, kind_of
from holdfast.kernel.errors import Invalid, NotFound
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.items import Item, Mark
from holdfast.vaults.plainqueue import Stored
from holdfast.vaults.versioned.former import Reader
from holdfast.vaults.versioned.index import Index
from holdfast.vaults.versioned.layout import Layout, place
from holdfast.vaults.versioned.model import CURRENT, Snapshot, Version, entry_of, join

_ROOT = Version(b"", 0, CURRENT, stat.S_IFDIR | 0o755, 0, 0, "", "", 0, 0, 0, 0, 0, 1, 0, b"", None, (), "", 0)


class SavedItem:
    """A version and where it stands in its snapshot."""

    __slots__ = ("path", "snapshot", "version")

    passed_over = False

    def __init__(self, path: bytes, version: Version, snapshot: Snapshot) -> None:
        self.path = path
        self.version = version
        self.snapshot = snapshot

    @property
    def name(self) -> bytes:
        return self.version.name

    @property
    def kind(self) -> str:
        return kind_of(self.version.mode)

    @property
    def size(self) -> int:
        return self.version.size

    @property
    def mtime_ns(self) -> int:
        return self.version.mtime

    @property
    def mark(self) -> Mark | None:
        return self.version.sha256 or None

    @property
    def entry(self) -> Entry:
        return entry_of(self.path, self.version)

    @property
    def folder(self) -> bytes:
        """The path of the folder around it, empty for the root."""
        return self.path.rpartition(b"/")[0]


class VersionedBrowser:
    """``Browsable`` over an open index (``VersionedVault.reading``). Items carry hashes, so little has to be read."""

    def __init__(self, layout: Layout, index: Index) -> None:
        self._index = index
        self._root = layout.root
        self._snapshots = {snapshot.identifier: snapshot for snapshot in index.snapshots()}
        self._reader = Reader(layout, index)

    def find(self, snapshot: SnapshotInfo, path: bytes) -> SavedItem:
        """The item at ``path``. Raises ``NotFound`` with the nearest folder as a hint."""
        state = self.state(snapshot)
        at = SavedItem(b"/", _ROOT, state)
        for part in [part for part in path.split(b"/") if part]:
            folder = at.path if at.path != b"/" else b""
            inner = join(folder, part)
            version = self._index.one(folder, part, state.step) if at.kind == "dir" and state.covers(inner) else None
            if version is None:
                shown = os.fsdecode(b"/" + path.strip(b"/"))
                raise NotFound(
                    f"There is no {shown} in this snapshot.",
                    hint=f"The nearest folder that it holds is {os.fsdecode(at.path)}.",
                    path=shown,
                )
            at = SavedItem(inner, version, state)
        return at

    def children(self, folder: Item) -> Sequence[SavedItem]:
        """What is in ``folder``, in byte order of names."""
        item = _own(folder)
        if item.kind != "dir":
            return ()
        path, state = (item.path if item.path != b"/" else b""), item.snapshot
        found = [SavedItem(join(path, one.name), one, state) for one in self._index.at(path, state.step)]
        return found if state.saved(path or b"/") else [one for one in found if state.covers(one.path)]

    def content(self, file: Item) -> Iterator[bytes]:
        """The bytes of ``file``, piece by piece; ``Corrupt`` at its end where the whole has another hash."""
        item = _own(file)
        if not item.version.is_file:
            raise Invalid(f"{os.fsdecode(file.path)} is a {item.kind}, not a file.", hint="Name one file in it.")
        return self._reader.pieces(item.folder, item.version)

    def whole(self, file: Item) -> bytes:
        """All bytes of ``file``, verified. Raises as :meth:`content`."""
        item = _own(file)
        found = self._reader.current(item.path, item.version)
        return b"".join(self.content(file)) if found is None else found

    def stored(self, file: Item) -> Stored | None:
        """Where a current file is."""
        item = _own(file)
        found = item.version
        if found.last != CURRENT or not found.is_file or found.links != 1 or found.xattrs:
            return None
        path = self._root + b"/" + place(item.path)
        return Stored(path, found.sha256, found.mode, found.uid, found.gid, found.mtime)

    def holds(self, file: Item, read: Callable[[int], bytes]) -> bool:
        """Whether ``read`` yields exactly what ``file`` held, by its hash: nothing of the vault is read."""
        from hashlib import sha256

        digest = sha256()
        while piece := read(1 << 20):
            digest.update(piece)
        return digest.digest() == _own(file).version.sha256

    def same(self, first: Item, second: Item) -> bool:
        """Whether two files hold the same bytes, by their hashes."""
        return _own(first).version.sha256 == _own(second).version.sha256

    def state(self, snapshot: SnapshotInfo) -> Snapshot:
        """The vault's own record of a snapshot. Raises ``NotFound``."""
        found = self._snapshots.get(snapshot.id)
        if found is None:
            raise NotFound(
                f"There is no snapshot {snapshot.id.hex()[:8]} in this vault.", hint="See 'holdfast snapshots'."
            )
        return found


def _own(item: Item) -> SavedItem:
    assert isinstance(item, SavedItem), "an item of another vault"
    return item
