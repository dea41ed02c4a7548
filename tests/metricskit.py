"""Facts as runs leave them, and what Prometheus would read of their metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.monitorkit import SetClock, journal

from holdfast.kernel.events import Fact
from holdfast.monitor.journal import Journal
from holdfast.monitor.metrics.exposed import Expected, View, registry
from holdfast.monitor.metrics.fold import Places
from holdfast.monitor.metrics.store import State, advance, state

PLACES = Places(lambda text: "other" if "/" in text else text, lambda text: text in ("cloud", "s3:b/p"))

Series = dict[str, dict[tuple[tuple[str, str], ...], float]]


class Told:
    """A journal that facts are written into, one after the other, and the metrics that come of it."""

    def __init__(self, folder: Path, clock: SetClock | None = None) -> None:
        self.clock = clock or SetClock()
        self.journal: Journal = journal(folder, clock=self.clock, host="here")
        self.number = 0

    def fact(self, kind: str, data: dict[str, Any] | None = None, **where: str) -> None:
        with self.journal.transaction() as connection:
            self.journal.record(connection, Fact(kind, "it happened", "info", data or {}), **where)

    def run(self, operation: str, outcome: str = "ok", *, plan: str = "", vault: str = "", **data: Any) -> None:
        self.number += 1
        found = {"outcome": outcome, "seconds": 2.0, **data}
        self.fact("run.finished", found, run=f"R{self.number:025}", operation=operation, plan=plan, vault=vault)

    def notice(self, rule: str, channel: str) -> None:
        """An open notice, and a message about it that waits."""
        words = {"host": "here", "level": "error", "title": "t", "state": "bad"}
        times = {"opened_ns": 1, "updated_ns": 1, "times": 1, "tells": 1, "told_ns": 1, "told_times": 1}
        more = {
            "subject": "s",
            "message": "m",
            "plan": "",
            "run": "",
            "acknowledged_by": "",
            "items": "[]",
            "data": "{}",
        }
        delivery = {"notice": "n", "action": "raised", "body": "", "lease": "", "channel": channel}
        numbers = {"created_ns": 1, "due_ns": 1, "attempts": 0, "leased_until_ns": 0}
        with self.journal.transaction() as connection:
            for table, row in (
                ("notices", {"id": rule, "rule": rule, **words, **times, **more}),
                ("deliveries", {**words, **delivery, **numbers, "state": "waiting"}),
            ):
                columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
                connection.execute(sa.text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), row)

    def state(self) -> State:
        advance(self.journal, PLACES, self.clock)
        return state(self.journal)

    def series(self, expected: Expected | None = None) -> Series:
        view = View(self.state(), expected or Expected(host="here"), self.clock.now, "1.2.3")
        return parsed(generate_latest(registry(lambda: view)))


def parsed(text: bytes) -> Series:
    """Sample name -> labels as sorted pairs -> value."""
    found: Series = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(series: Series, name: str, **labels: str) -> float:
    """The sum of the series of that name that have these labels. Without any there is none to be had."""
    fitting = [v for have, v in series[f"holdfast_{name}"].items() if labels.items() <= dict(have).items()]
    assert fitting, (name, labels, series[f"holdfast_{name}"])
    return sum(fitting)
