"""What is wrong with a configuration file: where, which key, why, and what to do; all of it in one error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from holdfast.kernel.errors import Invalid

Key = tuple[str | int, ...]
"""The way to a value: ``("plans", "documents", "to", 0)``."""
SHOWN = 30


class Spot(NamedTuple):
    """A place in a file; both count from 1."""

    line: int
    column: int


class Flaw(NamedTuple):
    """One thing that is wrong. No message or hint repeats a value that may be secret."""

    spot: Spot
    key: Key
    message: str
    hint: str = ""


def name_of(key: Key) -> str:
    """``plans.documents.to[0]``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of ``known``, or all of them where none is near and they are few."""
    import difflib

    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known here: {', '.join(words)}." if 0 < len(words) <= 25 else ""


def refusal(file: str, flaws: Sequence[Flaw]) -> Invalid:
    """The one error that tells all of ``flaws``, in the order of the file."""
    everything = sorted(dict.fromkeys(flaws), key=lambda flaw: flaw.spot)
    lines = [f"{file} cannot be used: {len(everything)} mistake{'' if len(everything) == 1 else 's'}"]
    for flaw in everything[:SHOWN]:
        key = f"{name_of(flaw.key)}: " if flaw.key else ""
        lines.append(f"  {file}:{flaw.spot.line}:{flaw.spot.column}: {key}{flaw.message}")
        if flaw.hint:
            lines.append(f"      {flaw.hint}")
    if len(everything) > SHOWN:
        lines.append(f"  ... and {len(everything) - SHOWN} more")
    return Invalid(
        "\n".join(lines),
        hint="'holdfast config check' looks at the file again; docs/configuration.md explains every key.",
        file=file,
        mistakes=[
            {
                "line": flaw.spot.line,
                "column": flaw.spot.column,
                "key": name_of(flaw.key),
                "message": flaw.message,
                "hint": flaw.hint,
            }
            for flaw in everything
        ],
    )
