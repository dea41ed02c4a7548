"""What people may write as a size, a time, a part or a snapshot, and what is refused."""

from __future__ import annotations

import time

import click
import pytest

from holdfast.cli.values import READ_DATA, SIZE, SNAPSHOT, WHEN, Part


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


@pytest.mark.parametrize("words", ["", "M", "-5", "10X", "ten", "10 M B", "1e3"])
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
