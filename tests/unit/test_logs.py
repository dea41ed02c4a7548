"""Logs: lines that are whole whoever writes, files that are put aside at midnight, and reading them again."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Fact
from holdfast.monitor.logfile import DAY, LogFile, files_of
from holdfast.monitor.loghandler import LogHandler
from holdfast.monitor.logjoin import join_libraries
from holdfast.monitor.logline import line_of, pretty
from holdfast.monitor.logread import Follower, LogFilter, Unread, newest, read
from holdfast.monitor.logs import Log

NOON = 20_000 * DAY + DAY // 2  # 2024-10-04


class Clock:
    """A clock that stands still until it is told otherwise; sleeping calls ``meanwhile``."""

    def __init__(self, now_ns: int = NOON) -> None:
        self.now = now_ns
        self.meanwhile: Any = lambda: None

    def now_ns(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1e9

    def sleep(self, seconds: float) -> None:
        self.meanwhile()

    def utc_offset(self, at_ns: int) -> int:
        return 0


def log_in(folder: Path, clock: Clock, role: str = "holdfast", **options: Any) -> Log:
    return Log(LogFile(folder, role, clock=clock), clock=clock, **options)


def lines(folder: Path, wanted: LogFilter | None = None) -> list[dict[str, Any]]:
    unread = Unread()
    found = list(read(folder, wanted or LogFilter(), unread))
    assert not unread.lines and not unread.files
    return found


def test_a_fact_becomes_a_line_with_its_run_and_what_follows_belongs_to_it(tmp_path: Path) -> None:
    log = log_in(tmp_path / "logs", Clock())
    log.log_fact(Fact("run.started", "backup begins"), run="01AB", operation="backup", plan="documents", vault="home")
    log.log_fact(Fact("item.failed", "cannot read it", "error", {"path": b"/a/\xff"}))
    log.log_fact(Fact("run.finished", "backup: ok"), run="01AB", operation="backup", plan="documents", vault="home")
    log.say("info", "elsewhere", "later")
    first, second, third, last = lines(tmp_path / "logs")
    assert (first["at"], first["level"], first["logger"]) == ("2024-10-04T12:00:00.000000Z", "info", "holdfast.backup")
    assert (first["message"], first["kind"], first["run"], first["plan"]) == (
        "backup begins",
        "run.started",
        "01AB",
        "documents",
    )
    assert second["run"] == third["run"] == "01AB"
    assert (second["level"], second["data"]) == ("error", {"path": "/a/\\xff"})
    assert "run" not in last


def test_what_is_below_the_level_is_not_written_and_secrets_are_masked(tmp_path: Path) -> None:
    def mask(value: Any) -> Any:
        return json.loads(json.dumps(value).replace("hunter2", "***"))

    shown: list[dict[str, Any]] = []
    log = log_in(tmp_path, Clock(), level=lambda: "warning", mask=mask, tell=shown.append, told="error")
    log.say("info", "a", "not this")
    log.say("warning", "a", "password hunter2", data={"deep": ["hunter2"]})
    log.say("error", "a", "shown too, hunter2")
    assert [line["message"] for line in lines(tmp_path)] == ["password ***", "shown too, ***"]
    assert lines(tmp_path)[0]["data"] == {"deep": ["***"]}
    assert [line["message"] for line in shown] == ["shown too, ***"]


def test_long_lines_are_cut_and_say_so_and_odd_values_do_no_harm() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    line = line_of(NOON, "error", "a", "x" * 200_000, data={"y": "z" * 200_000}, exception={"traceback": "t" * 99_999})
    assert len(line) <= 64 << 10 and json.loads(line)["cut"] is True
    wide = line_of(NOON, "error", "a", "\U0001f600" * 200_000)
    assert len(wide) <= 64 << 10 and json.loads(wide)["message"].endswith(" ...")
    odd = json.loads(line_of(NOON, "info", "a\ud800", "m", data={1: float("nan"), "o": Odd(), "b": b"\xfe"}))
    assert odd["data"] == {"1": "nan", "o": "odd", "b": "\\xfe"}


def test_instants_and_how_a_person_sees_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    at = "2024-10-04T12:00:00.123456Z"
    assert pretty({"at": "yesterday", "level": "info"}).startswith("yesterday info")
    line = {"at": at, "level": "error", "logger": "l", "message": "m", "plan": "p", "run": "0123456789ABCDEF"}
    line["exception"] = {"traceback": "Traceback:\n  here\n"}
    words = pretty(line)
    assert words.splitlines()[0].endswith("error    l: m  (p 01234567)")
    assert words.splitlines()[1:] == ["    Traceback:", "      here"]


def test_the_file_of_a_day_that_is_over_is_put_aside_and_thirty_are_kept(tmp_path: Path) -> None:
    clock = Clock()
    log, other = log_in(tmp_path, clock), log_in(tmp_path, clock)
    log_in(tmp_path, clock, role="another").say("info", "a", "stays")
    for day in range(40):
        clock.now = NOON + day * DAY
        for one in (log, other):
            one.say("info", "a", f"day {day}")
    names = sorted(path.name for _, path in files_of(tmp_path, "holdfast"))
    assert len(names) == 31 and names[-1] == "holdfast.jsonl" and names[0] == "holdfast.2024-10-13.jsonl"
    assert [path.name for _, path in files_of(tmp_path, "another")] == ["another.jsonl"]
    found = lines(tmp_path, LogFilter(role="holdfast"))
    assert [line["message"] for line in found] == [f"day {day}" for day in range(9, 40) for _ in range(2)]
    assert all(path.stat().st_mode & 0o077 == 0 for _, path in files_of(tmp_path))


def test_keep_none_keeps_everything_and_a_large_file_is_put_aside_before_midnight(tmp_path: Path) -> None:
    clock = Clock()
    file = LogFile(tmp_path, "a", clock=clock, keep=lambda: None, most_bytes=1_000)
    for number in range(100):
        assert file.write(line_of(clock.now, "info", "a", f"{number:090}"))
    paths = [path for _, path in files_of(tmp_path)]
    assert len(paths) > 12 and all(path.stat().st_size <= 1_200 for path in paths)
    assert [int(line["message"]) for line in lines(tmp_path)] == list(range(100))


def test_a_clock_that_went_back_puts_nothing_aside(tmp_path: Path) -> None:
    clock = Clock()
    log = log_in(tmp_path, clock)
    log.say("info", "a", "today")
    clock.now -= 5 * DAY
    log.say("info", "a", "back then")
    assert [path.name for _, path in files_of(tmp_path)] == ["holdfast.jsonl"]


def test_a_file_that_was_taken_away_is_begun_anew(tmp_path: Path) -> None:
    log = log_in(tmp_path, Clock())
    log.say("info", "a", "one")
    os.rename(tmp_path / "holdfast.jsonl", tmp_path / "elsewhere")
    log.say("info", "a", "two")
    assert [line["message"] for line in lines(tmp_path)] == ["two"]


def _write_many(folder: Path, number: int) -> None:
    clock = Clock()
    log = log_in(folder, clock)
    for count in range(300):
        clock.now = NOON + count // 100 * DAY
        log.say("info", "a", f"{number} {count}", data={"x": "y" * (count % 90)})


def test_processes_that_write_one_log_over_midnight_lose_and_tear_nothing(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_write_many, args=(tmp_path, number)) for number in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = {line["message"] for line in lines(tmp_path)}
    assert found == {f"{number} {count}" for number in range(5) for count in range(300)}


@pytest.mark.parametrize("obstacle", ["file", "pipe", "folder"])
def test_a_log_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path: Path, obstacle: str) -> None:
    folder = tmp_path / "logs"
    if obstacle == "file":
        folder.write_text("no folder")
    else:
        folder.mkdir()
        path = folder / "holdfast.jsonl"
        os.mkfifo(path) if obstacle == "pipe" else path.mkdir()
    told: list[str] = []
    log = Log(LogFile(folder, "holdfast", clock=Clock(), on_trouble=told.append), clock=Clock())
    for _ in range(3):
        log.say("info", "a", "lost")
    assert len(told) == 1 and "holdfast.jsonl" in told[0] and "goes on" in told[0]


def test_a_full_disk_tears_a_line_and_no_other(tmp_path: Path) -> None:
    """The limit of a file's size stands for the end of a disk: a write stops in the middle, the next fails."""
    script = """
import resource, signal, sys
from pathlib import Path
from holdfast.monitor.logfile import LogFile
from holdfast.monitor.logline import line_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
told = []
file = LogFile(Path(sys.argv[1]), "a", on_trouble=told.append)
results = [file.write(line_of(1_800_000_000_000_000_000, "info", "a", "x" * 200)) for _ in range(8)]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
results.append(file.write(line_of(1_800_000_000_000_000_000, "info", "a", "after")))
print(results.count(False), results[-1], len(told))
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["5", "True", "1"]
    unread = Unread()
    assert [line["message"][:5] for line in read(tmp_path, LogFilter(), unread)] == ["xxxxx"] * 3 + ["after"]


def test_what_libraries_say_comes_in_with_the_run_and_the_exception(tmp_path: Path) -> None:
    log = log_in(tmp_path, Clock())
    log.log_fact(Fact("run.started", "begins"), run="01AB", operation="check")
    leave = join_libraries(log)
    root = logging.getLogger()
    try:
        root.setLevel(logging.INFO)
        logging.getLogger("library").info("said %s", "this", extra={"job": "j1"})
        leave_pytest_out = [handler for handler in root.handlers if not isinstance(handler, LogHandler)]
        for handler in leave_pytest_out:  # it fails at the wrong arguments, as it should
            root.removeHandler(handler)
        logging.getLogger("library").warning("wrong %d", "number")
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("library").exception("it failed")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            # catch_warnings put the former function back for its block; ours is what the log has joined with
            warnings.showwarning("old", UserWarning, "/x/y.py", 3)
    finally:
        leave()
    logging.getLogger("library").info("no longer")
    assert not any(isinstance(handler, LogHandler) for handler in root.handlers)
    for handler in leave_pytest_out:
        root.addHandler(handler)
    _, said, wrong, failed, warned = lines(tmp_path)
    assert (said["message"], said["logger"], said["job"], said["run"]) == ("said this", "library", "j1", "01AB")
    assert wrong["message"] == "wrong %d"
    assert failed["exception"]["type"] == "ValueError" and "raise ValueError" in failed["exception"]["traceback"]
    assert warned["logger"] == "py.warnings" and warned["message"] == "UserWarning: old (y.py:3)"


def test_logging_is_not_imported_for_us_and_joins_whenever_somebody_imports_it(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from holdfast.monitor.logfile import LogFile
from holdfast.monitor.logjoin import join_libraries
from holdfast.monitor.logs import Log
log = Log(LogFile(Path(sys.argv[1]), "a"))
leave = join_libraries(log)
assert "logging" not in sys.modules
import logging.handlers
logging.getLogger("late").warning("joined")
leave()
logging.getLogger("late").warning("gone")
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert [line["message"] for line in lines(tmp_path)] == ["joined"]
    assert "joined" not in done.stderr


def test_filters_and_the_newest(tmp_path: Path) -> None:
    clock = Clock()
    one, two = log_in(tmp_path, clock), log_in(tmp_path, clock, role="nightly job")
    for number in range(6):
        clock.now = NOON + number * 1_000_000_000
        (two if number % 2 else one).say(
            "error" if number > 3 else "info", "a", f"line {number}", run="01AB" if number < 2 else "01CD"
        )

    def found(**wanted: Any) -> list[int]:
        return [int(line["message"][-1]) for line in lines(tmp_path, LogFilter(**wanted))]

    assert found() == [0, 1, 2, 3, 4, 5]
    assert found(role="nightly job") == [1, 3, 5] and lines(tmp_path)[1]["role"] == "nightly_job"
    assert found(run="01ab") == [0, 1]
    assert found(level="warning") == [4, 5]
    assert found(since_ns=NOON + 2_000_000_000, until_ns=NOON + 4_000_000_000) == [2, 3]
    assert found(grep=re.compile("LINE [24]", re.IGNORECASE)) == [2, 4]
    last, more = newest(lines(tmp_path), 2)
    assert [line["message"] for line in last] == ["line 4", "line 5"] and more
    assert newest(lines(tmp_path), 6)[1] is False and len(newest(lines(tmp_path), 0)[0]) == 6


def test_a_line_that_continues_a_torn_one_is_found_and_what_is_no_line_is_counted(tmp_path: Path) -> None:
    whole = line_of(NOON, "info", "a", "whole")
    (tmp_path / "a.jsonl").write_bytes(whole[:30] + whole + b"no line\n[1]\n" + whole + whole[:20])
    unread = Unread()
    assert [line["message"] for line in read(tmp_path, LogFilter(), unread)] == ["whole", "whole"]
    assert unread.lines == 3


def test_following_goes_over_midnight_and_sees_new_roles(tmp_path: Path) -> None:
    clock = Clock()
    log = log_in(tmp_path, clock)
    log.say("info", "a", "before")
    cancel = Cancel()

    def later() -> None:
        turn = turns.pop(0) if turns else "end"
        if turn == "midnight":
            log.say("info", "a", "last of the day")
            clock.now += DAY
            log.say("info", "a", "first of the next")
        elif turn == "role":
            log_in(tmp_path, clock, role="fresh").say("info", "a", "of another role")
            log.say("info", "a", "and another")
        elif turn == "half":
            with (tmp_path / "holdfast.jsonl").open("ab") as file:
                file.write(line_of(clock.now, "info", "a", "in halves")[:25])
        elif turn == "other half":
            with (tmp_path / "holdfast.jsonl").open("ab") as file:
                file.write(line_of(clock.now, "info", "a", "in halves")[25:])
        else:
            cancel.cancel("enough")

    turns = ["midnight", "role", "half", "other half"]
    clock.meanwhile = later
    follower = Follower(tmp_path)
    log.say("info", "a", "between")
    seen = [line["message"] for line in read(tmp_path, LogFilter(), Unread(), follower.ends)]
    assert seen == ["before"]
    messages = [line["message"] for line in follower.lines(LogFilter(), clock, cancel)]
    assert messages.pop(0) == "between"
    assert messages[:2] == ["last of the day", "first of the next"]
    assert set(messages[2:4]) == {"of another role", "and another"} and messages[4:] == ["in halves"]
