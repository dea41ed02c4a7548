"""Facts as runs leave them, and what Prometheus would read of their metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
