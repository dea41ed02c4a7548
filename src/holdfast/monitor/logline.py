"""One line of a log: how it is written, and how a person sees it. Standard library only, quick to import."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

LEVELS = ("debug", "info", "warning", "error", "critical")
MOST_BYTES = 64 << 10
"""The longest line. What is longer is cut and says so: a line is one write, and a reader knows how much to expect."""
_TEXT = 16 << 10

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


def rank(level: str) -> int:
    """How grave a level is, 0 (debug) to 4 (critical); a word that is none counts as info."""
    return LEVELS.index(level) if level in LEVELS else 1


def moment(at_ns: int) -> str:
    """RFC 3339 in UTC with microseconds: ``2026-11-22T04:15:35.123456Z``."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06}Z"


def line_of(at_ns: int, level: str, logger: str, message: str, **fields: Any) -> bytes:
    """A line with its end: ``at``, ``level``, ``logger``, ``message``, then those of ``fields`` that are not empty.

    Text that is not Unicode becomes ``?`` in the bytes that are not. A line longer than 64 KiB loses ``data`` first,
    then the ends of its texts, and says so in ``cut``.
    """
    parts: dict[str, Any] = {"at": moment(at_ns), "level": level, "logger": logger, "message": message}
    parts.update((key, value) for key, value in fields.items() if value not in ("", None, {}))
    line = _bytes(parts)
    if len(line) > MOST_BYTES:
        line = _bytes(_cut(parts))
    return line


def _bytes(parts: Mapping[str, Any]) -> bytes:
    return _encode(_plain(parts)).encode("utf-8", "replace") + b"\n"


def _plain(value: Any) -> Any:
    """``value`` as JSON has it: keys are text, bytes are text, what has no end (NaN) is text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


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


def nanoseconds(at: str) -> int | None:
    """The instant that :func:`moment` wrote; None where ``at`` is none."""
    import calendar

    try:
        seconds = calendar.timegm(time.strptime(at[:19], "%Y-%m-%dT%H:%M:%S"))
        part = at[20:-1] if at[19:20] == "." else "0"
        return seconds * 1_000_000_000 + int(part.ljust(9, "0")[:9])
    except ValueError:
        return None


def _local(at: str) -> str:
    at_ns = nanoseconds(at)
    if at_ns is None:
        return at
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ns // 1_000_000_000))
