"""One journal in PostgreSQL for several machines."""

from __future__ import annotations

import multiprocessing
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.monitorkit import item_failed, must_not
from tests.servers.postgres import Postgres

from holdfast.kernel.errors import Unavailable
from holdfast.kernel.events import Fact
from holdfast.monitor.journal import Journal
from holdfast.monitor.outbox import Outbox
from holdfast.monitor.salvage import open_sound


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A database of its own."""
    name = f"journal{secrets.token_hex(6)}"
    postgres.sql(f"CREATE DATABASE {name}")
    yield postgres.url(name)


def _machine(url: str, folder: Path, host: str, count: int) -> None:
    outbox = Outbox(folder / host, host=host, on_trouble=must_not)
    with Journal.open(url, host=host) as found:
        for number in range(count):
            outbox.append(item_failed(f"/{host}/{number}", odd="\0\udcff"), run=f"R{host}")
            if number % 10 == 9:
                found.drain(folder / host)


def test_several_machines_at_once(url: str, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    hosts = [f"m{n}" for n in range(5)]
    machines = [fork.Process(target=_machine, args=(url, tmp_path, host, 60)) for host in hosts]
    for each in machines:
        each.start()
    for each in machines:
        each.join()
        assert each.exitcode == 0
    with Journal.open(url) as found:
        facts = found.facts(kinds=["item.*"], newest_first=False)
        assert len(facts) == 300 and len({fact.id for fact in facts}) == 300
        for host in hosts:
            mine = [fact.data["path"] for fact in facts if fact.host == host]
            assert mine == [f"/{host}/{number}" for number in range(60)]


def test_it_answers_as_the_other_kind_does(url: str, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", host="a", on_trouble=must_not)
    outbox.append(Fact("notice.raised", "x", "warning"), run="01A", operation="backup", plan="docs")
    outbox.append(Fact("noticed.not", "x"))
    outbox.append(Fact("run.started", "x"), run="01A", operation="backup", plan="docs")
    data = {"outcome": "partial", "seconds": 1.5, "text": "größer 🗄"}
    outbox.append(Fact("run.finished", "done", "warning", data), run="01A", operation="backup", plan="docs")
    with open_sound(url, tell=must_not) as found:
        assert found.drain(tmp_path / "outbox") == 4
        assert found.drain(tmp_path / "outbox") == 0
        assert [fact.seq for fact in found.facts(kinds=["notice.*"])] == [1]
        run = found.run("01a")
        assert (run.outcome, run.plan, run.data["text"]) == ("partial", "docs", "größer 🗄")
        assert [each.id for each in found.runs(plan="docs", outcomes=["partial"])] == ["01A"]
        with pytest.raises(KeyError), found.transaction() as connection:
            found.record(connection, item_failed("/1"))
            raise KeyError
        with found.transaction() as connection:
            assert found.record(connection, item_failed("/2")).seq > 4
    assert not list((tmp_path / "outbox").iterdir())


def test_a_server_that_is_away_keeps_nobody_from_recording(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as told:
        Journal.open("postgresql://someone:s3cret@127.0.0.1:9/none")
    assert "s3cret" not in told.value.message + told.value.hint
    outbox = Outbox(tmp_path / "outbox", on_trouble=must_not)
    assert outbox.append(item_failed()) is not None
