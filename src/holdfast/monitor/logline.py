"""One line of a log: how it is written, and how a person sees it. Standard library only, quick to import."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from holdfast.monitor.plain import plain
from holdfast.monitor.record import time_ns, time_text

LEVELS = ("debug", "info", "warning", "error", "critical")
MOST_BYTES = 64 << 10
"""The longest line. What is longer is cut and says so: a line is one write, and a reader knows how much to expect."""
_TEXT = 16 << 10

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def rank(level: str) -> int:
    """How grave a level is, 0 (debug) to 4 (critical); a word that is none counts as info."""
    return LEVELS.index(level) if level in LEVELS else 1


def line_of(at_ns: int, level: str, logger: str, message: str, **fields: Any) -> bytes:
    """A line with its end: ``at``, ``level``, ``logger``, ``message``, then those of ``fields`` that are not empty.

    What JSON does not know becomes text. A line longer than 64 KiB loses ``data`` first,
    then the ends of its texts, and says so in ``cut``.
    """
    parts: dict[str, Any] = {"at": time_text(at_ns), "level": level, "logger": logger, "message": message}
    parts.update((key, value) for key, value in fields.items() if value not in ("", None, {}))
    line = _bytes(parts)
    if len(line) > MOST_BYTES:
        line = _bytes(_cut(parts))
    return line


def _bytes(parts: Mapping[str, Any]) -> bytes:
    return _encode(plain(parts)).encode() + b"\n"


def _cut(parts: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in parts.items() if key != "data"}
    for key, value in kept.items():
        if key == "exception" and isinstance(value, Mapping):
            kept[key] = {name: str(text)[-_TEXT // 8 :] for name, text in value.items()}
        elif isinstance(value, str) and len(value) > _TEXT // 4:
            kept[key] = value[: _TEXT // 4] + " ..."
    return {**kept, "cut": True}


def pretty(line: Mapping[str, Any]) -> str:
    """``line`` for a person, in local time: when, how grave, what, of which run; a traceback on lines of its own."""
    where = " ".join(
        str(line[key])[:8] if key == "run" else str(line[key]) for key in ("plan", "vault", "run") if line.get(key)
    )
    words = f"{_local(str(line.get('at', '')))} {line.get('level', '')!s:<8} "
    words += f"{line.get('logger', '')}: {line.get('message', '')}"
    words += f"  ({where})" if where else ""
    exception = line.get("exception")
    if isinstance(exception, Mapping):
        trace = str(exception.get("traceback") or f"{exception.get('type', '')}: {exception.get('message', '')}")
        words += "".join(f"\n    {part}" for part in trace.rstrip().splitlines())
    return words


def _local(at: str) -> str:
    try:
        at_ns = time_ns(at)
    except ValueError:
        return at
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ns // 1_000_000_000))
