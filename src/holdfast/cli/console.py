"""Where a command's words go: people's lines, JSON lines, progress, warnings and problems, each to its stream."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from holdfast.cli import text
from holdfast.cli.errors import Failure
from holdfast.kernel.events import Event, Fact, Tick

if TYPE_CHECKING:
    from holdfast.cli.options import Common
    from holdfast.cli.progress import Progress

SHOWN_PROBLEMS = 20
JSON_TICK_SECONDS = 0.2

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}
_MARKS = {
    "item.new": ("new", "green"),
    "item.changed": ("changed", "yellow"),
    "item.removed": ("removed", "red"),
    "item.unchanged": ("unchanged", "dim"),
}


class Console:
    """One command's output. People read standard output and, for what is not the answer, standard error."""

    def __init__(self, common: Common) -> None:
        self.json = common.json
        self.quiet = common.quiet
        self.verbose = self.lists_items = common.verbose
        self._colour_allowed = not (common.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb")
        self._progress = self._make_progress()
        self._warned: set[str] = set()
        self._next_tick = 0.0
        self.saw_damage = False

    def _make_progress(self) -> Progress | None:
        if self.json or self.quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return None
        from holdfast.cli.progress import Progress

        return Progress(sys.stderr)

    @property
    def is_watched(self) -> bool:
        """Whether somebody follows the progress, on a terminal or as JSON."""
        return self._progress is not None or (self.json and not self.quiet)

    def paint(self, words: str, colour: str, *, stderr: bool = False) -> str:
        """``words`` in a colour where the stream is a terminal and colours are wanted."""
        stream = sys.stderr if stderr else sys.stdout
        if not self._colour_allowed or not stream.isatty():
            return words
        return f"\x1b[{_COLOURS[colour]}m{words}\x1b[0m"

    def line(self, words: str = "") -> None:
        """One line of the answer. Silent with ``--json``, where events carry the answer."""
        if not self.json:
            self.clear()
            sys.stdout.write(words + "\n")

    def remark(self, words: str) -> None:
        """One line that is good to know, but not the answer; silent with ``--quiet`` and ``--json``."""
        if not self.quiet and not self.json:
            self._tell(words)

    def warn(self, words: str) -> None:
        """A warning, told once."""
        if words in self._warned:
            return
        self._warned.add(words)
        if self.json:
            self.event("warning", message=clean(words))
            sys.stdout.flush()  # such as "waiting for the storage": nothing else may follow for long
        else:
            self._tell(self.paint("warning: ", "yellow", stderr=True) + text.lines(words))

    def event(self, kind: str, /, **fields: Any) -> None:
        """One JSON line ``{"event": kind, ...}``; nothing without ``--json``."""
        if self.json:
            sys.stdout.write(json.dumps({"event": kind, **fields}, ensure_ascii=False, separators=(",", ":")) + "\n")

    def emit(self, event: Event) -> None:
        """What engines call. Never raises: work does not fail because nobody can read about it."""
        try:
            if isinstance(event, Tick):
                self._tick(event)
            else:
                self._fact(event)
        except (OSError, ValueError):
            self._progress = None

    def problems(self, found: Iterable[tuple[bytes, str, str]]) -> None:
        """The list at the end: (path, message, during). The first 20, and how many more; with ``--json`` all."""
        everything = list(found)
        for path, message, during in everything if self.json else ():
            self.event("problem", **path_fields(path), message=clean(message), during=during)
        if self.json or not everything:
            return
        self._tell(self.paint(f"{text.plural(len(everything), 'problem')}:", "red", stderr=True))
        for path, message, _ in everything[:SHOWN_PROBLEMS]:
            shown = text.name(path)
            words = text.lines(message)
            self._tell(f"  {words}" if shown in words else f"  {shown}: {words}")
        if len(everything) > SHOWN_PROBLEMS:
            self._tell(f"  ... and {len(everything) - SHOWN_PROBLEMS:,} more (--json lists all of them)")

    def fail(self, failure: Failure) -> None:
        """Tell an error: a sentence and a hint on standard error; with ``--json`` also an event, not a summary."""
        if not failure.message:
            return
        if self.json:
            context = {key: clean_value(value) for key, value in (failure.context or {}).items()}
            # Standard output may be what failed: then standard error still tells.
            with contextlib.suppress(OSError):
                self.event(
                    "error",
                    code=failure.code,
                    message=clean(failure.message),
                    hint=clean(failure.hint),
                    exit_code=failure.exit_code,
                    context=context,
                )
        self._tell(self.paint("holdfast: ", "red", stderr=True) + text.lines(failure.message))
        if failure.hint:
            self._tell(f"  hint: {text.lines(failure.hint)}")

    def clear(self) -> None:
        """Take the progress line away."""
        if self._progress is not None:
            self._progress.clear()

    def _tell(self, words: str) -> None:
        self.clear()
        sys.stderr.write(words + "\n")
        sys.stderr.flush()

    def _tick(self, tick: Tick) -> None:
        if self._progress is not None:
            self._progress.show(tick)
        elif self.json:
            now = time.monotonic()
            if now >= self._next_tick:
                self._next_tick = now + JSON_TICK_SECONDS
                self.event(
                    "tick",
                    phase=tick.phase,
                    items_done=tick.items_done,
                    items_total=tick.items_total,
                    bytes_done=tick.bytes_done,
                    bytes_total=tick.bytes_total,
                    errors=tick.errors,
                    current=clean(tick.current),
                )
                sys.stdout.flush()

    def _fact(self, fact: Fact) -> None:
        self.saw_damage = self.saw_damage or fact.kind == "damage.found"
        if self.json:
            data = facts_data(fact.data)
            self.event("fact", kind=fact.kind, level=fact.level, message=clean(fact.message), data=data)
        elif fact.kind in _MARKS or fact.kind == "item.excluded":
            if self.lists_items and not self.quiet:
                word, colour = _MARKS.get(fact.kind, ("excluded", "dim"))
                self.line(f"{self.paint(f'{word:<9}', colour)} {_item(fact)}")
        elif fact.level in ("warning", "error") and not fact.kind.startswith("item."):
            self.warn(_with_path(fact))
        elif self.verbose and not fact.kind.startswith("item."):
            self.remark(text.lines(fact.message))


def _item(fact: Fact) -> str:
    path = fact.data.get("path", b"")
    shown = text.name(path if isinstance(path, (bytes, str)) else str(path))
    why = fact.data.get("why", "")
    return f"{shown}  ({text.name(str(why))})" if why else shown


def _with_path(fact: Fact) -> str:
    """The message, begun with the path that it is about, unless it says so itself."""
    path = fact.data.get("path")
    shown = text.name(path) if isinstance(path, (bytes, str)) else ""
    return fact.message if not shown or shown in fact.message else f"{shown}: {fact.message}"


def clean(value: str) -> str:
    """``value`` as JSON can carry it: what is no Unicode text becomes U+FFFD."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return value


def path_fields(path: bytes | str, key: str = "path") -> dict[str, str]:
    """A path for JSON, without loss: ``path`` as text, and ``path_base64``, the true bytes, if they are not UTF-8."""
    raw = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
    try:
        return {key: raw.decode()}
    except UnicodeDecodeError:
        return {key: raw.decode("utf-8", "replace"), f"{key}_base64": base64.b64encode(raw).decode()}


def clean_value(value: Any) -> Any:
    """``value`` with everything in it that JSON cannot carry turned into text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): clean_value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [clean_value(inner) for inner in value]
    return str(value)


def facts_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """A fact's details for JSON; a path keeps its exact bytes."""
    fields: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, bytes) or (key == "path" and isinstance(value, str)):
            fields.update(path_fields(value, key))
        else:
            fields[key] = clean_value(value)
    return fields
