"""Pure: the words in which people are told of a notice."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.monitor.notice import SECOND, Notice, Step
from holdfast.monitor.rules import duration_text, local_text

_BEGINS = {
    "repeated": "Still: ",
    "worse": "Worse: ",
    "escalated": "Nobody took care: ",
    "resolved": "Over: ",
}


def title_of(step: Step) -> str:
    """One line."""
    return _BEGINS.get(step.action, "") + step.notice.title


def sentence_of(step: Step) -> str:
    """The message of the fact that a step leaves."""
    words = {"raised": "Notice", "closed": "Closed", "resolved": "Over"}.get(step.action, "Told again")
    whom = ", ".join(tell.channel for tell in step.tells)
    return f"{words}: {step.notice.title}" + (f" (to {whom})" if whom else "")


def body_of(step: Step, host: str, offset: Callable[[int], int]) -> str:
    """Several lines: what happened, since when, how often, where, and what to do about the notice itself."""
    notice = step.notice
    if step.action == "resolved":
        lasted = duration_text(((notice.resolved_ns or notice.opened_ns) - notice.opened_ns) / SECOND)
        over = f"It lasted {lasted}, from {local_text(notice.opened_ns, offset)}. On {host}."
        return f"{over}\nIt was: {notice.message.splitlines()[0]}" if notice.message else over
    if notice.rule == "digest":
        return notice.message
    lines = [notice.message] if notice.message else []
    since = f"Since {local_text(notice.opened_ns, offset)}"
    lines.append(f"{since}, {notice.times} times." if notice.times > 1 else f"{since}.")
    lines.append(_foot(notice, host))
    return "\n".join(lines)


def _foot(notice: Notice, host: str) -> str:
    where = f"On {host}, notice {notice.id}"
    if notice.state == "event":
        return f"{where}."
    return f"{where}; 'holdfast ack {notice.id[:6]}' says that you know."
