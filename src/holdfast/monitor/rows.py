"""Facts and runs as rows of the journal's tables: written, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from holdfast.kernel.values import dataclass
from holdfast.monitor.lines import Row, record_of_row
from holdfast.monitor.record import Record, time_text
from holdfast.monitor.schema import facts, runs

_AT_ONCE = 500  # SQLite before 3.32 takes no more than 999 values in one statement

_OF_START = ("started_ns", "machine", "boot", "pid_space", "pid_started", "pid", "host", "role")
_OF_END = ("finished_ns", "outcome", "seconds", "message", "data")

STARTED, FINISHED = "run.started", "run.finished"

_COLUMNS = tuple(name for name in Record.__slots__ if name != "seq")
_KIND = _COLUMNS.index("kind")
_INSERT = {
    dialect: f"INSERT INTO facts ({', '.join(_COLUMNS)}) VALUES ({f'{mark}, ' * (len(_COLUMNS) - 1)}{data}) "
    "ON CONFLICT (id) DO NOTHING"
    for dialect, mark, data in (("sqlite", "?", "?"), ("postgresql", "%s", "%s::json"))
}
"""By dialect. ``data`` is the last column."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run. ``finished_ns`` is None and ``outcome`` empty while it is running; then ``outcome`` is ``ok``,
    ``partial``, ``failed``, ``cancelled`` or ``refused``, and ``data`` is that of ``run.finished``."""

    id: str
    operation: str
    plan: str
    vault: str
    host: str
    started_ns: int
    finished_ns: int | None
    outcome: str
    seconds: float
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)
    parent: str = ""

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` shows; times as RFC 3339 in UTC."""
        return {
            "id": self.id,
            "operation": self.operation,
            "plan": self.plan,
            "vault": self.vault,
            "host": self.host,
            "started": time_text(self.started_ns),
            "finished": None if self.finished_ns is None else time_text(self.finished_ns),
            "outcome": self.outcome,
            "seconds": round(self.seconds, 3),
            "message": self.message,
            "parent": self.parent,
            "data": dict(self.data),
        }


def add_facts(connection: sa.Connection, rows: Sequence[Row]) -> int:
    """Write those facts that are not there yet, and what they say of runs. Returns how many were new."""
    of_runs = [record_of_row(row) for row in rows if row[_KIND] in (STARTED, FINISHED)]
    known = _known(connection, [record.id for record in of_runs])
    # By the driver itself, rows as they are: a third of the time that Core takes.
    done = connection.exec_driver_sql(
        _INSERT[connection.dialect.name], list(rows), execution_options={"preserve_rowcount": True}
    )
    _add_runs(connection, (record for record in of_runs if record.id not in known))
    return done.rowcount


def seq_of(connection: sa.Connection, identifier: str) -> int:
    """The position of a fact that is there."""
    return int(connection.execute(sa.select(facts.c.seq).where(facts.c.id == identifier)).scalar_one())


def record_of(row: sa.Row[Any]) -> Record:
    """The fact that a row of ``facts`` holds."""
    return Record(**row._mapping)


def run_of(row: sa.Row[Any]) -> RunRow:
    """The run that a row of ``run_columns`` holds."""
    return RunRow(**row._mapping)


RUN_COLUMNS = tuple(runs.c[name] for name in RunRow.__slots__)


def _known(connection: sa.Connection, ids: list[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        found.update(connection.scalars(sa.select(facts.c.id).where(facts.c.id.in_(some))))
    return found


def _add_runs(connection: sa.Connection, records: Iterable[Record]) -> None:
    started: dict[str, dict[str, Any]] = {}
    finished: dict[str, dict[str, Any]] = {}
    for record in records:
        if not record.run:
            continue
        if record.kind == STARTED:
            started[record.run] = _started_row(record)
        elif record.kind == FINISHED:
            finished[record.run] = _finished_row(record)
    insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    for rows, names in ((started, _OF_START), (finished, _OF_END)):
        if rows:
            new = insert(runs)
            change = new.on_conflict_do_update(index_elements=["id"], set_={name: new.excluded[name] for name in names})
            connection.execute(change, list(rows.values()))


def _started_row(record: Record) -> dict[str, Any]:
    process = record.data.get("process")
    here = process if isinstance(process, dict) else {}
    return {
        **_common(record),
        "machine": str(here.get("machine", "")),
        "boot": str(here.get("boot", "")),
        "pid_space": str(here.get("pid_space", "")),
        "pid_started": _whole(here.get("pid_started")),
        "started_ns": record.at_ns,
        "finished_ns": None,
        "outcome": "",
        "seconds": 0.0,
        "message": record.message,
        "data": {},
    }


def _finished_row(record: Record) -> dict[str, Any]:
    seconds = record.data.get("seconds")
    took = float(seconds) if isinstance(seconds, (int, float)) else 0.0
    return {
        **_common(record),
        "machine": "",
        "boot": "",
        "pid_space": "",
        "pid_started": 0,
        "started_ns": record.at_ns - int(took * 1e9),
        "finished_ns": record.at_ns,
        "outcome": str(record.data.get("outcome") or ("ok" if record.level == "info" else "failed")),
        "seconds": took,
        "message": record.message,
        "data": record.data,
    }


def _common(record: Record) -> dict[str, Any]:
    return {
        "id": record.run,
        "operation": record.operation,
        "plan": record.plan,
        "vault": record.vault,
        "host": record.host,
        "role": record.role,
        "pid": record.pid,
        "parent": str(record.data.get("parent") or ""),
    }


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
