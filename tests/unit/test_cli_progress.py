"""The progress line: what it says, how often it draws, and that it always fits."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli import text
from holdfast.cli.progress import Progress, render
from holdfast.kernel.events import Tick


def test_it_tells_share_counts_rate_time_left_errors_and_the_current_file() -> None:
    tick = Tick("restore", 50, 512 * 1024, items_total=100, bytes_total=1024 * 1024, current="/a/file", errors=2)
    assert render(tick, 256 * 1024, 200).split("  ") == [
        "restore",
        "[##########..........]",
        *["50%", "50/100 items", "512.0 KiB of 1.0 MiB", "256.0 KiB/s", "2.0 s left", "2 errors", "/a/file"],
    ]


def test_without_totals_it_promises_nothing() -> None:
    line = render(Tick("backup", 5, 10), 0, 200)
    assert line == "backup  5 items  10 B"


@given(
    st.text(),
    st.integers(min_value=20, max_value=200),
    st.integers(min_value=0, max_value=10**15),
    st.one_of(st.none(), st.integers(min_value=0, max_value=10**15)),
)
def test_the_line_fits_and_no_name_acts_on_the_terminal(
    current: str, columns: int, done: int, total: int | None
) -> None:
    line = render(Tick("backup", done, done, total, total, current, errors=3), 1e6, columns)
    assert text.width(line) <= columns
    assert line.isprintable()


def test_it_draws_at_most_ten_times_a_second_and_at_once_in_a_new_phase() -> None:
    now = 0.0
    stream = io.StringIO()
    progress = Progress(stream, clock=lambda: now)
    for step in range(1000):
        now = step / 1000
        progress.show(Tick("backup", step))
    assert 5 <= stream.getvalue().count("\r") <= 10
    progress.show(Tick("index", 1))
    assert "index" in stream.getvalue()
    progress.clear()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_on_a_narrow_terminal_the_bar_goes_before_the_figures() -> None:
    tick = Tick("packs", 3, 38, items_total=8, bytes_total=100)
    line = render(tick, 1e6, 70)
    assert "38%" in line and "38 B of 100 B" in line and "…" not in line
