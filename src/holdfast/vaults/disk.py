"""The disk that a snapshot was made of, as items that can be compared with the saved ones, and where they belong."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence

from holdfast.files.entry import Entry, kind_of
from holdfast.files.names import Names
from holdfast.files.rules import Rules, Scope
from holdfast.files.xattrs import read_xattrs
from holdfast.kernel.errors import NotFound
from holdfast.sources.base import as_path
from holdfast.sources.directory import open_directory, open_file, read_ignore_file
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.diff import SameContent
from holdfast.vaults.items import Browsable, Item

Problem = Callable[[bytes, OSError], None]
"""Told the path on the disk that could not be read, and why; it then counts as not there."""


class DiskItem:
    """One thing on the disk. ``path`` is its place in the snapshot, ``real`` its place here (absolute)."""

    __slots__ = ("_names", "passed_over", "path", "real", "scope", "st")

    mark = None

    def __init__(
        self, path: bytes, real: bytes, st: os.stat_result, names: Names, scope: Scope | None, *, passed_over: bool
    ) -> None:
        self.path = path
        self.real = real
        self.st = st
        self.scope = scope  # the rules of the folder that it is in; its own where it is the top
        self.passed_over = passed_over
        self._names = names

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    @property
    def kind(self) -> str:
        return kind_of(self.st.st_mode)

    @property
    def size(self) -> int:
        return self.st.st_size if stat.S_ISREG(self.st.st_mode) else 0

    @property
    def mtime_ns(self) -> int:
        return self.st.st_mtime_ns

    @property
    def entry(self) -> Entry:
        """All metadata, read now. Raises ``OSError``."""
        target = os.readlink(self.real) if stat.S_ISLNK(self.st.st_mode) else None
        return Entry.from_stat(
            self.path,
            self.st,
            linktarget=target,
            xattrs=read_xattrs(self.real),
            user=self._names.user(self.st.st_uid),
            group=self._names.group(self.st.st_gid),
        )


class Disk:
    """The file system as ``Folders``.

    ``rules`` say what a backup leaves out: such items are marked as ``passed_over``. ``skip`` are (device, inode) of
    folders that are no part of it at all (the vault itself). Sockets are never listed. What cannot be read goes to
    ``problem``.
    """

    def __init__(
        self, rules: Rules | None, problem: Problem, *, skip: frozenset[tuple[int, int]] = frozenset()
    ) -> None:
        self._rules = rules
        self._problem = problem
        self._skip = skip
        self._names = Names()

    def top(self, path: bytes, real: bytes) -> DiskItem | None:
        """The item at ``real`` (absolute), which stands for ``path`` of the snapshot; None if nothing is there."""
        try:
            st = os.lstat(real)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._problem(real, error)
            return None
        scope = None if self._rules is None else self._rules.root(real)
        return DiskItem(path, real, st, self._names, scope, passed_over=False)

    def below(self, top: DiskItem, path: bytes) -> DiskItem | None:
        """The item at the snapshot's ``path``, at or beneath ``top``, under the rules of the folders between."""
        at = top
        for part in path[len(top.path.rstrip(b"/")) :].split(b"/"):
            if part:
                found = next((child for child in self.children(at) if child.name == part), None)
                if found is None:
                    return None
                at = found
        return at

    def children(self, folder: Item) -> Sequence[DiskItem]:
        """What is directly in ``folder``, in byte order of names. An unreadable folder is told and counts as empty."""
        assert isinstance(folder, DiskItem), "an item of a snapshot"
        if not stat.S_ISDIR(folder.st.st_mode):
            return ()
        try:
            fd = open_directory(folder.real)
        except OSError as error:
            self._problem(folder.real, error)
            return ()
        try:
            names = sorted(map(os.fsencode, os.listdir(fd)))
            scope, only = self._enter(folder, fd, names)
            found = (self._child(folder, fd, name, scope, only) for name in names)
            return [item for item in found if item is not None]
        except OSError as error:
            self._problem(folder.real, error)
            return ()
        finally:
            os.close(fd)

    def _enter(self, folder: DiskItem, fd: int, names: list[bytes]) -> tuple[Scope | None, bytes | None]:
        """The rules inside of ``folder``, and the one entry to keep if it is marked as made by a program."""
        if self._rules is None or folder.scope is None or folder.passed_over:
            return None, None
        ignore = self._rules.ignore_file
        text = read_ignore_file(fd, ignore) if ignore and ignore in names else None
        scope = folder.scope if text is None else folder.scope.with_ignore_file(text)
        return scope, scope.keeps_only(set(names), fd)

    def _child(
        self, folder: DiskItem, fd: int, name: bytes, scope: Scope | None, only: bytes | None
    ) -> DiskItem | None:
        real = folder.real.rstrip(b"/") + b"/" + name
        try:
            st = os.lstat(name, dir_fd=fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._problem(real, error)
            return None
        is_dir = stat.S_ISDIR(st.st_mode)
        if stat.S_ISSOCK(st.st_mode) or (is_dir and (st.st_dev, st.st_ino) in self._skip):
            return None
        passed_over = folder.passed_over
        if scope is not None:
            limit = self._rules.larger_than if self._rules is not None else None
            passed_over = (
                scope.excludes(name, is_dir)
                or (only is not None and name != only)
                or (limit is not None and stat.S_ISREG(st.st_mode) and st.st_size > limit)
            )
        inner = scope.enter(name) if scope is not None and is_dir and not passed_over else None
        path = folder.path.rstrip(b"/") + b"/" + name
        return DiskItem(path, real, st, self._names, inner, passed_over=passed_over)


def same_as_disk(vault: Browsable, *, reread: bool = False) -> SameContent:
    """How ``compare`` learns whether a saved file and one of the same size on the disk hold the same bytes.

    Equal times of modification and of change, and an equal inode, are trusted unless ``reread``; anything else is read
    from the disk and compared by hashes. Raises ``OSError``, and ``Corrupt`` where the vault's record is incomplete.
    """

    def same(saved: Item, here: Item) -> bool:
        assert isinstance(here, DiskItem), "the second side is the disk"
        entry, st = saved.entry, here.st
        if not reread and (entry.st_mtime_ns, entry.st_ctime_ns, entry.st_ino) == (
            *(st.st_mtime_ns, st.st_ctime_ns),
            st.st_ino,
        ):
            return True
        fd = open_file(here.real)
        try:
            return vault.holds(saved, lambda count: os.read(fd, count))
        finally:
            os.close(fd)

    return same


def pairs_with_disk(
    vault: Browsable, snapshot: SnapshotInfo, path: bytes, disk: Disk
) -> list[tuple[Item | None, DiskItem | None]]:
    """What to compare with what: for each path that was backed up, the saved item and the one on the disk.

    With a ``path`` (of the snapshot) only that, or what was backed up beneath it. Raises ``NotFound`` if neither side
    has it.
    """
    wanted = b"/" + b"/".join(part for part in path.split(b"/") if part)
    inside = wanted.rstrip(b"/") + b"/"
    pairs: list[tuple[Item | None, DiskItem | None]] = []
    for saved, real in tops(vault, snapshot):
        if saved == wanted or saved.startswith(inside):
            pairs.append((_find(vault, snapshot, saved), disk.top(saved, real)))
        elif wanted.startswith(saved.rstrip(b"/") + b"/"):
            top = disk.top(saved, real)
            pairs.append((_find(vault, snapshot, wanted), None if top is None else disk.below(top, wanted)))
    pairs = [pair for pair in pairs if pair != (None, None)]
    if not pairs:
        vault.find(snapshot, wanted)  # tells what is missing, and what the nearest folder is
        raise NotFound(
            f"{os.fsdecode(wanted)} is in this snapshot, but was not itself backed up from this disk.",
            hint="Compare one of the paths that 'holdfast snapshots' shows, or something in it.",
        )
    return pairs


def tops(vault: Browsable, snapshot: SnapshotInfo) -> list[tuple[bytes, bytes]]:
    """For each path that was backed up: where it is in the snapshot, and where it was on the disk (both absolute).

    A path that was given as an absolute one stands in the snapshot with all folders above it, a relative one only with
    the parts that were given, a lone ``.`` as the root. The snapshot does not say which it was, so it is looked up.
    """
    found: list[tuple[bytes, bytes]] = []
    streamed = os.fsdecode(as_path(()))  # dumps of databases, which never were on a disk
    paths = [text for text in snapshot.paths if not text.startswith(streamed)] or snapshot.paths
    for text in paths:
        parts = [part for part in text.split("/") if part]
        place, real = b"/", os.fsencode(text)
        for start in range(len(parts)):
            names = _locate(vault, snapshot, parts[start:])
            if names is None:
                continue
            inside = os.fsencode(text) + b"/" + b"/".join(names)
            if start and len(paths) == 1 and os.path.lexists(inside):
                continue  # a folder was saved as ".", and holds one of its own name
            place = b"/" + b"/".join(names)
            if not start:
                real = place  # the recorded text has lost bytes that are not UTF-8
            break
        else:
            if len(paths) > 1:
                place = os.path.normpath(real)  # was not there when the backup was made
        found.append((place, real))
    return found


def _locate(vault: Browsable, snapshot: SnapshotInfo, parts: list[str]) -> list[bytes] | None:
    """The names that stand for these parts of a path, one below the other from the root; None if they are not there."""
    names: list[bytes] = []
    folder: Item = vault.find(snapshot, b"")
    for part in parts:
        found = next((item for item in vault.children(folder) if _recorded(item.name) == part), None)
        if found is None:
            return None
        names.append(found.name)
        folder = found
    return names


def _recorded(name: bytes) -> str:
    """A name as it looks in a snapshot's list of paths: every byte that is not UTF-8 became U+FFFD."""
    text = name.decode("utf-8", "surrogateescape")
    return "".join("\ufffd" if "\udc80" <= character <= "\udcff" else character for character in text)


def _find(vault: Browsable, snapshot: SnapshotInfo, path: bytes) -> Item | None:
    try:
        return vault.find(snapshot, path)
    except NotFound:
        return None
