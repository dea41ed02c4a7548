"""What a drill is asked, and what came of its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from holdfast.kernel.values import dataclass
from holdfast.vaults.base import Damage, RestoreSummary
from holdfast.vaults.drill.metadata import Metadata

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

    ``dumps``: what is below ``/.holdfast/databases`` is in every sample; ``named`` tells of other paths that are.
    ``hosts``: a snapshot of one of them was made of the files of this machine, with which it is compared.
    ``seed`` decides what is in a sample. ``workers`` 0 does all in this process.
    """

    root: bytes
    sample: Sample | None = None
    dumps: bool = True
    named: Callable[[bytes], bool] = lambda _path: False
    hosts: frozenset[str] = frozenset()
    seed: bytes = b""
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Dump:
    """A dump of a database: its path in the snapshot, which is also where it is below the root."""

    path: bytes
    size: int


@dataclass(slots=True)
class Proof:
    """What came of restoring and comparing; counts of what was proven are in ``restored.proven``.

    ``files_total`` and ``size_total`` are of the whole snapshot, ``passed_over`` counts files that are not in the
    sample. ``damage`` is what the vault, or what came out of it, is not as it should be; ``unproven`` are items that
    could not be restored here for other reasons: (path, why). ``metadata`` None: not compared, for only a sample was
    restored, or the snapshot went away meanwhile.
    """

    restored: RestoreSummary
    files_total: int
    size_total: int
    passed_over: int
    dumps: tuple[Dump, ...]
    damage: list[Damage] = field(default_factory=list)
    unproven: list[tuple[bytes, str]] = field(default_factory=list)
    metadata: Metadata | None = None
