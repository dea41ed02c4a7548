"""Holds: tags that keep a snapshot from being forgotten, so that they survive whichever tool rewrites the snapshot.

``hold`` holds until it is released; with ``hold-until:2027-01-31`` beside it, through the end of that day
(docs/decisions/0013-hold.md).
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

HOLD = "hold"
UNTIL = "hold-until:"
FOREVER = "until it is released"


def is_hold(tag: str) -> bool:
    """Whether ``tag`` is one of those that make a hold."""
    return tag == HOLD or tag.startswith(UNTIL)


def hold_of(tags: Sequence[str], today: str) -> str | None:
    """What holds a snapshot with these ``tags``: a date (ISO text), :data:`FOREVER`, or None where nothing does.

    ``today`` is the date as ISO text; a hold ends when the day after its date begins. Of several dates the last counts.
    What is not a date holds until it is released: whoever wrote it meant to keep something.
    """
    marks = [tag for tag in tags if is_hold(tag)]
    if not marks:
        return None
    dates = [mark.removeprefix(UNTIL) for mark in marks if mark != HOLD]
    if not dates or not all(map(_is_date, dates)):
        return FOREVER
    last = max(dates)
    return last if last >= today else None


def in_words(hold: str) -> str:
    """What :func:`hold_of` found, said of a snapshot."""
    return f"held {hold}" if hold == FOREVER else f"held until {hold}"


def with_hold(tags: Sequence[str], until: str | None) -> tuple[str, ...]:
    """``tags`` with a hold in place of any earlier one; ``until`` is an ISO date or None for until it is released."""
    return (*without_hold(tags), HOLD, *([UNTIL + until] if until is not None else []))


def without_hold(tags: Sequence[str]) -> tuple[str, ...]:
    """``tags`` without any hold."""
    return tuple(tag for tag in tags if not is_hold(tag))


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
