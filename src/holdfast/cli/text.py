"""How values look to people: sizes, counts, durations, times, and names that can do no harm to a terminal."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Sequence

from holdfast.kernel.sizes import size as size


def plural(count: int, one: str, many: str = "") -> str:
    """``1 file``, ``5,815 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """``0.01 s``, ``12.3 s``, ``4:05 min``, ``2:03:59 h``."""
    if seconds < 10:
        return f"{seconds:.2f} s" if seconds < 0.1 else f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def moment(ns: int) -> str:
    """The instant ``ns`` (nanoseconds since 1970 UTC) in local time: ``2026-11-21 22:05:09``."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns // 1_000_000_000))
    except (OverflowError, ValueError, OSError):
        return "(no valid time)"


def name(value: bytes | str) -> str:
    """A file name, or any text from outside, such that no character of it acts on the terminal.

    Control characters, bytes that are not UTF-8, and invisible or direction-changing characters become ``\\x1b``,
    ``\\u202e`` and the like; everything else stays. For people only: JSON output carries exact names.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def lines(value: str) -> str:
    """A message of several lines with every line made harmless as by :func:`name`."""
    return "\n".join(map(name, value.split("\n")))


def width(text: str) -> int:
    """How many terminal columns ``text`` takes (East Asian wide characters take two, combining ones none)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def shorten(text: str, columns: int) -> str:
    """``text`` in at most ``columns`` columns, cut in the middle: both ends of a path tell something."""
    if width(text) <= columns:
        return text
    if columns < 2:
        return "…"[:columns]
    front, back = (columns - 1) // 2, (columns - 1) - (columns - 1) // 2
    head, tail = text[:front], text[-back:]
    while head and width(head) > front:
        head = head[:-1]
    while tail and width(tail) > back:
        tail = tail[1:]
    return f"{head}…{tail}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> list[str]:
    """Lines of a table with aligned columns, two spaces apart; columns in ``right`` are aligned to the right."""
    widths = [max(map(width, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            " " * (widths[i] - width(cell)) + cell if i in right else cell + " " * (widths[i] - width(cell))
            for i, cell in enumerate(cells)
        )
        return "  ".join(padded).rstrip()

    return [line(head), line(["-" * w for w in widths]), *map(line, rows)]
