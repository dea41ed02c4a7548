"""A fact that is kept: who saw it, when, and to which run it belongs; and its form as one line of JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Any

from holdfast.kernel.errors import Corrupt
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass
from holdfast.monitor.plain import plain, plain_text

LINE_LIMIT = 64 << 10
"""Bytes that a line has at most, its end included: so much fits into one write of every system."""

MESSAGE_LIMIT = 4096
"""Characters of a message that are kept."""

LEVELS = ("info", "warning", "error", "critical")

REFUSED = "refused"
"""The outcome of a run that was a mistake of the person who asked for it: it counts nowhere."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_UNSAFE = ("\\ud", "\\u0000")  # escaped halves of characters, and NUL: neither can be stored by every database
_CUTS = ((2000, 100), (400, 30), (100, 10))
"""Ever smaller: characters of a text and items of a list that stay where a line is too long."""


@dataclass(frozen=True, slots=True)
class Record:
    """A fact with its circumstances.

    ``id`` is 26 characters (Crockford's base32 of 48 bits of milliseconds and 80 random bits): ids sort by time.
    ``at_ns`` is in nanoseconds since 1970 UTC, in steps of a microsecond. ``kind``, ``message``, ``level`` (one of
    ``LEVELS``) and ``data`` are those of the fact; ``role`` is ``holdfast`` for the command line, else the monitor's
    name; ``operation`` is the verb. ``seq`` is the position in the journal, 0 while it is only in an outbox.
    """

    id: str
    at_ns: int
    kind: str
    level: str
    message: str
    host: str
    role: str
    pid: int
    run: str = ""
    operation: str = ""
    plan: str = ""
    vault: str = ""
    job: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` shows: the members by their names, except that ``at`` is an RFC 3339 time in UTC. Empty
        members are left out, ``seq`` too while it is 0."""
        found: dict[str, Any] = {
            "id": self.id,
            "at": time_text(self.at_ns),
            "kind": self.kind,
            "level": self.level,
            "message": self.message,
            "host": self.host,
            "role": self.role,
            "pid": self.pid,
        }
        for name in ("run", "operation", "plan", "vault", "job", "data", "seq"):
            if value := getattr(self, name):
                found[name] = value
        return found

    def to_line(self) -> bytes:
        """One line of ASCII with its end, of at most ``LINE_LIMIT`` bytes.

        What JSON does not know becomes text; what no database can hold is escaped; data that is too long is cut, and
        ``data["cut"]`` then says how many bytes the whole had.
        """
        document = self.to_json()
        document.pop("seq", None)
        try:
            text = _ENCODER.encode(document)
        except (TypeError, ValueError, RecursionError):
            text = ""
        if not text or any(part in text for part in _UNSAFE):
            document = plain(document)
            text = _ENCODER.encode(document)
        if len(text) >= LINE_LIMIT:
            text = _shortened(document, len(text))
        return text.encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """The record that such a line holds. Members that this version does not know are ignored.

        Raises ``Corrupt`` where the line is torn or something else.
        """
        try:
            document = json.loads(line)
            return cls(
                id=_text(document["id"]),
                at_ns=time_ns(document["at"]),
                kind=_text(document["kind"]),
                level=_text(document["level"]),
                message=_text(document["message"]),
                host=_text(document["host"]),
                role=_text(document["role"]),
                pid=int(document["pid"]),
                run=_text(document.get("run", "")),
                operation=_text(document.get("operation", "")),
                plan=_text(document.get("plan", "")),
                vault=_text(document.get("vault", "")),
                job=_text(document.get("job", "")),
                data=_mapping(document.get("data", {})),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise Corrupt("a line of an outbox is no fact", reason=str(error)[:200]) from None


def make(
    fact: Fact,
    *,
    at_ns: int,
    random: Callable[[int], bytes],
    host: str,
    role: str,
    pid: int,
    run: str = "",
    operation: str = "",
    plan: str = "",
    vault: str = "",
    job: str = "",
) -> Record:
    """The record of ``fact`` at the instant ``at_ns``; ``random(10)`` makes its id unique."""
    return Record(
        id=new_id(at_ns, random),
        at_ns=at_ns // 1000 * 1000,
        kind=fact.kind,
        level=fact.level if fact.level in LEVELS else "error",
        message=plain_text(str(fact.message))[:MESSAGE_LIMIT],
        host=plain_text(host),
        role=role,
        pid=pid,
        run=run,
        operation=operation,
        plan=plain_text(plan),
        vault=plain_text(vault),
        job=job,
        data=fact.data,
    )


def as_kept(record: Record) -> Record:
    """The record as its line says it: with data that is JSON-ready and bounded."""
    return replace(Record.from_line(record.to_line()), seq=record.seq)


def new_id(at_ns: int, random: Callable[[int], bytes]) -> str:
    """A new id: 48 bits of milliseconds, then 80 bits of ``random(10)``."""
    number = ((at_ns // 1_000_000) & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(random(10), "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def time_text(at_ns: int) -> str:
    """``at_ns`` as RFC 3339 in UTC with microseconds: ``2026-11-22T04:05:06.000007Z``."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    at = time.gmtime(seconds)
    date = f"{at.tm_year:04d}-{at.tm_mon:02d}-{at.tm_mday:02d}"
    return f"{date}T{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}.{rest // 1000:06d}Z"


def time_ns(text: str) -> int:
    """The nanoseconds since 1970 that an RFC 3339 text says. Raises ``ValueError`` for anything else."""
    from datetime import UTC, datetime  # 2 ms, and whoever only writes does without

    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("the time says no zone")
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def _shortened(document: dict[str, Any], whole: int) -> str:
    for characters, items in _CUTS:
        data = plain(document["data"], characters=characters, items=items) if "data" in document else {}
        text = _ENCODER.encode({**plain(document, characters=MESSAGE_LIMIT), "data": {**data, "cut": whole}})
        if len(text) < LINE_LIMIT:
            return text
    return _ENCODER.encode({**plain({**document, "data": {}}, characters=200), "data": {"cut": whole}})


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is wanted")
    return value


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("a mapping is wanted")
    return value
