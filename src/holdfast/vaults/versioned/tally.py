"""What a backup counts and tells, item by item."""

from __future__ import annotations

import os
import stat

from holdfast.kernel.events import Emit, Tick
from holdfast.vaults.base import BackupSummary
from holdfast.vaults.versioned.journal import Tell


class Tally:
    """Fills a summary. ``every``: single items are told of, also those that did not change with ``verbose``."""

    def __init__(self, summary: BackupSummary, tell: Tell, emit: Emit, *, verbose: bool, every: bool) -> None:
        self.summary = summary
        self.tell = tell
        self.copied = 0
        self._emit = emit
        self.verbose = verbose
        self._every = every or verbose

    @property
    def trouble(self) -> int:
        """A number that grows with every problem and warning."""
        return len(self.summary.problems) + len(self.summary.warnings)

    def count(self, mode: int, size: int, how: str) -> None:
        """One item is ``new``, ``changed`` or ``unmodified``."""
        summary = self.summary
        if stat.S_ISREG(mode):
            setattr(summary, f"files_{how}", getattr(summary, f"files_{how}") + 1)
            summary.total_bytes += size
        elif stat.S_ISDIR(mode):
            setattr(summary, f"dirs_{how}", getattr(summary, f"dirs_{how}") + 1)

    def change(self, kind: str, path: bytes, why: str = "") -> None:
        """Tell of an item that is ``new``, ``changed`` or ``removed``."""
        if self._every:
            self.tell(kind, path, why)

    def unchanged(self, path: bytes) -> None:
        """Tell of a file that is as it was."""
        if self.verbose:
            self.tell("unchanged", path, "")

    def tick(self, path: bytes) -> None:
        """A folder is done."""
        summary = self.summary
        files = summary.files_new + summary.files_changed + summary.files_unmodified
        current, errors = os.fsdecode(path), len(summary.problems)
        self._emit(Tick("backup", files, summary.total_bytes, current=current, errors=errors))
