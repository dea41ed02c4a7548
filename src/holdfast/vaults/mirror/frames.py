"""One directory while it is being mirrored, and what a run counts and tells."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from holdfast.files.rules import Scope
from holdfast.kernel.clock import Clock
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.vaults.base import BackupSummary, Problem

TICK_SECONDS = 0.1

VANISHED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What the system says of something that is not there any more."""


class Deferred(NamedTuple):
    """A file that a worker copies: its stamp as listed and its size, what to call it when it is done, the hash of the
    copy that stays if it fails, and whether it changed so recently that it must be looked at again."""

    listed: bytes
    size: int
    word: str
    hash: bytes | None
    fresh: bool


class Frame:
    """One directory: where it is (``path`` on this machine, ``here`` in the mirror), and how far it has come.

    ``name`` is empty where ``scope`` is its own already. ``fix``: its metadata are to be given anew. ``only``: the
    entries that are meant; None means all, and then nothing else stays in the mirror's directory.
    """

    __slots__ = (
        *("complete", "deferred", "failed", "files", "fix", "here", "key", "kept", "name", "only", "parent", "path"),
        *("records", "relook", "scope", "size", "st", "ticket", "waiting", "wrote", "xattrs"),
    )

    def __init__(
        self,
        path: bytes,
        here: bytes,
        scope: Scope,
        *,
        name: bytes = b"",
        parent: Frame | None = None,
        fix: bool = False,
        only: frozenset[bytes] | None = None,
    ) -> None:
        self.path = path
        self.here = here
        self.scope = scope
        self.name = name
        self.parent = parent
        self.fix = fix
        self.only = only
        self.failed = self.kept = False
        self.ticket = 0
        self.waiting = 0  # directories in it that are not done yet, and batches of files that are not copied yet
        self.deferred: dict[bytes, Deferred] = {}
        self.wrote = False  # something was made, replaced or removed directly in the mirror's directory
        self.relook = False  # a directory in it was given new metadata, so what was known of it is out of date
        self.complete = True  # everything in it was read as it was listed: equal hashes will mean that nothing changed
        self.key = b""
        self.st: os.stat_result | None = None
        self.xattrs: Sequence[tuple[bytes, bytes]] = ()
        self.records: dict[bytes, tuple[bytes, bytes]] = {}
        self.files = self.size = 0

    def source(self, name: bytes) -> bytes:
        """The path of an entry on this machine."""
        return self.path + b"/" + name if self.path != b"/" else b"/" + name

    def copy(self, name: bytes) -> bytes:
        """The path of an entry in the mirror."""
        return self.here + b"/" + name if self.here else name


class Telling:
    """Counts what happens into a summary and tells it: problems always, items where they are listed."""

    def __init__(self, summary: BackupSummary, emit: Emit, clock: Clock, *, changes: bool, everything: bool) -> None:
        """``changes``: a fact for everything that is new, changed or removed; ``everything``: also for the rest."""
        self.summary = summary
        self._emit = emit
        self._clock = clock
        self._changes = changes or everything
        self._everything = everything
        self._warned: set[str] = set()
        self._next = 0.0
        self._done = 0

    def file(self, word: str, path: bytes, size: int) -> None:
        """A file: ``new``, ``changed`` or ``unchanged``."""
        name = _COUNTS[word]
        setattr(self.summary, name, getattr(self.summary, name) + 1)
        self.summary.total_bytes += size
        self._done += 1
        self.other(word, path)

    def copied(self, word: str, path: bytes, size: int) -> None:
        """A file whose content was (or would be) copied."""
        self.file(word, path, size)
        self.summary.data_added += size
        self.summary.data_added_packed += size

    def new(self, files: int, size: int) -> None:
        """Many files that were copied for the first time, where nobody wants to see changes one by one."""
        self.summary.files_new += files
        self._done += files
        self.summary.total_bytes += size
        self.summary.data_added += size
        self.summary.data_added_packed += size

    def other(self, word: str, path: bytes) -> None:
        """Something that is not counted as a file."""
        if self._everything or (self._changes and word != "unchanged"):
            self._emit(Fact(f"item.{word}", "", "info", {"path": path, "why": ""}))

    def unchanged(self, files: int, size: int) -> None:
        """Many files at once, which nobody wants to see one by one."""
        self.summary.files_unmodified += files
        self.summary.total_bytes += size
        self._done += files

    @property
    def wants_changes(self) -> bool:
        """Whether new and changed files are listed."""
        return self._changes

    @property
    def wants_everything(self) -> bool:
        """Whether unchanged files are listed too."""
        return self._everything

    def directory(self, word: str) -> None:
        """A directory: ``new``, ``changed`` or ``unmodified``."""
        name = f"dirs_{word}"
        setattr(self.summary, name, getattr(self.summary, name) + 1)

    def removed(self, path: bytes, mode: int) -> None:
        """Something that is (or would be) no longer in the mirror."""
        if not stat.S_ISDIR(mode):
            self.summary.files_removed += 1
        self.other("removed", path)

    def gone(self, frame: Frame, name: bytes, found: Sequence[tuple[bytes, int]]) -> None:
        """What went away at and below an entry: paths from there, and modes."""
        for path, mode in found:
            self.removed(frame.source(name) + path, mode)

    def unreadable(self, frame: Frame, name: bytes, error: OSError) -> None:
        """An entry that cannot be read: the mirror keeps its copy, the next run tries again."""
        frame.complete = False
        if error.errno in VANISHED:
            self.warning(frame.source(name), "vanished while the backup was running")
        else:
            self.failed(frame.source(name), error.strerror or str(error))

    def excluded(self, path: bytes, why: str) -> None:
        """Left out by a rule."""
        self._emit(Fact("item.excluded", why, "info", {"path": path, "why": why}))

    def failed(self, path: bytes, why: str) -> None:
        """A problem: the run ends as partial."""
        self.summary.problems.append(Problem(path, why, "backup"))
        self._emit(Fact("item.failed", why, "error", {"path": path, "why": why}))

    def warning(self, path: bytes, why: str, *, once: bool = False) -> None:
        """Worth knowing. With ``once`` only the first item for which the same is true."""
        if once and why in self._warned:
            return
        self._warned.add(why)
        self.summary.warnings.append(Problem(path, why, "backup"))
        self._emit(Fact("item.warning", why, "warning", {"path": path, "why": why}))

    def tell(self, kind: str, path: bytes, why: str) -> None:
        """A problem, a warning, or a fact of another kind about an entry."""
        if kind in ("failed", "warning"):
            (self.failed if kind == "failed" else self.warning)(path, why)
        else:
            self._emit(Fact(f"item.{kind}", why, "info", {"path": path, "why": why}))

    def tick(self, path: bytes) -> None:
        """How far the run has come, at most ten times a second."""
        now = self._clock.monotonic()
        if now >= self._next:
            self._next = now + TICK_SECONDS
            summary = self.summary
            errors = len(summary.problems)
            self._emit(Tick("backup", self._done, summary.total_bytes, None, None, os.fsdecode(path), errors))


_COUNTS = {"new": "files_new", "changed": "files_changed", "unchanged": "files_unmodified"}
