"""Records what a script does to files (move, copy, delete, create) as JSON lines, one file a day."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.events import Fact
from holdfast.monitor.keeping import here, unless_broken
from holdfast.monitor.place import state_folder
from holdfast.monitor.traces import safe_text, sketch
from holdfast.monitor.trackfile import TrackFile, name_fields

Name = str | bytes | os.PathLike[str] | os.PathLike[bytes]

FIRST_NAMES = 10
"""Names of a batch that are kept; of the rest the 20th, the 40th, the 80th, and so on."""
KEEP_DAYS = 30


class FileTracker:
    """Keeps one line for every file operation that a script tells it about, in ``FOLDER/NAME-YYYY-MM-DD.jsonl``.

    ``folder`` is ``tracker`` in the state folder unless said otherwise; the date is that of UTC; files older than
    ``keep_days`` are removed when a new one is begun. It tells what was done and does nothing to the files itself: call
    it after the operation. Any number of processes and threads may share a name. No method raises anything, or takes
    longer than a second, whatever the disk does. Where nothing can be recorded, :attr:`trouble` says why; a warning on
    standard error and a fact say so once, and the script goes on.
    """

    def __init__(
        self, name: str, folder: Name | None = None, *, keep_days: int = KEEP_DAYS, clock: Clock | None = None
    ) -> None:
        self.name = safe_text(name, 100) or "script"
        self.trouble = ""
        self._counts: dict[str, int] = {}
        self._session = ""
        self._file: TrackFile | None = None

        def prepare() -> None:
            place = state_folder(os.environ) / "tracker" if folder is None else Path(os.fsdecode(folder))
            self._file = TrackFile(place, self.name, max(1, keep_days), clock or SystemClock())

        unless_broken(prepare)
        self._keep({"operation": "start"})

    @property
    def works(self) -> bool:
        """Whether everything could be recorded so far."""
        return not self.trouble

    def move(self, source: Name, target: Name, **more: object) -> None:
        """``source`` was moved, or renamed, to ``target``."""
        self._one("move", source, target, more)

    def copy(self, source: Name, target: Name, **more: object) -> None:
        """``source`` was copied to ``target``."""
        self._one("copy", source, target, more)

    def delete(self, path: Name, **more: object) -> None:
        """``path`` was deleted."""
        self._one("delete", path, None, more)

    def create(self, path: Name, **more: object) -> None:
        """``path`` was written, anew or over what was there."""
        self._one("create", path, None, more)

    def batch(self, operation: str, paths: Iterable[Name], **more: object) -> None:
        """One operation was done to many files: one line with their number, the first ten names, and samples.

        ``paths`` is gone through once. What it raises ends the line there, which then says so, and goes no further.
        """
        unless_broken(lambda: self._many(operation, paths, more))

    @contextmanager
    def session(self, title: str, **more: object) -> Iterator[FileTracker]:
        """What is recorded inside belongs together: lines ``begin`` and ``end`` around it, the latter with counts.

        Inside, use what this gives. An exception that leaves it is noted in ``end`` and goes on unchanged.
        """
        inner = object.__new__(type(self))
        inner.__dict__.update(self.__dict__, _counts={}, _session=os.urandom(6).hex())
        inner._keep({"operation": "begin", "title": safe_text(title, 200), **_more(more)})
        try:
            yield inner
        except BaseException as error:
            inner._keep({"operation": "end", "counts": inner._counts, "error": f"{type(error).__name__}"})
            raise
        else:
            inner._keep({"operation": "end", "counts": inner._counts})
        finally:
            self.trouble = self.trouble or inner.trouble

    def _one(self, operation: str, path: Name, target: Name | None, more: dict[str, object]) -> None:
        def record() -> None:
            line = {"operation": operation, **name_fields("path", path), **_more(more)}
            if target is not None:
                line.update(name_fields("target", target))
            self._counts[operation] = self._counts.get(operation, 0) + 1
            self._keep(line)

        unless_broken(record)

    def _many(self, operation: str, paths: Iterable[Name], more: dict[str, object]) -> None:
        names: list[dict[str, str]] = []
        samples: list[dict[str, object]] = []
        count, sampled, stopped = 0, 2 * FIRST_NAMES, ""
        try:
            for path in paths:
                count += 1
                if count <= FIRST_NAMES:
                    names.append(name_fields("path", path))
                elif count == sampled:
                    samples.append({"number": count, **name_fields("path", path)})
                    sampled *= 2
        except Exception as error:
            stopped = f"{type(error).__name__}: {safe_text(error, 200)}"
        line: dict[str, object] = {"operation": safe_text(operation, 40), "count": count, "names": names}
        if samples:
            line["samples"] = samples
        if stopped:
            line["stopped"] = stopped
        self._counts[safe_text(operation, 40)] = self._counts.get(safe_text(operation, 40), 0) + count
        self._keep({**line, **_more(more)})

    def _keep(self, line: dict[str, object]) -> None:
        def record() -> None:
            file = self._file
            why = here().write(lambda: file.append(line, self._session)) if file else "it was not set up rightly"
            if why and not self.trouble:
                self.trouble = why
                words = f"file operations of {self.name} are not recorded: {why}. The work goes on."
                here().tell(f"holdfast: warning: {words}")
                here().keep(self.name, lambda: Fact("error.recorded", words, "warning", {"name": self.name}))

        unless_broken(record)


def _more(more: dict[str, object]) -> dict[str, object]:
    return {key: sketch(value) for key, value in more.items()}
