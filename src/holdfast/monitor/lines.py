"""Lines of an outbox as rows of the journal: a fifth of what the way through a ``Record`` costs."""

from __future__ import annotations

import json
import re
from functools import lru_cache

import orjson

from holdfast.monitor.record import Record, time_ns

Row = tuple[str, int, str, str, str, str, str, int, str, str, str, str, str, str]
"""The members of a ``Record`` in their order, without ``seq``; ``data`` is JSON text."""

_TYPES = (str, int, str, str, str, str, str, int, str, str, str, str, str, dict)
_ROUNDED = re.compile(r"\de\d")
"""What a whole number from 2**64 on has become: orjson reads it as a float, and writes that so."""

_SECOND = len("2026-11-22T04:05:06")


def row_of_line(line: bytes) -> Row:
    """What ``Record.from_line`` understands, as a row. Raises ``Corrupt`` as that does."""
    try:
        document = orjson.loads(line)
        get = document.get
        at = document["at"]
        members = (
            document["id"],
            _second(at[:_SECOND]) + _rest(at),
            document["kind"],
            document["level"],
            document["message"],
            document["host"],
            document["role"],
            document["pid"],
            get("run", ""),
            get("operation", ""),
            get("plan", ""),
            get("vault", ""),
            get("job", ""),
            get("data", {}),
        )
        if tuple(map(type, members)) == _TYPES:
            data = orjson.dumps(members[-1]).decode()
            if _ROUNDED.search(data) is None:
                return (*members[:-1], data)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    # Not as Holdfast writes it, or none: the slow way knows what to make of it.
    return row_of(Record.from_line(line))


def row_of(record: Record) -> Row:
    """The row of a record whose data is JSON-ready."""
    return (
        record.id,
        record.at_ns,
        record.kind,
        record.level,
        record.message,
        record.host,
        record.role,
        record.pid,
        record.run,
        record.operation,
        record.plan,
        record.vault,
        record.job,
        json.dumps(record.data),
    )


def record_of_row(row: Row) -> Record:
    """The record that a row tells of."""
    return Record(*row[:-1], data=json.loads(row[-1]))


@lru_cache(4096)
def _second(text: str) -> int:
    return time_ns(f"{text}Z")


def _rest(at: str) -> int:
    """The nanoseconds of ``.123456Z`` behind the seconds. Raises ``ValueError`` where it is written otherwise."""
    digits = at[_SECOND + 1 : -1]
    if at[_SECOND] != "." or at[-1] != "Z" or len(digits) != 6 or not digits.isdecimal():
        raise ValueError("the time is written otherwise")
    return int(digits) * 1000
