"""A mirror as a snapshot that can be looked into: what its state says, and the contents from its tree."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256

from holdfast.files.entry import LAST_NS, Entry
from holdfast.files.names import Names
from holdfast.files.safepath import check_name
from holdfast.files.xattrs import read_xattrs
from holdfast.kernel.errors import Corrupt, HoldfastError, Invalid, NotFound
from holdfast.sources.directory import open_directory, open_file, read_small
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.items import Item, Mark
from holdfast.vaults.mirror.copying import read_piece
from holdfast.vaults.mirror.records import NEVER, NO_HASH, Record, Stamp, stamp_here, unstamp
from holdfast.vaults.mirror.state import State
from holdfast.vaults.plainqueue import Stored

_CHECK = "Run 'holdfast check' to see what else is damaged; 'holdfast backup --checksum' copies it again."
_ROOT = Stamp(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 0, 1, 0)


class MirrorItem:
    """One entry. ``stamp`` is what ``stat`` said of its source, on the file system ``device``; ``digest`` the SHA-256
    of a file's content."""

    __slots__ = ("_browser", "device", "digest", "path", "stamp")

    passed_over = False

    def __init__(self, browser: MirrorBrowser, path: bytes, found: Stamp, digest: bytes, device: int = 0) -> None:
        self._browser = browser
        self.path = path
        self.stamp = found
        self.digest = digest
        self.device = device

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    @property
    def kind(self) -> str:
        return self.stamp.kind

    @property
    def size(self) -> int:
        return self.stamp.st_size if stat.S_ISREG(self.stamp.st_mode) else 0

    @property
    def mtime_ns(self) -> int:
        return self.stamp.st_mtime_ns

    @property
    def mark(self) -> Mark | None:
        return self.digest if self.digest != NO_HASH and self.kind == "file" else None

    @property
    def entry(self) -> Entry:
        """All metadata; those that the state does not keep (attributes, a link's target) are read from the tree."""
        return self._browser.entry(self)


class MirrorBrowser:
    """``Browsable`` over a mirror. The caller holds its lock and keeps ``state`` open.

    Where the state knows nothing of a source, the copy's own ``stat`` speaks. ``unfinished``: the last backup was
    killed; what it had replaced by then is no damage, but has no hash yet, and is refused.
    """

    def __init__(self, root: bytes, state: State, *, unfinished: bool = False) -> None:
        self._unfinished = unfinished
        self._root = root
        self._state = state
        self._names = Names()

    def find(self, snapshot: SnapshotInfo, path: bytes) -> MirrorItem:
        """The item at ``path``. Raises ``NotFound`` with the nearest folder as a hint; ``Corrupt``."""
        item = MirrorItem(self, b"/", _ROOT, NO_HASH)
        above = b""
        for name in [part for part in path.split(b"/") if part]:
            record = self._state.items(above).get(name) if item.kind == "dir" else None
            if record is None:
                raise NotFound(
                    f"{os.fsdecode(path)} is not in the mirror.",
                    hint=f"The nearest folder that it holds is {os.fsdecode(item.path)}.",
                    path=os.fsdecode(path),
                )
            device = self._device(above)
            above = above + b"/" + name if above else name
            item = self._item(above, record, device)
        return item

    def children(self, folder: Item) -> Sequence[MirrorItem]:
        """What is in ``folder``, in byte order of names."""
        if folder.kind != "dir":
            return ()
        above = folder.path.strip(b"/")
        found = self._state.items(above)
        for name in found:
            check_name(name)
        device = self._device(above)
        return [self._item(above + b"/" + name if above else name, found[name], device) for name in sorted(found)]

    def content(self, file: Item) -> Iterator[bytes]:
        """The bytes of ``file``. A file that fits into one piece is verified before it is given, a longer one at its
        end: then ``Corrupt`` comes after what is wrong. ``Invalid`` for what is no file."""
        item = _own(file)
        if item.kind != "file":
            raise Invalid(f"{os.fsdecode(file.path)} is a {item.kind}, not a file.", hint="Name one file in it.")
        fd = self._open(item)
        digest, at = sha256(), 0
        try:
            waiting = b""
            while piece := self._piece(item, fd, at):
                digest.update(piece)
                at += len(piece)
                if waiting:
                    yield waiting
                waiting = piece
            if digest.digest() != item.digest:
                raise self._wrong(item, "its content is not what was copied: the hash differs")
            if waiting:
                yield waiting
        finally:
            os.close(fd)

    def whole(self, file: Item) -> bytes:
        """All bytes of ``file``, verified. Raises as :meth:`content`."""
        item = _own(file)
        with suppress(OSError):
            found = read_small(None, self._root + item.path, item.size) if item.kind == "file" else None
            if found is not None and sha256(found[0]).digest() == item.digest:
                return found[0]
        return b"".join(self.content(file))

    def stored(self, file: Item) -> Stored | None:
        """Where the copy is, if it is one of its own. (Attributes are looked for when it is copied.)"""
        item = _own(file)
        found = item.stamp
        if item.kind != "file" or found.st_nlink != 1 or item.digest == NO_HASH:
            return None
        return Stored(self._root + item.path, item.digest, found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns)

    def holds(self, file: Item, read: Callable[[int], bytes]) -> bool:
        """Whether ``read`` yields exactly what ``file`` held, by its hash: no copy is read here."""
        item, digest, left = _own(file), sha256(), file.size
        while left > 0 and (data := read(min(left, 1 << 20))):
            digest.update(data)
            left -= len(data)
        return not left and not read(1) and digest.digest() == item.digest

    def same(self, first: Item, second: Item) -> bool:
        """Whether two files hold the same bytes, by their hashes."""
        return _own(first).digest == _own(second).digest

    def entry(self, item: MirrorItem) -> Entry:
        """All metadata of an item. Raises ``Corrupt`` where its copy is gone."""
        st = item.stamp
        place = self._root + item.path
        target: bytes | None = None
        try:
            if item.kind == "symlink":
                target = os.readlink(place)
                if sha256(target).digest() != item.digest:
                    raise self._wrong(item, "the link leads elsewhere now")
            xattrs = read_xattrs(place) if item.kind in ("file", "dir") and item.path != b"/" else ()
        except OSError as error:
            raise self._wrong(item, error.strerror or str(error)) from error
        return Entry.from_stat(
            item.path if item.path != b"/" else b"",
            _Stat(st, item.device),  # type: ignore[arg-type]
            linktarget=target,
            xattrs=xattrs,
            user=self._names.user(st.st_uid),
            group=self._names.group(st.st_gid),
        )

    def _device(self, folder: bytes) -> int:
        row = self._state.directory(folder)
        return 0 if row is None else row.device

    def _item(self, path: bytes, record: Record, device: int) -> MirrorItem:
        source = record.source if record.source != NEVER else record.here
        found = unstamp(source)
        if abs(found.st_mtime_ns) == LAST_NS:  # a later time than the state can hold: the copy has it
            with suppress(OSError):
                found = found._replace(st_mtime_ns=os.lstat(self._root + b"/" + path).st_mtime_ns)
        return MirrorItem(self, b"/" + path, found, record.hash, device)

    def _wrong(self, item: MirrorItem, why: str) -> HoldfastError:
        shown = os.fsdecode(item.path)
        if self._unfinished and self._looks_otherwise(item):
            return HoldfastError(
                f"{shown} was replaced or removed by a backup that did not finish, and has no hash yet",
                hint=f"The next backup knows it again. What is there now: {os.fsdecode(self._root)}{shown}",
                path=shown,
            )
        return Corrupt(f"The copy of {shown} in the mirror is damaged: {why}", hint=_CHECK, path=shown)

    def _looks_otherwise(self, item: MirrorItem) -> bool:
        above, _, name = item.path[1:].rpartition(b"/")
        record = self._state.items(above).get(name)
        try:
            return record is None or stamp_here(os.lstat(self._root + item.path)) != record.here
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False

    def _open(self, item: MirrorItem) -> int:
        above, _, name = (self._root + item.path).rpartition(b"/")
        try:
            directory = open_directory(above or b"/")
            try:
                return open_file(name, directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise self._wrong(item, error.strerror or str(error)) from error

    def _piece(self, item: MirrorItem, fd: int, at: int) -> bytes:
        try:
            return read_piece(fd, at)
        except OSError as error:
            raise self._wrong(item, error.strerror or str(error)) from error


class _Stat:
    """A stamp with the fields of ``os.stat_result`` that a mirror does not keep."""

    def __init__(self, found: Stamp, device: int) -> None:
        self.st_mode, self.st_size, self.st_ino = found.st_mode, found.st_size, found.st_ino
        self.st_uid, self.st_gid, self.st_nlink = found.st_uid, found.st_gid, found.st_nlink
        self.st_mtime_ns = self.st_atime_ns = found.st_mtime_ns
        self.st_ctime_ns, self.st_rdev, self.st_dev = found.st_ctime_ns, found.st_rdev, device


def _own(item: Item) -> MirrorItem:
    assert isinstance(item, MirrorItem), "an item of another vault"
    return item
