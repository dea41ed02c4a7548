"""The step that a backup is filling: what is new waits in staging, what is former in the history."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from holdfast.files.entry import countable
from holdfast.files.names import Names
from holdfast.files.safepath import translated
from holdfast.vaults.versioned.current import open_current
from holdfast.vaults.versioned.former import LONGEST_TEXT, Keeper
from holdfast.vaults.versioned.index import Index
from holdfast.vaults.versioned.journal import Tell, clear, commit
from holdfast.vaults.versioned.layout import Layout, step_name
from holdfast.vaults.versioned.manifest import is_written
from holdfast.vaults.versioned.model import CURRENT, LOST, Change, Snapshot, Step, Version, join
from holdfast.vaults.versioned.staging import Content, Staging

if TYPE_CHECKING:
    from holdfast.format.node import Stat  # not at run time: it brings the cryptography along, 12 ms

_CANNOT_MAKE = frozenset({errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

MOST_CHANGES = 10_000
MOST_BYTES = 2 << 30
"""After so much a step is committed and the next one begun: an interrupted first run goes on from there, and what is
replaced does not occupy its place twice for longer."""


class Draft:
    """Changes that are not yet part of the vault. In a dry run nothing is read but what must be, and nothing kept."""

    def __init__(self, layout: Layout, index: Index, tell: Tell, *, dry_run: bool) -> None:
        self._layout = layout
        self._index = index
        self._tell = tell
        self.dry_run = dry_run
        self.number = index.fact("step") + 1
        self.changes: list[Change] = []
        self.refreshed: list[tuple[bytes, Version]] = []
        self.listings: dict[bytes, bytes | None] = {}
        self.committed = 0
        self.stored = 0
        self._bytes = 0
        self._staging: Staging | None = None
        self._keeper: Keeper | None = None

    @property
    def staging(self) -> Staging:
        if self._staging is None:
            self._staging = Staging(self._layout, self.number)
        return self._staging

    @property
    def full(self) -> bool:
        """Whether it is time to commit."""
        return not self.dry_run and (len(self.changes) >= MOST_CHANGES or self._bytes >= MOST_BYTES)

    def add(self, change: Change) -> None:
        self.changes.append(change)
        if change.staged and change.after is not None:
            self._bytes += change.after.size

    def copy(self, folder: int, name: bytes, st: Stat, unless: Callable[[Content], bool]) -> tuple[Content, int]:
        """See :meth:`Staging.copy`. Raises ``OSError`` for the source, the errors of ``translated`` for the vault."""
        staging = self.staging
        try:
            return staging.copy(folder, name, st, unless)
        except OSError as error:
            if not staging.writing:
                raise
            raise translated(error, "write to the vault", self._layout.root) from error

    def make(self, folder: int, name: bytes, version: Version) -> int:
        """See :meth:`Staging.make`. Raises ``OSError`` for what this user or the vault's file system cannot make."""
        try:
            return self.staging.make(folder, name, version)
        except OSError as error:
            if error.errno in _CANNOT_MAKE:
                raise
            raise translated(error, "write to the vault", self._layout.root) from error

    def end(self, folder: bytes, version: Version, after: Content | None, staged: int) -> tuple[Version, int]:
        """A current version that ends with this step, its content kept; and the depth of the one that follows.

        ``after``: the content that takes its place if that is a file, staged under its number.
        """
        if not version.is_file or self.dry_run:
            return version, 0
        try:
            history, depth = self._keep(folder, version, after, staged)
        except OSError as error:
            raise translated(error, "write to the vault", self._layout.root) from error
        return version._replace(history=history), depth

    def commit(self, snapshot: Snapshot | None = None) -> None:
        """Make it part of the vault, and begin the next. Nothing happens if there is nothing."""
        if self.dry_run:
            return
        if self.changes or snapshot is not None:
            self._close()
            commit(
                self._layout,
                self._index,
                Step(self.number, self.changes, snapshot),
                listings=self.listings,
                refreshed=self.refreshed,
                tell=self._tell,
            )
            self.committed += 1
        elif self.refreshed or self.listings:
            with self._index.transaction():
                self._index.refresh(self.refreshed)
                self._index.set_listings(self.listings)
            self.discard()
        self.number = self._index.fact("step") + 1
        self.changes, self.refreshed, self.listings = [], [], {}
        self._bytes = 0

    def discard(self) -> None:
        """Remove what was staged and kept for changes that are not going to be made. What is in the manifest already
        stays for the next run, which carries it out: the disk may have been full in the middle of that."""
        self._close()
        if not self.dry_run and not is_written(self._layout, self.number):
            clear(self._layout.stage(self.number))
            clear(self._layout.history + b"/" + step_name(self.number))

    def _close(self) -> None:
        if self._staging is not None:
            self._staging.close()
            self._staging = None
        if self._keeper is not None:
            self.stored += self._keeper.bytes
            self._keeper = None

    def _keep(self, folder: bytes, version: Version, after: Content | None, staged: int) -> tuple[str, int]:
        path = join(folder, version.name)
        if self._keeper is None:
            self._keeper = Keeper(self._layout, self.number)
        try:
            fd = open_current(self._layout.root, path)
        except OSError as error:
            self._tell("damage", path, f"its current copy cannot be kept as a former version: {error.strerror}")
            return LOST, 0
        try:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                self._tell("damage", path, "its current copy is no file any more, and cannot be kept")
                return LOST, 0
            if st.st_size > LONGEST_TEXT:
                history, digest = self._keeper.keep_long(fd)
                depth = 0
            else:
                with open(fd, "rb", closefd=False) as file:
                    before = file.read()
                digest = sha256(before).digest()
                sound = digest == version.sha256 and after is not None and after.size <= LONGEST_TEXT
                new = None
                if sound and after is not None:
                    new = after.data if after.data is not None else self.staging.read(staged)
                history, depth = self._keeper.keep(before, new, version.depth)
        finally:
            os.close(fd)
        if digest != version.sha256:
            self._tell("damage", path, "its current copy had changed in the vault; it is kept as it was found")
        return history, depth


def version_of(
    name: bytes,
    st: Stat,
    step: int,
    names: Names,
    *,
    content: Content | None = None,
    target: bytes | None = None,
    xattrs: tuple[tuple[bytes, bytes], ...] = (),
    trusted: bool = True,
) -> Version:
    """What is in the source now. ``trusted`` False: it may have changed since without another ctime, so the next run
    compares the content."""
    mask = (1 << 63) - 1
    return Version(
        name=name, first=step, last=CURRENT, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid, user=names.user(st.st_uid),
        group=names.group(st.st_gid), size=content.size if content is not None else 0, mtime=countable(st.st_mtime_ns),
        ctime=st.st_ctime_ns if trusted else 0, inode=st.st_ino & mask, device=st.st_dev & mask,
        links=st.st_nlink if content is not None else 1, rdev=st.st_rdev & mask if target is None else 0,
        sha256=content.sha256 if content is not None else b"", target=target,
        xattrs=content.xattrs if content is not None else xattrs, history="", depth=0,
    )  # fmt: skip
