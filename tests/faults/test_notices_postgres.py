"""Notices in a journal in PostgreSQL that several machines share."""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.noticekit import FakeClock
from tests.servers.postgres import Postgres

from holdfast.kernel.events import Fact
from holdfast.monitor.channels.apart import Sent
from holdfast.monitor.channels.base import ChannelSpec
from holdfast.monitor.delivering import Delivering, Line
from holdfast.monitor.journal import Journal
from holdfast.monitor.notice import NoticeSettings
from holdfast.monitor.noticebook import Noticebook
from holdfast.monitor.noticerows import Wanted
from holdfast.monitor.outbox import Outbox


def test_each_machine_tells_of_its_own_plans(postgres: Postgres, tmp_path: Path) -> None:
    postgres.sql("CREATE DATABASE notices")
    tokens = itertools.count()
    for host in ("one", "two"):
        clock = FakeClock()
        outbox = Outbox(tmp_path / host, host=host, clock=clock)
        fact = Fact("run.finished", "it failed", "error", {"outcome": "failed", "seconds": 1.0})
        assert outbox.append(fact, run=f"run-{host}", operation="backup", plan="docs", vault="home")
        with Journal.open(postgres.url("notices"), host=host, clock=clock) as journal:
            journal.drain(tmp_path / host)
            book = Noticebook(journal, host=host, clock=clock)
            wanted = [Wanted("backup", "docs", "home", 3600.0)]
            settings = NoticeSettings(channels=("phone",))
            assert [step.action for step in book.look(settings, wanted).steps] == ["raised"]
            delivering = Delivering(
                journal,
                {"phone": Line(lambda: ChannelSpec("phone"))},
                host=host,
                clock=clock,
                send=lambda _spec, _message: Sent(),
                draw=lambda: 0.5,
                token=lambda: str(next(tokens)),
            )
            assert [attempt.title for attempt in delivering.deliver(seconds=60)] == ["Backup of docs (home) failed"]
            assert book.next_delivery_ns() is None
            clock.sleep(2 * 3600)
            assert [step.notice.rule for step in book.look(settings, wanted).steps] == ["overdue"]
            assert len(book.acknowledge("all", "me").now) == 2
            assert len(book.open()) == 2
