"""What a restore is asked to prove of every file that it writes, and what it proved."""

from __future__ import annotations

from dataclasses import field

from holdfast.kernel.values import dataclass


@dataclass(frozen=True, slots=True)
class Proving:
    """Read back what is written, and compare it. ``prefixes`` (folders with a slash at the end) and ``exact`` are paths
    of the snapshot whose originals may still be on this machine: files there are compared with them if size and time
    are those of the snapshot. ``made_ns``: when the snapshot was made, in nanoseconds since 1970 UTC."""

    prefixes: tuple[bytes, ...] = ()
    exact: frozenset[bytes] = frozenset()
    made_ns: int = 0


@dataclass(slots=True)
class Proven:
    """Counts. ``files`` and ``size`` (bytes) were read back and are what the vault's hashes say. Of those
    ``originals`` and ``original_size`` were also equal to their unchanged originals, byte by byte; ``changed`` have
    none any more.

    ``findings``: (kind, path in the snapshot, why); ``file.differs`` or ``original.differs``. ``sqlite``: paths of the
    files that begin as databases of SQLite do.
    """

    files: int = 0
    size: int = 0
    originals: int = 0
    original_size: int = 0
    changed: int = 0
    findings: list[tuple[str, bytes, str]] = field(default_factory=list)
    sqlite: list[bytes] = field(default_factory=list)

    def add(self, other: Proven) -> None:
        """Take in what another process proved."""
        self.files += other.files
        self.size += other.size
        self.originals += other.originals
        self.original_size += other.original_size
        self.changed += other.changed
        self.findings += other.findings
        self.sqlite += other.sqlite
