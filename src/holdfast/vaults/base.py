"""What every vault can do, what it is asked with, and what it answers with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from holdfast.files.chosen import Chosen
from holdfast.files.entry import Entry
from holdfast.files.rules import Rules
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Emit
from holdfast.kernel.ids import SnapshotId
from holdfast.kernel.values import dataclass
from holdfast.sources.base import Source
from holdfast.vaults.proven import Proven, Proving

if TYPE_CHECKING:
    from holdfast.sources.onescan import OneScan


class Outcome(StrEnum):
    """How a run ended. ``partial``: finished, but some items failed and are listed."""

    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Problem:
    """One item that could not be handled: its path (as the user knows it), what went wrong, and during what."""

    path: bytes
    message: str
    during: str = ""


class SnapshotPart(NamedTuple):
    """What one run brought into a snapshot that several runs made: the members mean what those of a snapshot do."""

    paths: tuple[str, ...]
    time: str
    time_ns: int
    hostname: str
    tags: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One saved version, as shown to people. Times are nanoseconds since 1970 UTC; ``time`` is the recorded text.

    ``summary`` holds restic's summary block (counts and bytes) or None where the writer left none. ``parts``: where
    runs of different plans made it together (a mirror), which of its paths is of which run, the newest first; the
    snapshot's own time, host, tags and note are those of the last run. Empty where one run made all of it.
    """

    id: SnapshotId
    time: str
    time_ns: int
    hostname: str
    username: str
    paths: tuple[str, ...]
    tags: tuple[str, ...] = ()
    parent: bytes | None = None
    tree: bytes = b""
    program: str = ""
    summary: dict[str, Any] | None = None
    excludes: tuple[str, ...] = ()
    original: bytes | None = None
    note: str = ""
    parts: tuple[SnapshotPart, ...] = ()

    @property
    def runs(self) -> tuple[SnapshotInfo, ...]:
        """What each run brought, as if it were a snapshot; of most snapshots only themselves."""
        return tuple(replace(self, parts=(), **part._asdict()) for part in self.parts) or (self,)


@dataclass(frozen=True, slots=True)
class SnapshotFilter:
    """Which snapshots are meant. Empty fields match everything; several tags in one set must all be there."""

    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    tags: tuple[frozenset[str], ...] = ()

    def matches(self, snapshot: SnapshotInfo) -> bool:
        """Whether ``snapshot`` is meant (restic's rules: any host, all paths, any of the tag sets), with all that is
        in it."""
        return self._has_paths(snapshot) and all(map(self._fits, snapshot.runs))

    def fitting(self, snapshot: SnapshotInfo) -> list[SnapshotInfo]:
        """What of ``snapshot`` is meant, run by run; nothing where nothing is."""
        return [run for run in snapshot.runs if self._fits(run)] if self._has_paths(snapshot) else []

    def _has_paths(self, snapshot: SnapshotInfo) -> bool:
        return not self.paths or set(self.paths) <= set(snapshot.paths)

    def _fits(self, run: SnapshotInfo) -> bool:
        if self.hosts and run.hostname not in self.hosts:
            return False
        return not self.tags or any(tags <= set(run.tags) for tags in self.tags)


@dataclass(frozen=True, slots=True)
class BackupOptions:
    """What to save and how. ``paths`` are as the user gave them (relative ones are kept relative, as restic does).

    ``force`` reads every file again. ``allow_empty`` lets a vault with a current tree follow a source
    that is suddenly empty.
    ``optional`` paths may be missing (a warning). ``parent`` is an id prefix or None for the latest of the same host
    and paths. ``workers`` 0 keeps everything in this process; None chooses by the machine.
    ``estimate`` counts everything meanwhile, so that ticks carry totals. ``sources`` are databases and programs whose
    output is saved below ``/.holdfast/databases``; ``sqlite`` saves SQLite files among the paths consistently.
    ``scan``: what backups of the same paths and rules into other vaults, in the same run, found in directories.
    """

    paths: tuple[bytes, ...]
    rules: Rules
    optional: frozenset[bytes] = frozenset()
    hostname: str = ""
    username: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    parent: str | None = None
    force: bool = False
    allow_empty: bool = False
    one_file_system: bool = False
    dry_run: bool = False
    verbose: bool = False
    estimate: bool = False
    workers: int | None = None
    exclude_texts: tuple[str, ...] = ()
    program: str = "holdfast"
    sources: tuple[Source, ...] = ()
    sqlite: bool = False
    scan: OneScan | None = None


@dataclass(slots=True)
class BackupSummary:
    """What a backup did; the counts have the meaning of restic's summary block, bytes are bytes.

    ``databases`` were copied or dumped. ``snapshot`` is None after a dry run. ``added_packed`` is what the new blobs
    occupy in the vault. ``files_removed``: what a vault with a current tree no longer has in it (no folders); 0 in an
    archive.
    """

    outcome: Outcome = Outcome.OK
    snapshot: SnapshotId | None = None
    parent: SnapshotId | None = None
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    files_removed: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    data_added: int = 0
    data_added_packed: int = 0
    total_files: int = 0
    total_bytes: int = 0
    excluded: int = 0
    databases: int = 0
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


class Overwrite(StrEnum):
    """What to do with a file that is already at the target."""

    ALWAYS = "always"
    IF_CHANGED = "if-changed"
    IF_NEWER = "if-newer"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """Where to and what. ``path`` restores only that file or folder of the snapshot (its content, not its parents).

    ``in_place`` writes every item back to the absolute path it was saved from; ``target`` is then ignored.
    ``delete`` removes what the snapshot does not hold from restored folders, unless ``exclude`` (or not ``include``)
    names it; folders above what the backup saved are left alone. What is written was always verified against its hash;
    ``verify`` reads every written file back from the disk as well. ``owner`` restores owner and group (True: a failure
    is a problem; False: the files belong to who restores; None: owner and group as root, else the group if possible).
    ``proving`` reads every file back as it is written, and compares it, which costs less than ``verify``.
    ``transient``: nobody looks at the target before the restore has ended, nor after a crash, so small files may get
    their names as they are made, which spares a twentieth of the time.
    """

    target: bytes
    path: bytes = b""
    in_place: bool = False
    include: Rules | Chosen | None = None
    exclude: Rules | None = None
    overwrite: Overwrite = Overwrite.ALWAYS
    delete: bool = False
    dry_run: bool = False
    verify: bool = False
    sparse: bool = True
    owner: bool | None = None
    workers: int | None = None
    proving: Proving | None = None
    transient: bool = False


@dataclass(slots=True)
class RestoreSummary:
    """What a restore did, or would do. ``actions`` is filled by a dry run: (verb, path) in order."""

    outcome: Outcome = Outcome.OK
    snapshot: SnapshotId | None = None
    files_restored: int = 0
    files_skipped: int = 0
    files_deleted: int = 0
    dirs: int = 0
    links: int = 0
    others: int = 0
    bytes_restored: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)
    actions: list[tuple[str, bytes]] = field(default_factory=list)
    proven: Proven = field(default_factory=Proven)


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong with a vault.

    ``kind`` is stable (``pack.missing``, ``blob.corrupt``, ``tree.invalid``, ...); ``severity`` is ``error`` or
    ``hint`` (harmless, worth knowing). ``snapshots`` and ``files`` name what the damage touches (files as
    ``snapshot-id:path``, capped; ``files_total`` tells the true number).
    """

    kind: str
    message: str
    severity: str = "error"
    snapshots: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    files_total: int = 0


@dataclass(frozen=True, slots=True)
class Subset:
    """Which part of the packs to read: ``n/t`` by the first byte of the id, or a random ``percent``, or all (None)."""

    part: tuple[int, int] | None = None
    percent: float | None = None


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """``read_data`` None looks at structure only; ``Subset()`` reads every pack. (A vault of plain files reads all of
    them by default.) ``rebuild`` makes the state index of such a vault anew from its files first.
    """

    read_data: Subset | None = None
    rebuild: bool = False
    workers: int | None = None


@dataclass(slots=True)
class CheckReport:
    """What a check looked at and what it found. Outcome is ``failed`` when any damage is an error."""

    outcome: Outcome = Outcome.OK
    kind: str = "archive"
    snapshots: int = 0
    trees: int = 0
    files: int = 0
    packs: int = 0
    packs_read: int = 0
    bytes_read: int = 0
    unused_packs: int = 0
    seconds: float = 0.0
    damage: list[Damage] = field(default_factory=list)


class Vault(Protocol):
    """A place where versions are kept. Methods raise the errors of ``kernel.errors``;
    facts and ticks go to ``emit``.
    """

    kind: str
    location: str

    def backup(self, options: BackupOptions, *, emit: Emit, cancel: Cancel) -> BackupSummary: ...

    def snapshots(self) -> Sequence[SnapshotInfo]:
        """All snapshots, oldest first."""
        ...

    def entries(self, snapshot: SnapshotInfo, path: bytes = b"") -> Iterator[Entry]:
        """Everything beneath ``path`` (the path itself first), depth first, in byte order of names."""
        ...

    def read(self, snapshot: SnapshotInfo, path: bytes) -> Iterator[bytes]:
        """The content of one file, piece by piece."""
        ...

    def restore(
        self, snapshot: SnapshotInfo, options: RestoreOptions, *, emit: Emit, cancel: Cancel
    ) -> RestoreSummary: ...

    def check(self, options: CheckOptions, *, emit: Emit, cancel: Cancel) -> CheckReport: ...
