"""What a drill proved of databases and by commands, and the whole result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.vaults.base import Damage, Outcome, SnapshotInfo
    from holdfast.vaults.drill.model import Proof, Sample

QUERY_SECONDS = 600.0
"""The most that one query may take."""

_SHOWN_VALUE = 80


@dataclass(frozen=True, slots=True)
class QueryProof:
    """A query of the user: whether its first value was true, that value, or why there is none."""

    sql: str
    ok: bool
    value: str = ""
    message: str = ""


@dataclass(slots=True)
class DatabaseProof:
    """One database. ``ok`` None: it could not be looked at here, ``message`` tells why; False: it is not as it should
    be, or a query was not true. ``seconds``: loading it. ``before``: rows of those tables that have fewer than in the
    last drill (0 rows now where the table is gone)."""

    name: str
    kind: str
    path: bytes
    size: int
    ok: bool | None = True
    message: str = ""
    seconds: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    queries: list[QueryProof] = field(default_factory=list)

    @property
    def total_rows(self) -> int:
        """The rows of all tables."""
        return sum(self.rows.values())

    def fail(self, message: str) -> None:
        """It is not as it should be."""
        self.ok = False
        self.message = f"{self.message}; {message}" if self.message else message


@dataclass(frozen=True, slots=True)
class CommandProof:
    """A command in the restored tree: whether it succeeded, the end of what it printed, or why it failed."""

    name: str
    ok: bool
    seconds: float
    output: str = ""
    message: str = ""


@dataclass(slots=True)
class DrillResult:
    """All of a drill.

    ``recovery_seconds`` (RTO): opening the vault, restoring, loading dumps, without what only a drill does.
    ``data_age_seconds`` (RPO): what a restore would lose. ``unproven``: sentences on what was not proven, and why.
    ``previous``: data of the last drills, newest first. ``kept``: where the restored tree is, if it was kept.
    """

    outcome: Outcome
    snapshot: SnapshotInfo
    plan: str
    vault: str
    vault_kind: str
    host: str
    program: str
    began_ns: int
    seconds: float
    open_seconds: float
    load_seconds: float
    data_age_seconds: float
    sample: Sample | None
    proof: Proof
    databases: list[DatabaseProof]
    commands: list[CommandProof]
    damage: list[Damage]
    unproven: list[str]
    previous: list[Mapping[str, Any]] = field(default_factory=list)
    kept: str = ""

    @property
    def recovery_seconds(self) -> float:
        """See above."""
        return self.open_seconds + self.proof.restored.seconds + self.load_seconds


def shown_value(value: object) -> str:
    """A value of a query for people, cut."""
    text = "NULL" if value is None else str(value)
    return text if len(text) <= _SHOWN_VALUE else text[: _SHOWN_VALUE - 1] + "…"


def is_true(value: object) -> bool:
    """Whether what a query gave counts as true (a value, or how a client shows it): not null, false, zero or empty."""
    if value is None or isinstance(value, (int, float)):
        return bool(value)
    text = str(value).strip().lower()
    if text in ("", "f", "false", "n", "no", "null", "\\n"):
        return False
    try:
        return float(text) != 0
    except ValueError:
        return True
