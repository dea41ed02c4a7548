"""Durations, sizes, spans, shares and schedules as people write them."""

from __future__ import annotations

import pytest

from holdfast.config import words
from holdfast.vaults.base import Subset
from holdfast.vaults.retention import Span


def test_what_texts_mean() -> None:
    assert [words.seconds(text) for text in ("90s", "5m", "1h30m", "1.5min", "2d")] == [
        *(90, 300, 5400, 90, 172_800),
    ]
    assert [words.size(text) for text in ("500", "10K", "10MiB", "10MB", "1.5G", "2 k")] == [
        *(500, 10_240, 10 << 20, 10_000_000, 3 << 29, 2048),
    ]
    assert words.span("1y5m7d2h") == Span(1, 5, 7, 2) and words.span("2w") == Span(days=14)
    assert words.share("12.5%") == 12.5
    assert [words.subset(text) for text in ("all", "5%", "3/10")] == [Subset(), Subset(None, 5.0), Subset((3, 10))]


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5mm", "5x", "٣m", "100001d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration is wanted"):
        words.seconds(text)


@pytest.mark.parametrize(
    "text",
    ["10 2 * * *", "*/15 * * * *", "0 4 * * 0", "0 4 * * 7", "0 0 1,15 * mon-fri", "0 0 L * *", "5-50/5 * * JAN *"]
    + ["@daily", "@hourly"],
)
def test_schedules(text: str) -> None:
    words.check_schedule(text)


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *"]
    + ["*/0 * * * *", "a * * * *", "1,,2 * * * *", "@never", "1-2-3 * * * *", "5/ * * * *", "* * * mon *"],
)
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError, match="schedule"):
        words.check_schedule(text)


def test_names() -> None:
    assert all(map(words.is_name, ("home", "a", "märz-2026", "v1.2_x", "x" * 64)))
    assert not any(map(words.is_name, ("", ".", "..", "-x", "_x", "a/b", "a:b", "a b", "a,b", "~", "x" * 65)))
