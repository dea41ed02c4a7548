"""kill -9 between fact, drain, rule and delivery: each notice arrives at least once and is recorded."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from tests.noticekit import HOUR, FakeClock

from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.events import Fact
from holdfast.monitor.channels.apart import Sent
from holdfast.monitor.channels.base import ChannelSpec, Message
from holdfast.monitor.delivering import Delivering, Line
from holdfast.monitor.journal import Journal
from holdfast.monitor.notice import SECOND, NoticeSettings
from holdfast.monitor.noticebook import Noticebook
from holdfast.monitor.outbox import Outbox

CHANNELS = ("phone",)
VAULTS = ("a", "b")


class Steps:
    """Ends the process with SIGKILL at its ``deadly`` step: before every statement and commit, before and after every
    message."""

    def __init__(self, deadly: int) -> None:
        self._left = deadly

    def __call__(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def watch(self, engine: sa.Engine) -> None:
        for name in ("before_cursor_execute", "commit"):
            sa.event.listen(engine, name, lambda *_: self())


def work(folder: Path, clock: Clock, step: Callable[[], None], journal: Journal) -> None:
    """What a command does at its end: drain, look, send."""
    token = itertools.count()

    def send(spec: ChannelSpec, message: Message) -> Sent:
        step()
        with (folder / "received").open("a") as received:
            for row in message.notices:
                received.write(f"{spec.kind} {row['notice']} {row['action']}\n")
        step()
        return Sent()

    journal.drain(folder / "outbox")
    Noticebook(journal, host="here", clock=clock).look(NoticeSettings(channels=CHANNELS))
    Delivering(
        journal,
        {name: Line(lambda name=name: ChannelSpec(name)) for name in CHANNELS},  # type: ignore[misc]
        host="here",
        clock=clock,
        send=send,
        draw=lambda: 0.5,
        token=lambda: f"{os.getpid()}-{next(token)}",
    ).deliver(seconds=1e9)


def opened(folder: Path, clock: Clock) -> Journal:
    return Journal.open(f"sqlite:///{folder}/journal.db", clock=clock, host="here")


def in_child(work_there: Callable[[], None]) -> int:
    """Run it in a forked process; returns the signal that killed it, 0 if it came to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            work_there()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    assert code <= 0, "it failed by itself"
    return -code


def prepared(folder: Path, clock: Clock) -> None:
    """A journal with tables, and an outbox with failures in it."""
    folder.mkdir()
    opened(folder, clock).close()
    outbox = Outbox(folder / "outbox", clock=clock, host="here")
    for vault in VAULTS:
        fact = Fact("run.finished", "it failed", "error", {"outcome": "failed", "seconds": 1.0})
        assert outbox.append(fact, run=f"run-{vault}", operation="backup", plan="docs", vault=vault)


def received(folder: Path) -> list[str]:
    try:
        return (folder / "received").read_text().splitlines()
    except FileNotFoundError:
        return []


def test_killed_at_any_step_every_notice_arrives_and_is_recorded(tmp_path: Path) -> None:
    prepared(tmp_path / "prepared", FakeClock())
    for deadly in itertools.count():
        folder, clock = tmp_path / str(deadly), FakeClock()
        shutil.copytree(tmp_path / "prepared", folder)

        def die(folder: Path = folder, clock: FakeClock = clock, deadly: int = deadly) -> None:
            step = Steps(deadly)
            journal = opened(folder, clock)
            step.watch(journal._database.engine)
            work(folder, clock, step, journal)

        killed = in_child(die)
        clock.now += HOUR * SECOND
        with opened(folder, clock) as journal:
            work(folder, clock, lambda: None, journal)
            notices = Noticebook(journal, host="here", clock=clock).open()
            assert {notice.subject for notice in notices} == {f"backup/docs/{vault}" for vault in VAULTS}
            expected = {f"{channel} {notice.id} raised" for channel in CHANNELS for notice in notices}
            assert set(received(folder)) == expected, f"killed at step {deadly}"
            facts = journal.facts(kinds=["notice.*"])
            sent = [
                f"{fact.data['channel']} {fact.data['notice']} raised" for fact in facts if fact.kind == "notice.sent"
            ]
            assert sorted(sent) == sorted(expected), f"killed at step {deadly}: each is recorded once"
            assert sum(fact.kind == "notice.raised" for fact in facts) == len(VAULTS)
            assert Noticebook(journal, host="here", clock=clock).next_delivery_ns() is None
            # Only who dies between sending and writing that down makes somebody send again.
            assert len(received(folder)) <= len(expected) + 1
        if not killed:
            break
    assert deadly > 40, "there are fewer steps than statements"


def test_two_processes_at_once_deliver_once(tmp_path: Path) -> None:
    folder, clock = tmp_path / "both", SystemClock()
    prepared(folder, clock)
    begin = os.pipe()
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                os.close(begin[1])
                os.read(begin[0], 1)  # both are let go by the closing of the other end
                with opened(folder, clock) as journal:
                    work(folder, clock, lambda: None, journal)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        pids.append(pid)
    os.close(begin[0])
    os.close(begin[1])
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    lines = received(folder)
    assert len(lines) == len(set(lines)) == len(CHANNELS) * len(VAULTS)
