"""How values look to people, and that no name can act on a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli import text


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (124 * 1024**2, "124.0 MiB"),
        (3 * 1024**4, "3.0 TiB"),
        (2000 * 1024**6, "2,000.0 EiB"),
    ],
)
def test_sizes_are_in_binary_units(count: int, shown: str) -> None:
    assert text.size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.004, "0.00 s"), (0.04, "0.04 s"), (0.84, "0.8 s"), (12.34, "12.3 s"), (245, "4:05 min"), (7439, "2:03:59 h")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_counts_have_separators_and_a_plural() -> None:
    assert text.plural(1, "file") == "1 file"
    assert text.plural(5815, "file") == "5,815 files"
    assert text.plural(2, "entry", "entries") == "2 entries"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain.txt", "plain.txt"),
        ("Gruß 漢字 🌊".encode(), "Gruß 漢字 🌊"),
        (b"\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        (b"two\nlines\ttab\r", "two\\nlines\\ttab\\r"),
        (b"bad \xff byte", "bad \\xff byte"),
        ("right\u202eleft".encode(), "right\\u202eleft"),
        ("c1 \x9b".encode(), "c1 \\u009b"),
    ],
)
def test_names_are_made_harmless(name: bytes, shown: str) -> None:
    assert text.name(name) == shown


@given(st.binary())
def test_no_name_reaches_the_terminal_with_a_control_character(name: bytes) -> None:
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in text.name(name))


@given(st.text(), st.integers(min_value=0, max_value=60))
def test_a_shortened_text_fits(value: str, columns: int) -> None:
    assert text.width(text.shorten(text.name(value), columns)) <= columns


def test_shortening_keeps_both_ends() -> None:
    assert text.shorten("/home/ada/projects/engine/notes.txt", 21) == "/home/ada/…/notes.txt"


def test_tables_align_wide_characters() -> None:
    lines = text.table(["Name", "Size"], [["漢字", "1"], ["ab", "1,000"]], right=frozenset({1}))
    assert lines == ["Name   Size", "----  -----", "漢字      1", "ab    1,000"]
    assert {text.width(line) for line in lines} == {11}
