"""Killed anywhere while a log is put aside or facts are counted, nothing is lost and nothing counts twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.faults.test_journal_kill import killed_at
from tests.faults.test_journal_postgres import url
from tests.metricskit import PLACES, Told, value
from tests.monitorkit import SetClock

from holdfast.kernel.events import Fact
from holdfast.monitor.journal import Journal
from holdfast.monitor.logfile import DAY, LogFile
from holdfast.monitor.logread import LogFilter, Unread, read
from holdfast.monitor.logs import Log
from holdfast.monitor.metrics import store

__all__ = ["url"]


def _log(folder: Path, clock: SetClock) -> Log:
    return Log(LogFile(folder, "a", clock=clock, keep=lambda: 2), clock=clock)


def test_a_log_whose_writer_is_killed_at_any_step_keeps_every_line(tmp_path: Path) -> None:
    clock = SetClock()
    ended = False
    for step in range(200):
        folder = tmp_path / str(step)
        for day in range(3):
            clock.now += DAY
            _log(folder, clock).say("info", "a", f"day {day}")
        clock.now += DAY
        ended = killed_at(step, lambda folder=folder: _log(folder, clock).say("info", "a", "killed?"))
        _log(folder, clock).say("info", "a", "after")
        unread = Unread()
        messages = [line["message"] for line in read(folder, LogFilter(), unread)]
        # Of the four days before only the last two are kept, once somebody got so far.
        assert [message for message in messages if message in ("day 1", "day 2")] == ["day 1", "day 2"]
        assert messages[-1] == "after" and not unread.lines
        if ended:
            assert "killed?" in messages
            break
    assert ended


def test_counting_killed_at_any_step_counts_each_fact_once(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.series()
    path = f"sqlite:///{tmp_path / 'journal.db'}"

    def count() -> None:
        with Journal.open(path) as journal:
            store.advance(journal, PLACES, SetClock())

    total, step = 0, 0
    while True:
        told.run("backup", vault="home", snapshot=f"{total:04}")
        total += 1
        told.journal.close()  # no connection may go through a fork
        ended = killed_at(step, count)
        assert value(told.series(), "runs_total", outcome="ok") == total
        assert value(told.series(), "snapshots", vault="home") == total
        if ended:
            return
        step += 3


def test_counts_in_postgresql(url: str) -> None:
    clock = SetClock()
    with Journal.open(url, clock=clock, host="here") as journal:

        def fact(kind: str, data: dict[str, Any], **where: str) -> None:
            with journal.transaction() as connection:
                journal.record(connection, Fact(kind, "m", "info", data), vault="home", **where)

        for number in range(3):
            done = {"outcome": "ok", "seconds": 2.5, "snapshot": f"s{number}", "total_bytes": 1 << 40}
            fact("run.finished", done, run=f"R{number}", operation="backup", plan="p")
            store.advance(journal, PLACES, clock)
        fact("snapshot.tagged", {"before": "s1", "snapshot": "t1"})
        fact("snapshot.forgotten", {"snapshot": "s0"})
        store.advance(journal, PLACES, clock)
        found = store.state(journal)
        (kept,) = found.kept
        assert (kept.plan, kept.count, kept.size) == ("p", 2, 2 << 40)
        assert found.values["runs", ("backup", "p", "home", "here", "ok")] == 3
        assert found.waiting == 0 and found.last_ns is not None and found.open == {}
