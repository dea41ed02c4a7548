"""What was missed while a machine slept is started once, and what still runs is not started again."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.app.context import Context
from holdfast.app.fire import fire, missed
from holdfast.app.journal import open_journal
from holdfast.app.schedules import Installed, _remember, state_folder, upcoming
from holdfast.config.locate import Configured
from holdfast.kernel.cancel import Cancel

NS = 1_000_000_000
TEXT = """
vaults: {home: {location: vault, password_file: key}}
plans: {documents: {paths: [docs], schedule: "10 2 * * *", check: {schedule: "0 4 * * 0"}}}
schedules: {health: "0 */6 * * *", report: off, notices: off, prune: off, jitter: 0s}
"""


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self, *parts: int) -> None:
        self.now = int(datetime(*parts, tzinfo=UTC).timestamp()) * NS  # type: ignore[misc]

    def now_ns(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / NS

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * NS)

    def utc_offset(self, _at_ns: int) -> int:
        return 0


@pytest.fixture
def context(tmp_path: Path) -> Context:
    file = tmp_path / "holdfast.yaml"
    file.write_text(TEXT)
    environ = {"HOME": str(tmp_path)}
    return Context(
        emit=lambda _event: None,
        cancel=Cancel(),
        warn=print,
        configured=Configured(str(file), environ),
        environ=environ,
        clock=FakeClock(2026, 11, 21, 12),  # a Saturday
    )


def _installed(context: Context) -> None:
    _remember(context, context.required(), Installed("cron", context.clock.now_ns(), ()))


def _names(context: Context) -> list[str]:
    return [work.name for work in missed(context)]


def test_a_night_asleep(context: Context) -> None:
    _installed(context)
    assert _names(context) == []
    asleep = replace(context, clock=FakeClock(2026, 11, 22, 9))
    assert _names(asleep) == ["backup:documents", "check:documents", "health"]
    folder = state_folder(context)
    for name in ("backup:documents", "check:documents", "health"):
        (folder / f"{name}.last").write_text(str(asleep.clock.now_ns()))
    assert _names(asleep) == []
    later = replace(context, clock=FakeClock(2026, 11, 22, 12, 5))
    assert _names(later) == [], "five minutes late may only be slow"
    assert _names(replace(context, clock=FakeClock(2026, 11, 22, 12, 11))) == ["health"]


def test_weeks_asleep_are_one_start_each(context: Context) -> None:
    _installed(context)
    assert len(_names(replace(context, clock=FakeClock(2027, 1, 5)))) == 3


def test_nothing_installed_means_nothing_missed(context: Context) -> None:
    assert _names(context) == []


def test_a_clock_that_goes_back_starts_nothing_twice(context: Context) -> None:
    _installed(context)
    (state_folder(context) / "backup:documents.last").write_text(str(context.clock.now_ns()))
    assert _names(replace(context, clock=FakeClock(2026, 11, 20))) == []


def test_a_damaged_stamp_counts_as_none(context: Context) -> None:
    _installed(context)
    (state_folder(context) / "health.last").write_text("\0\0\0")
    assert _names(replace(context, clock=FakeClock(2026, 11, 21, 18, 11))) == ["health"]


def test_what_still_runs_is_not_started_again(context: Context) -> None:
    folder = state_folder(context)
    folder.mkdir(parents=True)
    held = os.open(folder / "backup:documents.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        fired = fire(context, "backup:documents")
    finally:
        os.close(held)
    assert fired.exit_code is None
    with open_journal(context) as journal:
        [kept] = journal.facts(kinds=["schedule.overlap"])
    assert (kept.plan, kept.data) == ("documents", {"name": "backup:documents"})
    assert not (folder / "backup:documents.last").exists()


def test_upcoming_is_in_order(context: Context) -> None:
    found = upcoming(context, 6)
    assert [work.name for _, work in found] == [
        *("health", "health", "backup:documents", "check:documents", "health", "health"),
    ]
