"""The short texts that people write for lengths of time, sizes, shares and schedules, and what they mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.vaults.base import Subset
    from holdfast.vaults.drill.model import Sample
    from holdfast.vaults.retention import Span

NAME = r"[^\W_][\w.-]{0,63}"
"""What a vault, a plan or a channel may be called: no slash, colon or comma, so that no path or tag looks like it."""
DURATION = r"([0-9]+(\.[0-9]+)?(s|min|m|h|d))+"
SIZE = r"[0-9]+(\.[0-9]+)?\s*[KMGTPkmgtp]?(iB|B|ib|b)?"
SPAN = r"([0-9]{1,9}[ymwdh])+"
SHARE = r"[0-9]+(\.[0-9]+)?%"
READ_DATA = r"all|[0-9]+(\.[0-9]+)?%|[0-9]{1,3}/[0-9]{1,3}"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|min|m|h|d)")
_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_SIZE_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTP]?)(iB|B|)", re.IGNORECASE)
_LONGEST = 100_000 * 86400
"""Seconds. Threads and sleeps take no more than 292 years."""
_LARGEST = 2**63 - 1
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}

_SHORTHANDS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)


def is_name(text: str) -> bool:
    """Whether ``text`` can be the name of a vault or a plan."""
    return re.fullmatch(NAME, text) is not None


def seconds(text: str) -> float:
    """``90s``, ``5m``, ``1h30m``, ``26h``, ``2d`` in seconds. Raises ``ValueError`` with the rule."""
    if re.fullmatch(DURATION, text) is None:
        raise ValueError("a duration is wanted, such as 30s, 5m, 1h30m or 2d")
    total = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if total > _LONGEST:
        raise ValueError("a duration is wanted, such as 30s, 5m, 1h30m or 2d: 100000d at most")
    return total


def size(text: str) -> int:
    """Bytes: ``10M`` and ``10MiB`` are 10 * 1024 * 1024, ``10MB`` is 10,000,000. Raises ``ValueError``."""
    match = _SIZE_PARTS.fullmatch(text.strip())
    if match is None:
        raise ValueError("a size is wanted, such as 500K, 10M or 1.5G")
    number, unit, end = match.groups()
    base = 1000 if unit and end.upper() == "B" else 1024
    value = float(number) * base ** _POWERS[unit.upper()]
    if value > _LARGEST:
        raise ValueError("a size is wanted, such as 500K, 10M or 1.5G: 8000P at most")
    return int(value)


def share(text: str) -> float:
    """``5%`` as 5.0. Raises ``ValueError``."""
    if re.fullmatch(SHARE, text) is None or not 0 < float(text[:-1]) <= 100:
        raise ValueError("a share is wanted, from 0.1% to 100%")
    return float(text[:-1])


def span(text: str) -> Span:
    """A length of time on the calendar: ``36h``, ``14d``, ``1y5m7d2h``; ``w`` is 7 days. Raises ``ValueError``."""
    from holdfast.vaults.retention import Span

    parts = re.findall(r"([0-9]+)([ymwdh])", text)
    if re.fullmatch(SPAN, text) is None or len({unit for _, unit in parts}) < len(parts):
        raise ValueError("a span of time is wanted, such as 36h, 14d, 2w, 6m or 1y5m7d2h")
    counts = dict.fromkeys("ymwdh", 0) | {unit: int(number) for number, unit in parts}
    return Span(counts["y"], counts["m"], counts["d"] + 7 * counts["w"], counts["h"])


def sample(text: str) -> Sample:
    """How much of a snapshot a drill restores: a share, ``5%``, or a size, ``20G``. Raises ``ValueError``."""
    from holdfast.vaults.drill.model import Sample

    try:
        found = Sample(percent=share(text)) if text.endswith("%") else Sample(size=size(text))
    except ValueError:
        found = Sample(size=0)
    if found.size == 0:
        raise ValueError("a share or a size is wanted, such as 5% or 20G")
    return found


def subset(text: str) -> Subset:
    """Which packs a check reads: ``all``, ``5%`` or ``3/10``. Raises ``ValueError``."""
    from holdfast.vaults.base import Subset

    if text == "all":
        return Subset()
    if text.endswith("%"):
        return Subset(percent=share(text))
    part = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", text)
    if part is None or not 1 <= int(part[1]) <= int(part[2]) <= 256:
        raise ValueError("a part of the data is wanted: all, 5% or 3/10 (at most of 256)")
    return Subset(part=(int(part[1]), int(part[2])))


def check_schedule(text: str) -> None:
    """Raise ``ValueError`` unless ``text`` is a cron expression: five fields, or a word such as ``@daily``."""
    if text in _SHORTHANDS:
        return
    fields = text.split()
    if text.startswith("@") or len(fields) != len(_FIELDS):
        raise ValueError(
            "a schedule is wanted: minute, hour, day, month and weekday as for cron, such as '10 2 * * *', or @daily"
        )
    for field, (name, lowest, highest, names) in zip(fields, _FIELDS, strict=True):
        for item in field.split(","):
            _check_item(item, name, lowest, highest, names)


def _check_item(item: str, name: str, lowest: int, highest: int, names: tuple[str, ...]) -> None:
    wrong = ValueError(f"in the schedule, {item!r} is no {name} ({lowest} to {highest})")
    values, slash, step = item.partition("/")
    if slash and not (step.isascii() and step.isdigit() and int(step) > 0):
        raise wrong
    if values == "*" or (values == "L" and name == "day of the month" and not slash):
        return
    ends = []
    for end in values.split("-"):
        if end.lower() in names:
            ends.append(names.index(end.lower()) + (1 if names is _MONTHS else 0))
        elif end.isascii() and end.isdigit() and lowest <= int(end) <= highest:
            ends.append(int(end))
        else:
            raise wrong
    if len(ends) > 2 or ends != sorted(ends) or (slash and len(ends) == 1):
        raise wrong
