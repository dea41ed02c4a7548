"""What people may write as a size, a time, a part or a snapshot, and what is refused."""

from __future__ import annotations

import time

import click
import pytest

from holdfast.cli.values import DURATION, READ_DATA, SIZE, SNAPSHOT, SPAN, WHEN, Part
from holdfast.vaults.retention import Span


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("10K", 10240),
        ("10k", 10240),
        ("1.5M", 1572864),
        ("10MiB", 10485760),
        ("10MB", 10_000_000),
        ("2 G", 2 << 30),
    ],
)
def test_sizes(words: str, size: int) -> None:
    assert SIZE.convert(words, None, None) == size


@pytest.mark.parametrize("words", ["", "M", "-5", "10X", "ten", "10 M B", "1e3", "9" * 30, "9" * 400])
def test_what_is_no_size(words: str) -> None:
    with pytest.raises(click.BadParameter, match="Write for example"):
        SIZE.convert(words, None, None)


def test_times() -> None:
    local = int(time.mktime((2026, 11, 21, 18, 30, 0, 0, 0, -1))) * 10**9
    assert WHEN.convert("2026-11-21 18:30", None, None) == local
    assert WHEN.convert("2026-11-21T18:30:00", None, None) == local
    for words, seconds in (("90s", 90), ("36h", 36 * 3600), ("2w", 14 * 86400)):
        before = time.time_ns()
        value = WHEN.convert(words, None, None)
        assert before <= value + seconds * 10**9 <= time.time_ns()
    with pytest.raises(click.BadParameter, match="is not a time"):
        WHEN.convert("yesterday", None, None)


@pytest.mark.parametrize("text", ["9" * 20 + "d", "9" * 400 + "y", "400y", "9999-12-31", "0001-01-01"])
def test_times_that_nothing_can_count_to(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is too far away|is not a time"):
        WHEN.convert(text, None, None)


def test_parts() -> None:
    assert READ_DATA.convert("all", None, None) == Part()
    assert READ_DATA.convert("5%", None, None) == Part(percent=5.0)
    assert READ_DATA.convert("3/10", None, None) == Part(part=(3, 10))
    for words in ("0%", "101%", "0/3", "4/3", "1/257", "five", ""):
        with pytest.raises(click.BadParameter, match="is not a part"):
            READ_DATA.convert(words, None, None)


def test_snapshots() -> None:
    assert SNAPSHOT.convert("latest", None, None) == ("latest", b"")
    assert SNAPSHOT.convert("4F3C:/a:b", None, None) == ("4f3c", b"/a:b")
    assert SNAPSHOT.convert("latest:/\udcff", None, None) == ("latest", b"/\xff")
    for words in ("", "last", ":/a", "xyz"):
        with pytest.raises(click.BadParameter, match="is not a snapshot"):
            SNAPSHOT.convert(words, None, None)


@pytest.mark.parametrize(
    ("text", "years", "months", "days", "hours"),
    [("2d", 0, 0, 2, 0), ("1y5m7d2h", 1, 5, 7, 2), ("2w", 0, 0, 14, 0), ("1w3d", 0, 0, 10, 0), (" 36h ", 0, 0, 0, 36)],
)
def test_spans_are_those_of_restic_and_weeks(text: str, years: int, months: int, days: int, hours: int) -> None:
    assert SPAN.convert(text, None, None) == Span(years, months, days, hours)


@pytest.mark.parametrize("text", ["", "5", "d", "1D", "-3d", "1d1d", "1y 2m", "3 days", "1.5d"])
def test_what_is_no_span_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a span"):
        SPAN.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("5min", 300), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172_800)]
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5w", "1h-30m", "9" * 20 + "d", "9" * 400 + "s"])
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a duration"):
        DURATION.convert(text, None, None)
