"""Pure: whether a run that says that it worked did as much as those before it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.monitor.record import Record

COMPARED = 5
"""So many good runs before it a run is compared with."""
_ENOUGH = 5
_FAST = 0.05
"""A twentieth of the usual time is no better day: caches make a backup up to ten times faster, not twenty."""
_SLOW_SECONDS = 10.0
_FEWER = 0.5


def numbers(past: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The figures ``name`` of the last runs, the newest first."""
    found = [run.get(name) for run in past[:COMPARED]]
    return [value for value in found if isinstance(value, (int, float)) and not isinstance(value, bool)]


def baseline(past: Sequence[Mapping[str, Any]], name: str) -> float:
    """What is usual: the last value or the median of the last five, whichever is larger; 0 without any.

    The last alone would make the second of two small snapshots look right again.
    """
    values = numbers(past, name)
    return max(values[0], statistics.median(values)) if values else 0.0


def suspicion(record: Record, past: Sequence[Mapping[str, Any]]) -> str:
    """Why the good run ``record`` may have done nothing, as a sentence; empty if nothing speaks for it.

    A backup: no files at all, or done in a twentieth of the usual time with less than half the files. A command of
    which only the time is known: a twentieth of it, where five runs before took ten seconds and more.
    """
    seconds = record.data.get("seconds")
    fast = _is_fast(seconds, past)
    if record.operation == "run":
        if fast:
            return f"It took {seconds:.1f} s; usually it takes {statistics.median(numbers(past, 'seconds')):.0f} s."
        return ""
    files = record.data.get("total_files")
    if not isinstance(files, int):
        return ""
    if files == 0 and not record.data.get("databases"):
        return "It says that it worked, but it holds no file at all. Are the disks mounted?"
    usual = baseline(past, "total_files")
    if fast and files < usual * _FEWER:
        return f"It took {seconds:.1f} s for {files:,} files; usually there are {usual:,.0f}."
    return ""


def _is_fast(seconds: object, past: Sequence[Mapping[str, Any]]) -> bool:
    before = numbers(past, "seconds")
    if not isinstance(seconds, (int, float)) or len(before) < _ENOUGH:
        return False
    usual = statistics.median(before)
    return usual >= _SLOW_SECONDS and seconds < usual * _FAST
