"""What a drill is asked, and what it proved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.vaults.base import Damage, RestoreSummary

SHOWN_FILES = 100
"""So many files a damage names; it counts all."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How much is restored: a ``percent`` of the bytes, or so many in ``size``. One of them is given."""

    percent: float | None = None
    size: int | None = None

    def of(self, total: int) -> int:
        """The bytes of a snapshot of ``total`` that are wanted."""
        return int(total * self.percent / 100) if self.percent is not None else min(total, self.size or 0)


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """``root``: an empty folder that only we can enter. ``sample`` None restores everything.

    ``dumps`` always restores what is below ``/.holdfast/databases``; ``named`` tells of other paths that are restored
    in any case. ``hosts``: a snapshot of one of them was made of the files of this machine, with which it is compared.
    ``seed`` decides what is in a sample. ``workers`` 0 compares in this process.
    """

    root: bytes
    sample: Sample | None = None
    dumps: bool = True
    named: Callable[[bytes], bool] = lambda _path: False
    hosts: frozenset[str] = frozenset()
    seed: bytes = b""
    workers: int | None = None


@dataclass(slots=True)
class Compared:
    """Counts of a comparison. Files and bytes that were read back; of those the bytes whose hash was compared with the
    vault's, and the files and bytes that were also equal to their unchanged originals, byte by byte.

    ``changed``: files whose originals are gone, or others since. ``findings``: (kind, path in the snapshot, why).
    ``sqlite``: paths of the restored files that begin as databases of SQLite do.
    """

    files: int = 0
    size: int = 0
    links: int = 0
    folders: int = 0
    originals: int = 0
    original_size: int = 0
    changed: int = 0
    findings: list[tuple[str, bytes, str]] = field(default_factory=list)
    sqlite: list[bytes] = field(default_factory=list)

    def add(self, other: Compared) -> None:
        """Take in another part."""
        self.files += other.files
        self.size += other.size
        self.links += other.links
        self.folders += other.folders
        self.originals += other.originals
        self.original_size += other.original_size
        self.changed += other.changed
        self.findings += other.findings
        self.sqlite += other.sqlite


@dataclass(frozen=True, slots=True)
class Dump:
    """A restored dump of a database: its path in the snapshot, which is also where it is below the root."""

    path: bytes
    size: int


@dataclass(slots=True)
class Proof:
    """What came of restoring and comparing. ``seconds`` of the restore are in ``restored``, ``compare_seconds`` beside.

    ``files_total`` and ``size_total`` are of the whole snapshot, ``files`` and ``size`` (bytes) of what was chosen.
    ``damage`` is what the vault, or what came out of it, is not as it should be; ``unproven`` are items that could not
    be restored here for other reasons: (path, why).
    """

    restored: RestoreSummary
    compared: Compared
    files_total: int
    size_total: int
    files: int
    size: int
    passed_over: int
    compare_seconds: float
    dumps: tuple[Dump, ...]
    damage: list[Damage] = field(default_factory=list)
    unproven: list[tuple[bytes, str]] = field(default_factory=list)
