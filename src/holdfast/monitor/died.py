"""Find runs whose process is gone without having said how they ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from holdfast.kernel.events import Fact
from holdfast.monitor.process import Process, is_gone, this_process
from holdfast.monitor.record import Record
from holdfast.monitor.rows import FINISHED
from holdfast.monitor.schema import runs

DIED = "the process ended without a word"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A run of which no end is known, though its process is gone."""

    id: str
    operation: str
    plan: str
    vault: str
    parent: str
    pid: int


def suspects(connection: sa.Connection, host: str) -> list[Suspect]:
    """The runs of ``host``, which is this one, that nobody works on any more and that have no end in the journal.

    Their last word may still wait in the outbox: empty that before believing it.
    """
    here = this_process()
    wanted = sa.select(runs).where(runs.c.finished_ns.is_(None), runs.c.host == host)
    found = []
    for row in connection.execute(wanted):
        process = Process(row.pid, row.machine, row.boot, row.pid_space, row.pid_started)
        if is_gone(process, here):
            found.append(Suspect(row.id, row.operation, row.plan, row.vault, row.parent, row.pid))
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
            fact = Fact(FINISHED, DIED, "error", data)
            record(connection, fact, run=each.id, operation=each.operation, plan=each.plan, vault=each.vault)
    return len(silent)
