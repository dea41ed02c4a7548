"""What a check has found so far: one finding for each thing that is wrong,
later given the snapshots and files it touches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from holdfast.kernel.events import Emit, Fact
from holdfast.kernel.ids import PackId, short
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import Damage

NAMED_FILES = 100
"""How many files one damage names; ``files_total`` tells how many there are."""

_SHOWN = 5
_UNSTEADY_HINT = "correct at the second read; look at the disk, its cable and the machine's memory"


@dataclass(slots=True)
class Finding:
    """One damage in the making. ``lost`` are the blobs that cannot be read because of it; ``nodes`` names nodes of a
    tree (by the tree's number in the index) that it touches, an empty name meaning the whole directory."""

    kind: str
    message: str
    severity: str = "error"
    lost: set[bytes] = field(default_factory=set)
    nodes: dict[int, list[bytes]] = field(default_factory=dict)
    snapshots: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    files_total: int = 0

    def damage(self) -> Damage:
        """The finished value."""
        return Damage(
            self.kind, self.message, self.severity, tuple(self.snapshots), tuple(self.files), self.files_total
        )


@dataclass(slots=True)
class PackTrouble:
    """Everything that is wrong with one pack: reasons in words (each once, in order), and the blobs that it lost."""

    kind: str = "pack.corrupt"
    reasons: dict[str, None] = field(default_factory=dict)
    lost: set[bytes] = field(default_factory=set)
    unsteady: dict[str, None] = field(default_factory=dict)


class Findings:
    """All findings of one check, in the order in which they were made."""

    def __init__(self) -> None:
        self.all: list[Finding] = []
        self.packs: dict[PackId, PackTrouble] = {}

    def add(
        self,
        kind: str,
        message: str,
        *,
        severity: str = "error",
        lost: Iterable[bytes] = (),
        snapshots: Iterable[str] = (),
    ) -> Finding:
        """One more thing that is wrong, or (severity ``hint``) worth knowing."""
        finding = Finding(kind, message, severity, set(lost), snapshots=list(snapshots))
        self.all.append(finding)
        return finding

    def pack(self, pack: PackId) -> PackTrouble:
        """The troubles of a pack, to be added to."""
        return self.packs.setdefault(pack, PackTrouble())

    def close_packs(self) -> None:
        """Turn what was gathered about packs into one finding for each pack."""
        for pack, trouble in self.packs.items():
            if trouble.reasons:
                lost = _counted(len(trouble.lost))
                tail = f" ({lost})" if trouble.lost else ""
                message = f"Pack {short(pack)} is damaged: {'; '.join(trouble.reasons)}{tail}."
                self.add(trouble.kind, message, lost=trouble.lost)
            elif trouble.unsteady:
                message = f"Pack {short(pack)}: {'; '.join(trouble.unsteady)}: {_UNSTEADY_HINT}."
                self.add("pack.unsteady", message, severity="hint")
        self.packs = {}

    @property
    def errors(self) -> int:
        """How many are real damage."""
        packs = sum(1 for trouble in self.packs.values() if trouble.reasons)
        return packs + sum(1 for finding in self.all if finding.severity == "error")

    def tell(self, emit: Emit) -> None:
        """One fact for each finding."""
        for finding in self.all:
            level = "error" if finding.severity == "error" else "warning"
            data = {
                "damage": finding.kind,
                "severity": finding.severity,
                "snapshots": list(finding.snapshots),
                "files": list(finding.files),
                "files_total": finding.files_total,
            }
            emit(Fact("damage.found", finding.message, level, data))


def listed(ids: Iterable[bytes]) -> str:
    """The first few ids for people, and how many more there are."""
    ordered = sorted(ids)
    shown = ", ".join(map(short, ordered[:_SHOWN]))
    return shown if len(ordered) <= _SHOWN else f"{shown} and {len(ordered) - _SHOWN:,} more"


def _counted(blobs: int) -> str:
    return "1 blob is lost in it" if blobs == 1 else f"{blobs:,} blobs are lost in it"
