"""Find runs whose process is gone without having said how they ended."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass
from holdfast.monitor.process import Process, is_gone, is_near, this_process
from holdfast.monitor.record import Record
from holdfast.monitor.rows import FINISHED
from holdfast.monitor.schema import runs

DIED = "the process ended without a word"
UNHEARD = "nothing was heard of it for seven days"
PATIENCE_NS = 7 * 86_400 * 10**9
"""Containers get a new name each time: nobody can ever look at the processes of one that is gone."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A run of which no end is known, though its process is gone."""

    id: str
    operation: str
    plan: str
    vault: str
    parent: str
    pid: int
    why: str


def suspects(connection: sa.Connection, host: str, now_ns: int) -> list[Suspect]:
    """The runs without an end in the journal that nobody works on any more: those of ``host``, which is this one, whose
    process is gone, and those that began seven days ago where nobody here can look.

    Their last word may still wait in the outbox: empty that before believing it.
    """
    here = this_process()
    wanted = sa.select(runs).where(
        runs.c.finished_ns.is_(None), sa.or_(runs.c.host == host, runs.c.started_ns < now_ns - PATIENCE_NS)
    )
    found = []
    for row in connection.execute(wanted):
        process = Process(row.pid, row.machine, row.boot, row.pid_space, row.pid_started)
        if row.host == host and is_gone(process, here):
            why = DIED
        elif row.started_ns < now_ns - PATIENCE_NS and not (row.host == host and is_near(process, here)):
            why = UNHEARD
        else:
            continue
        found.append(Suspect(row.id, row.operation, row.plan, row.vault, row.parent, row.pid, why))
    return found


def note_dead(connection: sa.Connection, gone: list[Suspect], record: Callable[..., Record]) -> int:
    """Write the end of those that still have none; returns how many there were."""
    wanted = sa.select(runs.c.id).where(runs.c.finished_ns.is_(None), runs.c.id.in_([each.id for each in gone]))
    silent = set(connection.scalars(wanted))
    for each in gone:
        if each.id in silent:
            data = {
                "outcome": "failed",
                "died": True,
                "pid": each.pid,
                **({"parent": each.parent} if each.parent else {}),
            }
            fact = Fact(FINISHED, each.why, "error", data)
            record(connection, fact, run=each.id, operation=each.operation, plan=each.plan, vault=each.vault)
    return len(silent)
