"""What a command is expected to have done beside ending well: printed something, written files, taken its time."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Sequence

from holdfast.kernel.errors import Invalid
from holdfast.kernel.values import dataclass
from holdfast.runners.output import Search

_COARSE_NS = 2_000_000_000  # FAT has times in steps of two seconds; others are finer
Form = tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class Promises:
    """``output``: a regular expression that a line has to match; "" for any output; None for no matter. ``files`` have
    to be made or changed, and not to be empty. ``least`` and ``most`` are in seconds."""

    output: str | None = None
    files: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None

    def pattern(self) -> re.Pattern[bytes] | None:
        """What to look for in the output. Raises ``Invalid`` where it is no regular expression."""
        if not self.output:
            return None
        try:
            return re.compile(os.fsencode(self.output))
        except re.error as error:
            raise Invalid(
                f"{self.output!r} is not a regular expression: {error}", hint="'[', '(' and '.' need a \\ before them."
            ) from error


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that was not kept."""

    expected: str
    actual: str

    def __str__(self) -> str:
        return f"{self.actual} (expected: {self.expected})"


def forms(files: Sequence[str], cwd: str | None, sleep: Callable[[float], object]) -> dict[str, Form]:
    """How the files are now, before the command.

    One that was changed a moment ago could be changed again within the same tick of a coarse clock, and look untouched:
    then this waits, for two seconds at most, until a change will show.
    """
    found = {file: _form(os.path.join(cwd or "", file)) for file in files}
    now = time.time_ns()
    youngest = max((form[3] for form in found.values() if form is not None), default=0)
    if 0 <= now - youngest < _COARSE_NS:
        sleep((_COARSE_NS - (now - youngest)) / 1e9)
    return found


def broken(
    promises: Promises, search: Search | None, blank: bool, before: dict[str, Form], cwd: str | None, seconds: float
) -> list[Broken]:
    """The promises that a command broke which ended well."""
    found = []
    if promises.output is not None and blank:
        found.append(Broken("some output", "it printed nothing"))
    elif search is not None and not search.end():
        found.append(Broken(f"a line that matches {promises.output}", "no line of its output matches"))
    for file, form in before.items():
        after = _form(os.path.join(cwd or "", file))
        if after is None:
            found.append(Broken("the file is written", f"{file} is not there"))
        elif after == form:
            found.append(Broken("the file is written", f"{file} was not changed"))
        elif after[1] == 0:
            found.append(Broken("the file is written", f"{file} is empty"))
    if promises.least is not None and seconds < promises.least:
        found.append(Broken(f"at least {promises.least:g} s", f"it took only {seconds:.1f} s"))
    return found


def _form(path: str) -> Form:
    try:
        status = os.stat(path)
    except OSError:
        return None
    size = status.st_size if stat.S_ISREG(status.st_mode) else 1
    return status.st_ino, size, status.st_mtime_ns, max(status.st_ctime_ns, status.st_mtime_ns)
