"""The disk that a snapshot was made of, as items that can be compared with the saved ones."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence

from holdfast.files.entry import Entry, kind_of
from holdfast.files.names import Names
from holdfast.files.rules import Rules, Scope
from holdfast.files.xattrs import read_xattrs
from holdfast.vaults.archive.scan import open_directory, read_ignore_file
from holdfast.vaults.items import Item

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

    def __init__(self, rules: Rules | None, problem: Problem, *, skip: frozenset[tuple[int, int]] = frozenset()) -> None:
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
