"""A small file that says whether notices need anybody's attention, so that a command can end without looking."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from holdfast.app.status import read, write
from holdfast.kernel.values import dataclass

NAME = "attention.json"


@dataclass(frozen=True, slots=True)
class Attention:
    """``due_ns``: when to look again though nothing happens (0: now; None: never). ``open``: how many notices are open.
    ``channels``: how many the configuration has whose ``mark`` this is. ``told_ns``: when people were told, without the
    journal, that it cannot be used (0: never)."""

    due_ns: int | None = 0
    open: int = 0
    channels: int = 1
    mark: str = ""
    told_ns: int = 0


def load(folder: Path) -> Attention:
    """What the file in the status folder says; what is missing or damaged asks for attention."""
    found = read(folder / NAME)
    try:
        due = found["due_ns"]
        return Attention(
            None if due is None else int(due),
            int(found["open"]),
            int(found["channels"]),
            str(found["mark"]),
            int(found["told_ns"]),
        )
    except (KeyError, TypeError, ValueError):
        return Attention()


def save(folder: Path, attention: Attention) -> None:
    """Replace the file. Raises ``OSError``."""
    write(folder / NAME, asdict(attention))


def mark_of(path: Path) -> str:
    """What changes when the configuration at ``path`` is changed."""
    try:
        status = os.stat(path)
    except OSError:
        return str(path)
    return f"{path}:{status.st_size}:{status.st_mtime_ns}"


def remember(folder: Path, mark: str, due_ns: int | None, open_count: int, channels: int) -> None:
    """Leave word for the next command. A state folder that cannot be written costs it time, and nothing else."""
    with suppress(OSError):
        save(folder, replace(load(folder), due_ns=due_ns, open=open_count, channels=channels, mark=mark))
