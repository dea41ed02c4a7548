"""What a person must hear about, as values: notices, the words for their reasons, and who is to be told of what."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from holdfast.kernel.values import dataclass

SECOND = 1_000_000_000
LEVELS = ("info", "warning", "error", "critical")

RULES: dict[str, str] = {
    "failed": "a run failed, or ended without a word",
    "partial": "a run finished, but some items could not be saved",
    "overdue": "nothing happened for longer than the plan expects",
    "shrunk": "a snapshot is much smaller than those before it",
    "silent": "something said that it worked, but did nothing, or far too little",
    "damage": "damage was found in a vault",
    "drill": "a test restore failed, or none was made for too long",
    "space": "a vault is nearly full",
    "lock": "a lock keeps others from a vault",
    "health": "a check of 'holdfast health' failed",
    "error": "a script recorded an error, or failed a check of its data",
    "critical": "a script recorded a critical or fatal error",
    "channel": "a way of telling people does not work",
    "recovered": "one of these is over",
    "digest": "the report that 'holdfast report --send' made",
}
"""What a rule of the configuration may name with ``on``, and what it means."""

PROBLEMS = frozenset(RULES) - {"recovered", "digest"}


def rank(level: str) -> int:
    """How grave ``level`` is: 0 for info to 3 for critical; an unknown one counts as an error."""
    return LEVELS.index(level) if level in LEVELS else 2


@dataclass(frozen=True, slots=True)
class Observation:
    """What one fact, or its absence, says about one subject.

    ``state``: ``bad`` holds until a ``good`` one of the same rule and subject comes; an ``event`` has no end that could
    be seen, and ``news`` is told once and needs nobody; ``gone`` ends it without a word; ``mended`` means that a damage
    counts as gone once a check sees none, though the check reads no data (``data["deep"]``). ``subject`` is a key such
    as ``backup/documents/home``; ``plan`` is for routes. ``items`` are parts that are bad (names of checks): a new one
    makes the notice worse.
    """

    rule: str
    subject: str
    at_ns: int
    state: str
    level: str = "error"
    title: str = ""
    message: str = ""
    plan: str = ""
    run: str = ""
    channel: str = ""
    items: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """One trouble of one subject, from the first fact until it is over; times are nanoseconds since 1970, or None.

    ``times`` counts the facts, ``tells`` how often people were told of it (that is, a delivery was put in line).
    """

    id: str
    rule: str
    subject: str
    level: str
    title: str
    message: str
    opened_ns: int
    updated_ns: int
    state: str = "bad"
    plan: str = ""
    run: str = ""
    times: int = 1
    tells: int = 0
    told_ns: int = 0
    told_times: int = 0
    escalated_ns: int | None = None
    acknowledged_ns: int | None = None
    acknowledged_by: str = ""
    resolved_ns: int | None = None
    items: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """At most one open notice has it."""
        return self.rule, self.subject


def notice_id(rule: str, subject: str, opened_ns: int) -> str:
    """Twelve hex digits: the same facts always make the same notice, however often they are looked at."""
    return hashlib.sha256(f"{rule}\0{subject}\0{opened_ns}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Route:
    """Whoever is behind the channels ``to`` hears of the rules ``on``, of all plans or only of ``plans``."""

    on: frozenset[str]
    to: tuple[str, ...]
    plans: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Quiet:
    """Minutes of the local day (from, to; over midnight where ``to`` is the smaller) in which nothing is sent below
    ``critical``, or nothing at all with ``hold_critical``."""

    begin: int
    end: int
    hold_critical: bool = False


@dataclass(frozen=True, slots=True)
class Escalation:
    """A problem of at least ``level`` that nobody acknowledged within ``after`` seconds is told to ``to`` as well."""

    after: float
    to: tuple[str, ...]
    level: str = "error"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What has to happen again within ``every`` seconds. ``kind``: ``backup`` or ``drill``. ``since_ns`` is when it
    last did; for what ``never`` happened, when the plan was first seen."""

    kind: str
    plan: str
    vault: str
    every: float
    since_ns: int
    never: bool = False

    @property
    def subject(self) -> str:
        """The key of it."""
        return "/".join(part for part in (self.kind, self.plan, self.vault) if part)


def utc(_at_ns: int) -> int:
    """The offset of UTC."""
    return 0


@dataclass(frozen=True, slots=True)
class NoticeSettings:
    """How notices are handled. Lengths of time are seconds, ``space`` and ``shrink`` (plan -> share) are per cent.

    ``repeat`` 0: told once. ``settle``: an event without news for so long is over. ``source`` is the
    configuration that all this comes from. ``offset(at_ns)`` is the local time's offset from UTC in seconds.
    """

    channels: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    quiet: Quiet | None = None
    repeat: float = 86_400.0
    escalation: Escalation | None = None
    settle: float = 86_400.0
    space: float = 10.0
    shrink: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    offset: Callable[[int], int] = utc


@dataclass(frozen=True, slots=True)
class Tell:
    """A message that is to go to one channel, not before ``due_ns``."""

    channel: str
    due_ns: int


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one notice, with who is told of it.

    ``action``: ``raised``, ``worse``, ``counted`` (nobody is told), ``repeated``, ``escalated``, ``resolved``, or
    ``closed`` (it is over, and that is no news).
    """

    action: str
    notice: Notice
    tells: tuple[Tell, ...] = ()


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is to be done now, and when to look again though no fact comes (None: never)."""

    steps: tuple[Step, ...]
    open: tuple[Notice, ...]
    due_ns: int | None
