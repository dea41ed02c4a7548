"""The file tracker: a line for every operation, a file a day, and a script that goes on where it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.monitor import FileTracker

EXAMPLE = Path(__file__).parents[2] / "examples" / "image_cropper.py"
DAY = 86_400 * 10**9
NOON = 1_795_000_000 * 10**9 // DAY * DAY + DAY // 2


class Wall:
    """A clock that shows what it is told to."""

    def __init__(self, now_ns: int) -> None:
        self.now = now_ns

    def now_ns(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1e9

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)

    def utc_offset(self, at_ns: int) -> int:
        return 0


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))


def lines(folder: Path) -> list[dict[str, Any]]:
    """All lines of all days, in order."""
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def test_every_operation_is_a_line(tmp_path: Path) -> None:
    tracker = FileTracker("sorter", tmp_path / "log")
    tracker.move("a.txt", Path("b.txt"))
    tracker.copy(b"b.txt", "c.txt", bytes=7)
    tracker.delete("c.txt")
    tracker.create("d.txt", why={"rule": "x"})
    start, move, copy, delete, create = lines(tmp_path / "log")
    assert start["operation"] == "start" and start["pid"] == os.getpid()
    assert (move["operation"], move["path"], move["target"]) == ("move", "a.txt", "b.txt")
    assert (copy["path"], copy["target"], copy["bytes"]) == ("b.txt", "c.txt", 7)
    assert (delete["operation"], delete["path"]) == ("delete", "c.txt")
    assert create["why"] == {"rule": "x"}
    assert tracker.works and tracker.trouble == ""


def test_names_that_are_no_text_are_kept_without_loss(tmp_path: Path) -> None:
    FileTracker("x", tmp_path / "log").delete(b"caf\xe9\n")
    line = lines(tmp_path / "log")[-1]
    assert line["path"] == "caf\ufffd\n"
    assert line["path_base64"] == "Y2Fm6Qo="


def test_a_session_holds_together_and_is_counted(tmp_path: Path) -> None:
    tracker = FileTracker("sorter", tmp_path / "log")
    with tracker.session("monday", rule=3) as session:
        session.move("a", "b")
        session.move("c", "d")
        session.batch("delete", ["x", "y", "z"])
    tracker.create("outside")
    with pytest.raises(KeyError), tracker.session("tuesday"):
        raise KeyError("x")
    _, begin, *inside, end, outside, begin_2, end_2 = lines(tmp_path / "log")
    assert (begin["operation"], begin["title"], begin["rule"]) == ("begin", "monday", 3)
    assert {line["session"] for line in [begin, *inside, end]} == {begin["session"]}
    assert end["counts"] == {"move": 2, "delete": 3}
    assert "session" not in outside
    assert begin_2["session"] == end_2["session"] != begin["session"]
    assert end_2["error"] == "KeyError"


def test_a_batch_names_ten_and_then_samples(tmp_path: Path) -> None:
    FileTracker("x", tmp_path / "log").batch("delete", (f"file-{number}" for number in range(1, 100_001)), why="old")
    line = lines(tmp_path / "log")[-1]
    assert (line["operation"], line["count"], line["why"]) == ("delete", 100_000, "old")
    assert [name["path"] for name in line["names"]] == [f"file-{number}" for number in range(1, 11)]
    assert [sample["number"] for sample in line["samples"]] == [20 * 2**power for power in range(13)]
    assert line["samples"][0]["path"] == "file-20"


def test_a_batch_that_breaks_off_says_so(tmp_path: Path) -> None:
    def paths() -> Iterator[str]:
        yield "one"
        raise OSError(5, "broken")

    FileTracker("x", tmp_path / "log").batch("copy", paths())
    line = lines(tmp_path / "log")[-1]
    assert line["count"] == 1 and "broken" in line["stopped"]


def test_a_new_file_every_day_and_old_ones_go(tmp_path: Path) -> None:
    clock = Wall(NOON)
    folder = tmp_path / "log"
    tracker = FileTracker("x", folder, keep_days=3, clock=clock)
    (folder / "x-y-2001-01-01.jsonl").write_text("another's\n")
    for _ in range(6):
        clock.now += DAY
        tracker.create("f")
        tracker.create("g")
    days = sorted(path.name for path in folder.glob("x-2*.jsonl"))
    assert len(days) == 4
    assert all(len((folder / day).read_text().splitlines()) == 2 for day in days)
    assert (folder / "x-y-2001-01-01.jsonl").exists()


def test_a_day_ends_at_midnight_utc(tmp_path: Path) -> None:
    clock = Wall(NOON + DAY // 2 - 1000)
    tracker = FileTracker("x", tmp_path / "log", clock=clock)
    clock.now += 2000
    tracker.create("f")
    assert len(list((tmp_path / "log").glob("*.jsonl"))) == 2


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    tracker = FileTracker("x", tmp_path / "log")

    def work(number: int) -> None:
        with tracker.session(str(number)) as session:
            for step in range(50):
                session.create(f"{number}-{step}" + "x" * 500)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = lines(tmp_path / "log")
    assert len(found) == 1 + 6 * 52
    assert [line["counts"] for line in found if line["operation"] == "end"] == [{"create": 50}] * 6


def test_where_it_cannot_write_it_says_so_once_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text("a file in its place")
    tracker = FileTracker("sorter", tmp_path / "log")
    assert not tracker.works and tracker.trouble
    tracker.create("a")
    with tracker.session("x") as session:
        session.batch("delete", ["a"])
    tracker.move(object(), 5)  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert told.count("file operations of sorter are not recorded") == 1
    facts = [json.loads(line) for file in (tmp_path / "state/outbox").glob("*") for line in file.open()]
    assert [(fact["kind"], fact["level"]) for fact in facts] == [("error.recorded", "warning")]


def test_something_else_in_the_place_of_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    clock = Wall(NOON)
    FileTracker("x", folder, clock=clock)
    (file,) = folder.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert not FileTracker("x", folder, clock=clock).works
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    assert not FileTracker("x", folder, clock=clock).works
    assert not (tmp_path / "elsewhere").exists()


def test_a_tracker_that_is_set_up_wrongly_raises_nothing() -> None:
    tracker = FileTracker("x", 5, keep_days="many")  # type: ignore[arg-type]
    tracker.create("a")
    assert "not set up rightly" in tracker.trouble


def cropper(folder: Path, *images: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the example in ``folder``."""
    source = str(Path(__file__).parents[2] / "src")
    return subprocess.run(
        [sys.executable, str(EXAMPLE), "--size", "2x1", "--at", "1,1", "--into", "cropped", *images],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": source, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with a colour and a grey image of 3 by 2, and a text."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "colour.ppm").write_bytes(b"P6\n# made by hand\n3 2\n255\n" + bytes(range(18)))
    (folder / "grey.pgm").write_bytes(b"P5 3 2 255\n" + bytes(range(6)))
    (folder / "text.ppm").write_text("no image")
    return folder


def test_the_example_crops_and_keeps_track(images: Path, tmp_path: Path) -> None:
    done = cropper(images, "colour.ppm", "grey.pgm")
    assert (done.returncode, done.stdout) == (0, "2 of 2 cropped into cropped\n"), done.stderr
    assert (images / "cropped/colour.ppm").read_bytes() == b"P6\n2 1\n255\n" + bytes(range(12, 18))
    assert (images / "cropped/grey.pgm").read_bytes() == b"P5\n2 1\n255\n" + bytes([4, 5])
    found = lines(tmp_path / "state/tracker")
    assert [line["operation"] for line in found] == ["start", "begin", "create", "create", "end"]


def test_the_example_goes_on_working_when_its_tracker_cannot(images: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    done = cropper(images, "colour.ppm", "text.ppm", "grey.pgm")
    assert (done.returncode, done.stdout) == (1, "2 of 3 cropped into cropped\n")
    assert done.stderr.count("file operations of image-cropper are not recorded") == 1
    assert "cannot crop text.ppm" in done.stderr
    assert (images / "cropped/grey.pgm").exists()
