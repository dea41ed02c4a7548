"""What the system tells of a process by its number: whether it runs, and when it began."""

from __future__ import annotations

import os


def is_running(pid: int) -> bool:
    """Whether there is such a process; one of somebody else counts."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def process_started(pid: int) -> int:
    """When a process began, in clock ticks since the system did (proc(5), field 22 of ``stat``); 0 where unknown."""
    text = read_text(f"/proc/{pid}/stat")
    fields = text[text.rfind(")") + 2 :].split()
    try:
        return int(fields[19])
    except (IndexError, ValueError):
        return 0


def read_text(path: str) -> str:
    """What one of the system's small files says, without space around it; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
