"""The journal takes in every fact exactly once, and answers."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.monitorkit import HOUR, NOON, SetClock, item_failed, journal, names, new_outbox

from holdfast.kernel.errors import Corrupt, Denied, Invalid, NotFound, Unsupported
from holdfast.kernel.events import Fact
from holdfast.monitor import migrate
from holdfast.monitor.emptying import files
from holdfast.monitor.journal import Journal
from holdfast.monitor.outbox import Outbox
from holdfast.monitor.process import this_process
from holdfast.monitor.record import make
from holdfast.monitor.salvage import open_sound
from holdfast.monitor.schema import METADATA


def paths(found: Journal) -> list[str]:
    return [each.data["path"] for each in found.facts(kinds=["item.failed"], newest_first=False)]


def start(outbox: Outbox, run: str, operation: str = "backup", **where: str) -> None:
    data = {"process": this_process().to_data()}
    outbox.append(Fact("run.started", "begins", "info", data), run=run, operation=operation, **where)


def finish(outbox: Outbox, run: str, outcome: str = "ok", operation: str = "backup", **where: str) -> None:
    fact = Fact("run.finished", "done", "info", {"outcome": outcome, "seconds": 2.5, "files_new": 3})
    outbox.append(fact, run=run, operation=operation, **where)


def test_facts_come_in_once_in_their_order_and_leave_nothing(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    kept = [outbox.append(item_failed(f"/{n}"), run="R", plan="docs") for n in range(5)]
    with journal(tmp_path) as found:
        assert found.drain(tmp_path / "outbox") == 5
        assert found.drain(tmp_path / "outbox") == 0
        assert found.facts(newest_first=False) == [
            type(each)(**{**{name: getattr(each, name) for name in each.__slots__}, "seq": n})  # type: ignore[union-attr]
            for n, each in enumerate(kept, 1)
        ]
        with found.reading() as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM outboxes")) == 0
    assert names(tmp_path / "outbox") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")
def test_the_journal_of_another_user_is_refused_with_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        with Journal.open(f"sqlite:///{folder}/journal.db") as found:
            found.facts()
        os.seteuid(65534)
        try:
            with pytest.raises(Denied) as refused:
                Journal.open(f"sqlite:///{folder}/journal.db").close()
        finally:
            os.seteuid(0)
    assert refused.value.hint.startswith("It belongs to another user, and a journal has one")


def test_what_is_appended_while_another_writes_stays_for_the_next_time(tmp_path: Path) -> None:
    import fcntl

    outbox = new_outbox(tmp_path)
    outbox.append(item_failed("/1"))
    path = files(tmp_path / "outbox")[0]
    with open(path, "ab") as writer, journal(tmp_path) as found:
        fcntl.flock(writer, fcntl.LOCK_SH)
        writer.write(b'{"id":"01')
        writer.flush()
        assert found.drain(tmp_path / "outbox") == 1
        assert found.drain(tmp_path / "outbox") == 0
        assert path.exists()
        assert paths(found) == ["/1"]
        writer.truncate(path.stat().st_size - 9)
        outbox.append(item_failed("/2"))
        assert found.drain(tmp_path / "outbox") == 1
        assert paths(found) == ["/1", "/2"]


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    outbox.append(item_failed("/1"))
    path = files(tmp_path / "outbox")[0]
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:60])  # killed in the middle
    outbox.append(item_failed("/2"))
    outbox.append(item_failed("/3"))
    with journal(tmp_path) as found:
        assert found.drain(tmp_path / "outbox") == 3
        assert paths(found) == ["/1", "/2", "/3"]
        assert [each.data["lines"] for each in found.facts(kinds=["outbox.torn"])] == [1]


def test_a_line_that_lacks_its_end_only_is_not_lost(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    outbox.append(item_failed("/1"))
    path = files(tmp_path / "outbox")[0]
    path.write_bytes(path.read_bytes()[:-1])
    with journal(tmp_path) as found:
        assert found.drain(tmp_path / "outbox") == 0
        assert path.exists()
        outbox.append(item_failed("/2"))
        assert found.drain(tmp_path / "outbox") == 2
        assert paths(found) == ["/1", "/2"]


def test_a_torn_last_line_goes_when_nobody_writes(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    outbox.append(item_failed("/1"))
    path = files(tmp_path / "outbox")[0]
    path.write_bytes(path.read_bytes() + b'{"id":"01')
    with journal(tmp_path) as found:
        assert found.drain(tmp_path / "outbox") == 1
    assert names(tmp_path / "outbox") == []


def test_a_file_of_a_known_name_is_read_from_its_start(tmp_path: Path) -> None:
    """A file is removed, the row about it is not (killed in between), and a new file has the same name and size."""
    outbox = new_outbox(tmp_path)
    with journal(tmp_path) as found:
        for n in range(4):
            outbox.append(item_failed(f"/{n}"))
            path = files(tmp_path / "outbox")[0]
            found.drain(tmp_path / "outbox")
            with found.transaction() as connection:
                row = {"name": f"{os.uname().nodename}:{path}", "identity": "other", "offset": 300}
                connection.execute(sa.insert(METADATA.tables["outboxes"]), row)
        assert paths(found) == ["/0", "/1", "/2", "/3"]
        found.drain(tmp_path / "outbox")
        with found.reading() as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM outboxes")) == 0


def test_a_copy_of_an_outbox_brings_nothing_twice(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    for n in range(3):
        outbox.append(item_failed(f"/{n}"))
    path = files(tmp_path / "outbox")[0]
    (path.parent / "copy.jsonl").write_bytes(path.read_bytes() * 2)
    with journal(tmp_path) as found:
        assert found.drain(tmp_path / "outbox") == 3
        assert sorted(paths(found)) == ["/0", "/1", "/2"]


def test_runs_follow_from_their_facts(tmp_path: Path) -> None:
    clock = SetClock()
    outbox = new_outbox(tmp_path, clock=clock)
    start(outbox, "01A", plan="docs", vault="home")
    clock.now += HOUR
    finish(outbox, "01A", "partial", plan="docs", vault="home")
    start(outbox, "01B", "check", vault="home")
    with journal(tmp_path) as found:
        found.drain(tmp_path / "outbox")
        one = found.run("01a")
        assert (one.operation, one.plan, one.vault, one.outcome) == ("backup", "docs", "home", "partial")
        assert (one.started_ns, one.finished_ns, one.seconds) == (NOON, NOON + HOUR, 2.5)
        assert one.data["files_new"] == 3
        assert [each.id for each in found.runs()] == ["01B", "01A"]
        assert [each.id for each in found.runs(plan="docs")] == ["01A"]
        assert [each.id for each in found.runs(operations=["check"], outcomes=[""])] == ["01B"]
        assert [each.id for each in found.runs(until_ns=NOON + 1, limit=9)] == ["01A"]
        with pytest.raises(Invalid):
            found.run("01")
        with pytest.raises(NotFound):
            found.run("%")


def test_a_run_that_ends_before_it_begins_is_put_together(tmp_path: Path) -> None:
    """Two files of one outbox may be read in any order."""
    outbox = new_outbox(tmp_path)
    with journal(tmp_path) as found:
        finish(outbox, "01A", plan="docs")
        found.drain(tmp_path / "outbox")
        start(outbox, "01A", plan="docs")
        found.drain(tmp_path / "outbox")
        assert found.run("01A").outcome == "ok"


def test_filters(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    outbox.append(Fact("notice.raised", "x", "warning"), run="R1", plan="docs", vault="home", operation="notify")
    outbox.append(Fact("notice.sent", "x"), run="R1", plan="mail")
    outbox.append(Fact("noticed.not", "x", "error"))
    outbox.append(Fact("notice", "x", "critical"), vault="home")
    with journal(tmp_path) as found:
        found.drain(tmp_path / "outbox")

        def seqs(**how: object) -> list[int]:
            return [each.seq for each in found.facts(newest_first=False, **how)]  # type: ignore[arg-type]

        assert seqs(kinds=["notice.*"]) == [1, 2]
        assert seqs(kinds=["notice.*", "notice"]) == [1, 2, 4]
        assert seqs(levels=["error", "critical"]) == [3, 4]
        assert seqs(plan="docs") == [1]
        assert seqs(vault="home") == [1, 4]
        assert seqs(run="R1") == [1, 2]
        assert seqs(operations=["notify"]) == [1]
        assert seqs(after_seq=2, limit=1) == [3]
        assert [each.seq for each in found.facts(limit=2)] == [4, 3]


def test_a_run_whose_process_is_gone_has_failed(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    pid = os.fork()
    if pid == 0:
        start(outbox, "01DEAD", plan="docs", vault="home")
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    start(outbox, "01LIVE")
    with journal(tmp_path) as found:
        found.drain(tmp_path / "outbox")
        found.drain(tmp_path / "outbox")
        found.drain(tmp_path / "outbox")
        dead = found.run("01DEAD")
        assert (dead.outcome, dead.message) == ("failed", "the process ended without a word")
        assert [each.level for each in found.facts(kinds=["run.finished"])] == ["error"]
        assert found.run("01LIVE").outcome == ""


def test_a_run_of_another_machine_of_this_name_is_left_alone(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    process = {"machine": "ffff", "boot": "eeee", "pid_space": "1", "pid_started": 5}
    outbox.append(Fact("run.started", "begins", "info", {"process": process}), run="01A", operation="backup")
    with journal(tmp_path) as found:
        for _ in range(3):
            found.drain(tmp_path / "outbox")
        assert found.run("01A").outcome == ""


def test_a_run_that_nobody_can_look_at_is_given_up_after_a_week(tmp_path: Path) -> None:
    clock = SetClock()
    outbox = new_outbox(tmp_path, host="a-container", clock=clock)
    process = {"machine": "ffff", "boot": "eeee", "pid_space": "1", "pid_started": 5}
    outbox.append(Fact("run.started", "begins", "info", {"process": process}), run="01A", operation="backup")
    start(new_outbox(tmp_path, clock=clock), "01OURS")
    with journal(tmp_path, clock=clock) as found:
        for hours in (1, 6 * 24, 8 * 24):
            clock.now = NOON + hours * HOUR
            found.drain(tmp_path / "outbox")
            assert found.run("01A").outcome == ("failed" if hours > 7 * 24 else "")
        assert found.run("01OURS").outcome == ""  # we are alive
        finish(outbox, "01A", "ok")  # and so was that one
        found.drain(tmp_path / "outbox")
        assert found.run("01A").outcome == "ok"


def test_a_last_word_that_still_waits_is_heard_first(tmp_path: Path) -> None:
    outbox = new_outbox(tmp_path)
    pid = os.fork()
    if pid == 0:
        start(outbox, "01A")
        os._exit(0)
    os.waitpid(pid, 0)
    with journal(tmp_path) as found:
        found.drain(tmp_path / "outbox")
        finish(outbox, "01A", "ok")
        found.drain(tmp_path / "outbox")
        assert found.run("01A").outcome == "ok"


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    with journal(tmp_path) as found, found.transaction() as connection:
        found.record(connection, item_failed())
        assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("journal.db*")} == {0}


def test_the_newer_journal_is_refused(tmp_path: Path) -> None:
    journal(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(Unsupported, match="later version"):
        journal(tmp_path)


def test_the_tables_are_those_that_the_code_knows(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with journal(tmp_path) as found, found.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrate.VERSION_TABLE})
        ours = set(METADATA.tables)
        different = [each for each in compare_metadata(context, METADATA) if _table(each) in ours]
    assert different == []


def _table(difference: object) -> str:
    found = difference[1] if isinstance(difference, tuple) else None
    return getattr(found, "name", "")


@pytest.mark.parametrize("content", [b"this is no database" * 300, None])
def test_damage_is_called_damage(tmp_path: Path, content: bytes | None) -> None:
    outbox = new_outbox(tmp_path)
    path = tmp_path / "journal.db"
    with journal(tmp_path) as found:
        outbox.append(item_failed("/1"))
        found.drain(tmp_path / "outbox")
    raw = path.read_bytes()
    path.write_bytes(content or raw[:4096] + b"\xaa" * (len(raw) - 4096))
    with pytest.raises(Corrupt), journal(tmp_path) as found:
        outbox.append(item_failed("/2"))
        found.drain(tmp_path / "outbox")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense", Invalid),
        ("mysql://h/d", Unsupported),
        ("sqlite://", Invalid),
        ("sqlite:////proc/nowhere/j.db", Denied),
    ],
)
def test_urls_that_lead_nowhere(url: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Journal.open(url)


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with journal(tmp_path) as found:
        with pytest.raises(KeyError), found.transaction() as connection:
            found.record(connection, item_failed("/1"))
            raise KeyError
        with found.transaction() as connection:
            kept = found.record(connection, item_failed("/2"), plan="docs")
        assert found.facts() == [kept]
        assert kept.seq == 1 or kept.seq == 2


def test_ids_are_unique_even_in_one_instant() -> None:
    fact = item_failed()
    ids = {make(fact, at_ns=NOON, random=os.urandom, host="h", role="r", pid=1).id for _ in range(1000)}
    assert len(ids) == 1000


@pytest.mark.parametrize("how", ["overwritten", "front", "marked"])
def test_a_damaged_journal_is_set_aside_and_rebuilt(tmp_path: Path, how: str) -> None:
    outbox = new_outbox(tmp_path)
    with journal(tmp_path) as found:
        for n in range(900):
            outbox.append(item_failed(f"/{n}"), run="R")
        start(outbox, "01A", plan="docs")
        finish(outbox, "01A", plan="docs")
        found.drain(tmp_path / "outbox")
    path = tmp_path / "journal.db"
    raw = bytearray(path.read_bytes())
    pages = len(raw) // 4096
    if how == "overwritten":
        path.write_bytes(b"no database at all" * 1000)
    elif how == "front":
        raw[4096 * (pages // 2) : 4096 * (pages // 2 + 3)] = b"\xaa" * 4096 * 3
        path.write_bytes(raw)
        (tmp_path / "journal.db.damaged").touch()
    else:
        (tmp_path / "journal.db.damaged").touch()  # found sound after all
    told: list[str] = []
    outbox.append(item_failed("/new"))
    with open_sound(f"sqlite:///{path}", tell=told.append) as found:
        found.drain(tmp_path / "outbox")
        rebuilt = found.facts(kinds=["journal.rebuilt"])
        known = set(paths(found))
    assert "/new" in known
    if how == "marked":
        assert not told and not rebuilt and len(known) == 901
    else:
        assert len(told) == len(rebuilt) == 1
        assert Path(rebuilt[0].data["aside"]).exists()
        assert len(known) == 1 if how == "overwritten" else 500 < len(known) <= 901
    assert not (tmp_path / "journal.db.damaged").exists()
