"""Make any value ready for JSON and for every database: bounded, without halves of characters, NULs and strangers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_DEEPEST = 12
_LARGEST = 1 << 63


def plain(value: Any, *, characters: int = 65_536, items: int = 65_536, _depth: int = 0) -> Any:
    """A copy of ``value`` made of dict, list, str, int, float, bool and None.

    Texts keep their first ``characters``, lists and mappings their first ``items``; what is left out is said in its
    place. Bytes are read as UTF-8; other strangers, numbers that JSON does not know included, become their ``str``.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _cut(plain_text(value), characters)
    if isinstance(value, int):
        return value if -_LARGEST <= value < _LARGEST else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray)):
        return _cut(plain_text(value.decode("utf-8", "surrogateescape")), characters)
    if _depth >= _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        found = {}
        for name, each in list(value.items())[:items]:
            key = _cut(plain_text(str(name)), characters)
            found[key] = plain(each, characters=characters, items=items, _depth=_depth + 1)
        if len(value) > items:
            found["..."] = f"{len(value) - items} more"
        return found
    if isinstance(value, (list, tuple, set, frozenset)):
        row = [plain(each, characters=characters, items=items, _depth=_depth + 1) for each in list(value)[:items]]
        return row if len(value) <= items else [*row, f"... {len(value) - items} more"]
    return _cut(plain_text(_described(value)), characters)


def plain_text(text: str) -> str:
    r"""``text`` as valid Unicode without NUL: bytes of file names that are no UTF-8, and NULs, become ``\xNN``."""
    if text.isascii():
        return text.replace("\0", "\\x00") if "\0" in text else text
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a half of a pair, which no file name gives
        raw = text.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}... ({len(text) - characters} more characters)"


def _described(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"
