"""Notices in the journal, and deliveries on their way: real SQLite, a clock that we set, and channels that we play."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.noticekit import HOUR, FakeClock

from holdfast.kernel.errors import Invalid, NotFound
from holdfast.kernel.events import Fact
from holdfast.monitor.channels.apart import Sent
from holdfast.monitor.channels.base import ChannelSpec, Message
from holdfast.monitor.delivering import Delivering, Line
from holdfast.monitor.journal import Journal
from holdfast.monitor.notice import SECOND, NoticeSettings
from holdfast.monitor.noticebook import Noticebook
from holdfast.monitor.noticerows import Wanted
from holdfast.monitor.outbox import Outbox

TWO = NoticeSettings(channels=("phone", "mail"))


class House:
    """A machine: its outbox, its journal, its channels."""

    def __init__(self, folder: Path, host: str = "here") -> None:
        self.clock = FakeClock()
        self.folder = folder
        self.journal = Journal.open(f"sqlite:///{folder}/journal.db", clock=self.clock, host=host)
        self.outbox = Outbox(folder / "outbox", clock=self.clock, host=host)
        self.book = Noticebook(self.journal, host=host, clock=self.clock)
        self.host = host
        self.settings = TWO
        self.answers: dict[str, Sent] = {}
        self.sent: list[tuple[str, Message]] = []
        self.rate = 20
        self._tokens = itertools.count()

    def happen(self, kind: str, /, message: str = "it happened", level: str = "info", **fields: object) -> None:
        where = {name: str(fields.pop(name)) for name in ("run", "operation", "plan", "vault") if name in fields}
        assert self.outbox.append(Fact(kind, message, level, fields), **where)

    def backup(self, outcome: str, vault: str = "home", **data: object) -> None:
        run = f"run{next(self._tokens)}"
        about = {"run": run, "operation": "backup", "plan": "docs", "vault": vault}
        self.happen("run.started", **about)
        self.happen("run.finished", **about, outcome=outcome, seconds=1.0, **data)

    def look(self, *wanted: Wanted) -> list[str]:
        self.journal.drain(self.folder / "outbox")
        return [f"{step.action} {step.notice.rule}" for step in self.book.look(self.settings, wanted).steps]

    def deliver(self) -> list[tuple[str, str]]:
        def send(spec: ChannelSpec, message: Message) -> Sent:
            answer = self.answers.get(spec.kind, Sent())
            if answer.ok:
                self.sent.append((spec.kind, message))
            return answer

        def line(name: str) -> Line:
            return Line(lambda: ChannelSpec(name), rate=self.rate)

        delivering = Delivering(
            self.journal,
            {name: line(name) for name in self.settings.channels},
            host=self.host,
            clock=self.clock,
            send=send,
            draw=lambda: 0.5,
            token=lambda: str(next(self._tokens)),
        )
        return [(attempt.channel, attempt.title) for attempt in delivering.deliver(seconds=60)]

    def audit(self) -> list[str]:
        facts = self.journal.facts(kinds=["notice.*"], newest_first=False)
        return [f"{fact.kind.partition('.')[2]} {fact.data.get('channel', '')}".strip() for fact in facts]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    here = House(tmp_path)
    yield here
    here.journal.close()


def test_a_failure_goes_from_the_outbox_to_every_channel_and_each_step_is_on_record(house: House) -> None:
    house.backup("failed")
    assert house.look() == ["raised failed"]
    assert house.deliver() == [("phone", "Backup of docs (home) failed"), ("mail", "Backup of docs (home) failed")]
    assert house.audit() == ["raised", "sent phone", "sent mail"]
    assert house.look() == []
    assert house.deliver() == []
    house.backup("ok")
    assert house.look() == ["resolved failed"]
    assert [title for _, title in house.deliver()] == ["Over: Backup of docs (home) failed"] * 2
    assert house.book.open() == []
    assert [notice.rule for notice in house.book.recent(9)] == ["failed"]


def test_the_message_says_where_since_when_and_how_to_acknowledge(house: House) -> None:
    house.backup(
        "failed", error={"code": "unavailable", "message": "no route to password=geheim", "hint": "Plug it in."}
    )
    house.look()
    house.deliver()
    message = house.sent[0][1]
    assert message.level == "error"
    assert "no route to" in message.body
    assert "geheim" not in message.body
    assert "Plug it in." in message.body
    assert "Since 2026-11-18 11:06 +00:00." in message.body
    assert f"On here, notice {house.book.open()[0].id}" in message.body
    assert "holdfast ack" in message.body


def test_a_channel_that_fails_is_tried_again_later_and_later_while_the_other_gets_its_message(house: House) -> None:
    house.backup("failed")
    house.look()
    house.answers["phone"] = Sent("no route")
    assert [channel for channel, _ in house.deliver()] == ["phone", "mail"]
    assert house.deliver() == []
    waits = []
    for _ in range(9):
        due = house.book.next_delivery_ns()
        assert due is not None
        waits.append((due - house.clock.now) / SECOND)
        house.clock.now = due
        house.deliver()
    assert waits[:4] == [22.5, 45.0, 90.0, 180.0]
    assert waits[-1] == 2700.0
    house.answers.clear()
    house.clock.now += HOUR * SECOND
    assert house.deliver() == [("phone", "Backup of docs (home) failed")]
    assert house.audit().count("failed phone") == 10
    assert house.audit()[-1] == "sent phone"


def test_that_a_channel_is_broken_is_told_through_another_one_and_so_is_its_recovery(house: House) -> None:
    house.answers["phone"] = Sent("token refused", refused=True)
    house.backup("failed")
    house.look()
    house.deliver()
    assert house.look() == ["raised channel"]
    house.clock.now += 2 * HOUR * SECOND
    house.answers.clear()
    house.deliver()
    assert ("mail", "The channel phone does not work") in [(channel, message.title) for channel, message in house.sent]
    assert house.look() == ["resolved channel"]


def test_a_server_that_asks_for_patience_gets_it(house: House) -> None:
    house.settings = NoticeSettings(channels=("phone",))
    house.answers["phone"] = Sent("too many", retry_after=900.0)
    house.backup("failed")
    house.look()
    house.deliver()
    assert house.book.next_delivery_ns() == house.clock.now + 900 * SECOND


def test_after_a_week_a_delivery_is_given_up_and_that_is_on_record(house: House) -> None:
    house.settings = NoticeSettings(channels=("phone",), repeat=0)
    house.answers["phone"] = Sent("gone")
    house.backup("failed")
    house.look()
    house.deliver()
    house.clock.now += 8 * 24 * HOUR * SECOND
    house.deliver()
    assert house.book.next_delivery_ns() is None
    assert house.journal.facts(kinds=["notice.failed"])[0].data["given_up"] is True


def test_what_waits_for_a_channel_that_is_no_longer_configured_is_dropped_loudly(house: House) -> None:
    house.backup("failed")
    house.look()
    house.settings = NoticeSettings(channels=("mail",))
    assert [channel for channel, _ in house.deliver()] == ["mail"]
    failed = house.journal.facts(kinds=["notice.failed"])[0]
    assert (failed.data["channel"], failed.data["given_up"]) == ("phone", True)
    assert house.book.next_delivery_ns() is None


def test_many_notices_at_once_become_one_message(house: House) -> None:
    house.settings = NoticeSettings(channels=("phone",))
    for vault in "abcdef":
        house.backup("failed", vault=vault)
    house.look()
    assert house.deliver() == [("phone", "6 notices of here")]
    assert len(house.sent[0][1].notices) == 6
    assert house.audit().count("sent phone") == 6


def test_more_messages_than_the_rate_wait_and_go_out_as_one_unless_they_are_critical(house: House) -> None:
    house.settings = NoticeSettings(channels=("phone",))
    house.rate = 2
    for vault in "abcd":
        house.backup("failed", vault=vault)
        house.look()
        house.deliver()
        house.clock.now += 60 * SECOND
    assert len(house.sent) == 2
    house.happen("damage.found", "bits flipped", "error", vault="home", operation="check")
    house.look()
    house.deliver()
    assert [message.level for _, message in house.sent] == ["error", "error", "critical"]
    due = house.book.next_delivery_ns()
    assert due is not None
    assert due <= house.clock.now + HOUR * SECOND
    house.clock.now += 2 * HOUR * SECOND
    house.deliver()
    assert {row["title"] for _, message in house.sent for row in message.notices} >= {
        f"Backup of docs ({vault}) failed" for vault in "abcd"
    }


def test_whoever_dies_while_he_sends_leaves_a_lease_that_ends(house: House) -> None:
    house.settings = NoticeSettings(channels=("phone",))
    house.backup("failed")
    house.look()
    good_line = {"phone": Line(lambda: ChannelSpec("phone"))}

    def die(_spec: ChannelSpec, _message: Message) -> Sent:
        raise KeyboardInterrupt

    dying = Delivering(
        house.journal, good_line, host="here", clock=house.clock, send=die, draw=lambda: 0.5, token=lambda: "x"
    )
    with pytest.raises(KeyboardInterrupt):
        dying.deliver(seconds=9)
    assert house.deliver() == []  # he might still be at it
    assert house.book.next_delivery_ns() == house.clock.now + 75 * SECOND
    house.clock.now += 75 * SECOND
    assert house.deliver() == [("phone", "Backup of docs (home) failed")]


def test_the_late_word_of_one_whose_lease_was_over_counts_for_nothing(house: House) -> None:
    house.settings = NoticeSettings(channels=("phone",))
    house.backup("failed")
    house.look()

    def slow(_spec: ChannelSpec, _message: Message) -> Sent:
        house.clock.now += HOUR * SECOND
        assert [channel for channel, _ in house.deliver()] == ["phone"]
        return Sent("it failed, says one who is late")

    late = Delivering(
        house.journal,
        {"phone": Line(lambda: ChannelSpec("phone"))},
        host="here",
        clock=house.clock,
        send=slow,
        draw=lambda: 0.5,
        token=lambda: "late",
    )
    late.deliver(seconds=9)
    assert house.audit() == ["raised", "sent phone"]
    assert house.book.next_delivery_ns() is None


def test_expectations_count_from_the_last_good_run_and_from_the_first_look_where_there_was_none(house: House) -> None:
    wanted = Wanted("backup", "docs", "home", 26 * HOUR)
    other = Wanted("backup", "docs", "cloud", 26 * HOUR)
    house.backup("ok")
    assert house.look(wanted, other) == []
    house.clock.now += 26 * HOUR * SECOND + 1
    assert house.look(wanted, other) == ["raised overdue", "raised overdue"]
    house.backup("failed")
    assert house.look(wanted, other) == ["raised failed"]
    house.backup("partial")
    assert sorted(house.look(wanted, other))[-2:] == ["resolved failed", "resolved overdue"]


def test_a_snapshot_is_compared_with_those_before_it_in_the_journal(house: House) -> None:
    house.settings = replace(TWO, shrink={"docs": 50.0})
    for size in (1000, 1010, 1005):
        house.backup("ok", total_bytes=size, total_files=10)
        house.clock.now += 24 * HOUR * SECOND
    assert house.look() == []
    house.backup("ok", total_bytes=100, total_files=10)
    assert house.look() == ["raised shrunk"]


def test_acknowledging_by_the_beginning_of_an_id_or_all(house: House) -> None:
    house.backup("failed", vault="a")
    house.backup("failed", vault="b")
    house.look()
    first, second = house.book.open()
    with pytest.raises(NotFound, match="no open notice"):
        house.book.acknowledge("zzz", "me")
    with pytest.raises(Invalid, match="several"):
        house.book.acknowledge("", "me")
    assert [notice.id for notice in house.book.acknowledge(first.id[:6], "me").now] == [first.id]
    assert house.book.open()[0].acknowledged_by == "me"
    house.clock.now += 25 * HOUR * SECOND
    assert house.look() == ["repeated failed"]
    known = house.book.acknowledge("all", "you")
    assert ([notice.subject for notice in known.now], [notice.acknowledged_by for notice in known.before]) == (
        [second.subject],
        ["me"],
    )
    again = house.book.acknowledge("all", "them")
    assert (again.now, len(again.before)) == ((), 2)
    assert [notice.acknowledged_by for notice in again.before if notice.id == second.id] == ["you"]
    assert house.audit().count("acknowledged") == 2


def test_the_first_look_does_not_care_for_what_is_long_over(house: House) -> None:
    house.backup("failed", vault="old")
    house.clock.now += 30 * 24 * HOUR * SECOND
    house.backup("failed", vault="new")
    house.look()
    assert [notice.subject for notice in house.book.open()] == ["backup/docs/new"]


def test_every_machine_tells_of_itself_in_a_journal_that_several_share(tmp_path: Path) -> None:
    here, there = House(tmp_path), House(tmp_path, host="there")
    there.outbox = Outbox(tmp_path / "outbox2", clock=there.clock, host="there")
    there.backup("failed")
    there.journal.drain(tmp_path / "outbox2")
    assert here.look() == []
    assert there.book.look(TWO).steps[0].action == "raised"
    assert here.deliver() == []
    assert [channel for channel, _ in there.deliver()] == ["phone", "mail"]
    here.journal.close()
    there.journal.close()


def test_more_facts_than_one_look_reads_at_once(house: House) -> None:
    for _ in range(2100):
        house.happen("damage.found", "x", vault="home", operation="check")
    house.backup("ok")
    house.look()
    assert [notice.times for notice in house.book.open()] == [2100]


def test_a_digest_goes_out_as_it_is(house: House) -> None:
    from holdfast.monitor.notice import Route

    house.settings = replace(TWO, routes=(Route(frozenset({"digest"}), ("mail",)),))
    house.happen("report.made", "Report of Wednesday", text="all\nis\nwell")
    house.look()
    house.deliver()
    assert [(channel, message.title, message.body) for channel, message in house.sent] == [
        ("mail", "Report of Wednesday", "all\nis\nwell")
    ]
