"""What is kept of an exception: its type, text and traceback, bounded, never with the values of variables."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import field
from types import TracebackType
from typing import Any

from holdfast.kernel.values import dataclass

TEXT_LIMIT = 2000
"""Characters that are kept of an exception's, or any stranger's, text."""
_FIRST, _LAST = 10, 30  # frames that are kept where a traceback is longer (a RecursionError has a thousand)
_LINKS = 5  # causes of causes
_MEMBERS = 5  # exceptions of a group
_ITEMS, _DEEPEST, _MOST = 50, 4, 1000

Frame = tuple[str, int, str]


@dataclass(slots=True)
class Sight:
    """An exception as it was seen: quick to take, and nothing in it keeps frames, and so variables, alive."""

    kind: str
    text: str
    frames: list[Frame] = field(default_factory=list)
    left_out: int = 0
    notes: list[str] = field(default_factory=list)
    before: Sight | None = None
    because: bool = False
    members: list[Sight] = field(default_factory=list)


def safe_text(value: object, limit: int = TEXT_LIMIT) -> str:
    """``str(value)``, cut; for one that cannot be made, a text that says so. Raises ``KeyboardInterrupt`` only."""
    try:
        text = value if type(value) is str else str(value)
        return text if len(text) <= limit else f"{text[:limit]}... ({len(text) - limit:,} more characters)"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<{type_name(value)} without a text: {type_name(error)}>"


def type_name(value: object) -> str:
    """The name of its type, with the module where that is not the obvious one."""
    try:
        kind = type(value)
        module = kind.__module__
        return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
    except Exception:
        return "object"


def sight(error: BaseException, *, skip: str = "", _left: int = _LINKS) -> Sight:
    """Look at ``error`` without touching the disk. Frames of the file ``skip`` are left out."""
    seen = Sight(type_name(error), safe_text(error))
    seen.frames, seen.left_out = _frames(error.__traceback__, skip)
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        seen.notes = [safe_text(note) for note in notes[:_MEMBERS]]
    if _left:
        cause = error.__cause__
        before = cause or (None if error.__suppress_context__ else error.__context__)
        if before is not None:
            seen.before, seen.because = sight(before, skip=skip, _left=_left - 1), cause is not None
        if isinstance(error, BaseExceptionGroup):
            seen.members = [sight(member, skip=skip, _left=_left - 1) for member in error.exceptions[:_MEMBERS]]
    return seen


def told(seen: Sight) -> str:
    """The traceback in Python's own words. Reads source files, so it may take as long as their disk does."""
    lines: list[str] = []
    _tell(seen, lines, "")
    return "\n".join(lines)


def sketch(value: object) -> Any:
    """A small JSON-ready copy of data of a stranger's: some items of each collection, some characters of each text.

    Never raises, and takes bounded time whatever the size of the collections.
    """
    left = [_MOST]
    return _sketched(value, 0, left)


def _frames(trace: TracebackType | None, skip: str) -> tuple[list[Frame], int]:
    first: list[Frame] = []
    last: deque[Frame] = deque(maxlen=_LAST)
    count = 0
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename != skip:
            count += 1
            (first if len(first) < _FIRST else last).append((code.co_filename, trace.tb_lineno or 0, code.co_name))
        trace = trace.tb_next
    return [*first, *last], count - len(first) - len(last)


def _tell(seen: Sight, lines: list[str], margin: str) -> None:
    import linecache

    if seen.before is not None:
        _tell(seen.before, lines, margin)
        said = "The above exception was the direct cause of the following exception:"
        lines += ["", margin + (said if seen.because else "During handling of it, another exception occurred:"), ""]
    if seen.frames:
        lines.append(f"{margin}Traceback (most recent call last):")
    for place, (file, line, name) in enumerate(seen.frames):
        if place == _FIRST and seen.left_out:
            lines.append(f"{margin}  ... {seen.left_out:,} more ...")
        lines.append(f'{margin}  File "{file}", line {line}, in {name}')
        source = linecache.getline(file, line).strip()[:200]
        if source:
            lines.append(f"{margin}    {source}")
    lines.append(f"{margin}{seen.kind}: {seen.text}" if seen.text else margin + seen.kind)
    lines += [margin + note for note in seen.notes]
    for member in seen.members:
        _tell(member, lines, margin + "  | ")


def _sketched(value: object, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0:
        return "..."
    if value is None or type(value) in (bool, int, float):
        return value if type(value) is not int or abs(value) < 1 << 63 else safe_text(hex(value))
    if isinstance(value, (bytes, bytearray)):
        return safe_text(bytes(value[:TEXT_LIMIT]).decode("utf-8", "replace"))
    try:
        if isinstance(value, Mapping) and depth < _DEEPEST:
            pairs = [pair for pair, _ in zip(value.items(), range(_ITEMS), strict=False)]
            found = {safe_text(key, 100): _sketched(inner, depth + 1, left) for key, inner in pairs}
            return found if len(value) <= _ITEMS else {**found, "...": f"{len(value) - _ITEMS:,} more"}
        if isinstance(value, (list, tuple, set, frozenset, deque)) and depth < _DEEPEST:
            row = [_sketched(inner, depth + 1, left) for inner, _ in zip(value, range(_ITEMS), strict=False)]
            return row if len(value) <= _ITEMS else [*row, f"... {len(value) - _ITEMS:,} more"]
    except Exception as error:
        return f"<{type_name(value)} that cannot be read: {type_name(error)}>"
    return safe_text(value)
