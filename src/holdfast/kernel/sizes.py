"""How many bytes something has, for people."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(count: float) -> str:
    """``count`` bytes in binary units: ``812 B``, ``1.2 KiB``, ``34.0 MiB``, ``1,023.9 EiB``."""
    if abs(count) < 1024:
        return f"{count:.0f} B"
    power = 0
    # 1023.95 would be shown as 1,024.0.
    while abs(count) >= 1023.95 and power < len(_UNITS):
        count /= 1024
        power += 1
    return f"{count:,.1f} {_UNITS[power - 1]}"
