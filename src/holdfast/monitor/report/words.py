"""How a report writes sizes, lengths of time and instants."""

from __future__ import annotations

import time

from holdfast.kernel.sizes import size as size


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``4:05 min``, ``2:03 h``, ``3 days``: as exact as a person needs it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    if minutes < 48 * 60:
        return f"{minutes // 60}:{minutes % 60:02} h"
    days = minutes / 1440
    return f"{days:.1f} days" if days < 10 else f"{days:,.0f} days"


def plural(count: int, one: str, many: str = "") -> str:
    """``1 file``, ``5,815 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def moment(at_ns: int, offset: int) -> str:
    """``2026-11-22 04:15`` where clocks show ``offset`` seconds more than UTC."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at_ns // 10**9 + offset))
    except (OverflowError, ValueError, OSError):
        return "(no valid time)"


def day(at_ns: int, offset: int) -> str:
    """``Sun 22 Nov``, in English whatever the locale."""
    moment = time.gmtime(at_ns // 10**9 + offset)
    weekday = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[moment.tm_wday]
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return f"{weekday} {moment.tm_mday} {months[moment.tm_mon - 1]}"


def signed_share(now: float, before: float) -> str:
    """How ``now`` compares with ``before``: ``+12 %``, ``as before``, ``3.4 times``; empty where that means nothing."""
    if before <= 0 or now < 0:
        return ""
    ratio = now / before
    if 0.95 <= ratio <= 1.05:
        return "as before"
    return f"{ratio:,.1f} times" if ratio >= 3 else f"{(ratio - 1) * 100:+.0f} %"


MOST_CHARACTERS = 400


def safe(text: str) -> str:
    """``text`` from outside, such that no character of it acts on a terminal or turns the writing around: what is not
    printable becomes ``\\x1b``, ``\\u202e``; lines become one; at most 400 characters."""
    text = " ".join(text.split()) if not text.isprintable() else text
    if len(text) > MOST_CHARACTERS:
        text = text[: MOST_CHARACTERS - 1] + "…"
    return text if text.isprintable() else "".join(c if c.isprintable() else _shown(ord(c)) for c in text)


def _shown(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
