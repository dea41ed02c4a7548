"""Patterns of one ignore file, indexed: which of them is the last to match a name in a given directory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from holdfast.files.patterns import Part, Pattern, parse, split_lines

Find = Callable[[bytes], int]
"""From a name to the code of the last pattern that matches: twice its line, plus one if it excludes; 0 for none."""

_MOST_VIEWS = 4096
"""How many directory states one layer remembers before it starts afresh (one is a few hundred bytes)."""


class _Step(NamedTuple):
    """One part of an anchored pattern, at its place in ``Layer.steps``; the next part stands right behind it."""

    part: Part
    code: int
    dirs_only: bool
    last: bool


class Layer:
    """One ignore file, compiled. Get it from :func:`layer_of`; ``start`` is the view of its own directory."""

    __slots__ = ("_views", "dirs", "files", "keeps_dirs", "patterns", "start", "steps", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        lines = split_lines(text)
        self.patterns: dict[int, Pattern] = {
            number: pattern for number, line in enumerate(lines, 1) if (pattern := parse(line, number))
        }
        free = [pattern for pattern in self.patterns.values() if not pattern.anchored]
        self.dirs = make_find((path[0], _code(pattern)) for pattern in free for path in pattern.paths)
        self.files = make_find(
            (path[0], _code(pattern)) for pattern in free if not pattern.dirs_only for path in pattern.paths
        )
        self.keeps_dirs = any(not pattern.excludes for pattern in self.patterns.values())
        self.steps: list[_Step] = []
        first: list[int] = []
        for pattern in self.patterns.values():
            for path in pattern.paths if pattern.anchored else ():
                first.append(len(self.steps))
                for at, part in enumerate(path, 1):
                    self.steps.append(_Step(part, _code(pattern), pattern.dirs_only, at == len(path)))
        self._views: dict[tuple[int, ...], View] = {}
        self.start = self.view(self.closure(first))

    def closure(self, positions: Iterable[int]) -> tuple[int, ...]:
        """``positions`` and those behind every ``**`` among them, which may stand for no directory at all."""
        reached: set[int] = set()
        for position in positions:
            reached.add(position)
            while self.steps[position].part.kind == "globstar" and not self.steps[position].last:
                position += 1
                reached.add(position)
        return tuple(sorted(reached))

    def view(self, state: tuple[int, ...]) -> View:
        """The view of a directory in which the steps ``state`` come next."""
        found = self._views.get(state)
        if found is None:
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            found = self._views[state] = View(self, state)
        return found


class View:
    """A layer as it looks from one directory; shared by all directories in which the same steps come next.

    ``files(name)`` and ``dirs(name)`` are :data:`Find` functions for what lies in that directory.
    """

    __slots__ = ("_elsewhere", "_literal", "_stay", "_wild", "dirs", "files", "layer", "state")

    def __init__(self, layer: Layer, state: tuple[int, ...]) -> None:
        self.layer = layer
        self.state = state
        here = [layer.steps[position] for position in state]
        self.files = _either(layer.files, [(s.part, s.code) for s in here if s.last and not s.dirs_only])
        self.dirs = _either(layer.dirs, [(s.part, s.code) for s in here if s.last])
        self._stay: list[int] = []
        self._literal: dict[bytes, list[int]] = {}
        self._wild: list[tuple[Find, int]] = []
        for position, step in zip(state, here, strict=True):
            if step.part.kind == "globstar":
                self._stay.append(position)
            elif not step.last and step.part.kind == "literal":
                self._literal.setdefault(step.part.value, []).append(position + 1)
            elif not step.last:
                self._wild.append((make_find([(step.part, 1)]), position + 1))
        self._elsewhere: View | None = None if state else self

    def enter(self, name: bytes) -> View:
        """The view of the directory ``name`` inside this one."""
        advanced = self._literal.get(name)
        if self._wild:
            advanced = (advanced or []) + [position for find, position in self._wild if find(name)]
        if advanced:
            return self.layer.view(self.layer.closure(self._stay + advanced))
        if self._elsewhere is None:
            self._elsewhere = self.layer.view(self.layer.closure(self._stay))
        return self._elsewhere


@lru_cache(maxsize=512)
def layer_of(text: bytes) -> Layer:
    """The compiled ignore file ``text``. Trees repeat the same file again and again, and so do unpickled scopes."""
    return Layer(text)


def make_find(rules: Iterable[tuple[Part, int]]) -> Find:
    """A function that finds the highest code among the ``rules`` whose part matches a name.

    Literals and plain ``*.ext`` cost one dictionary lookup each however many they are; of the rest, the first and last
    byte and at most two calls into C tell that none matches, which is the usual answer.
    """
    literals: dict[bytes, int] = {}
    extensions: dict[bytes, int] = {}
    least = 0
    slow: list[tuple[int, Part]] = []
    for part, code in sorted(rules, key=lambda rule: rule[1]):
        if part.kind == "literal":
            literals[part.value] = code
        elif part.kind == "suffix" and part.value.startswith(b".") and part.value.count(b".") == 1:
            extensions[part.value] = code
        elif part.kind in ("any", "globstar"):
            least = code
        else:
            slow.append((code, part))
    literal, extension = literals.get, extensions.get
    if not slow and not extensions and not least:
        return lambda name: literal(name, 0)
    if not slow:
        return lambda name: max(literal(name, 0), extension(name[name.rfind(b".") :], 0), least)

    tests = tuple((code, re.compile(_expression(part)).match) for code, part in reversed(slow))
    heads, tails, inner = _guards([part for _, part in slow])
    first_bytes = frozenset(head[:1] for head in heads)
    last_bytes = frozenset(tail[-1:] for tail in tails)

    def find(name: bytes) -> int:
        best = literal(name, least)
        if best < least:
            best = least
        code = extension(name[name.rfind(b".") :], 0)
        if code > best:
            best = code
        if (
            (name[:1] in first_bytes and name.startswith(heads))
            or (name[-1:] in last_bytes and name.endswith(tails))
            or (inner and inner(name))
        ):
            for code, test in tests:
                if code <= best:
                    break
                if test(name):
                    return code
        return best

    return find


def _guards(
    parts: Iterable[Part],
) -> tuple[tuple[bytes, ...], tuple[bytes, ...], Callable[[bytes], object] | None]:
    """What at least one holds of every name that one of ``parts`` matches: a beginning, an end, a search that hits."""
    heads, tails, inner = set(), set(), set()
    for part in parts:
        if part.kind == "prefix" or part.head:
            heads.add(part.head or part.value)
        elif part.kind == "suffix" or part.tail:
            tails.add(part.tail or part.value)
        else:
            inner.add(re.escape(part.inner) or b"\\A" + part.value)
    return tuple(heads), tuple(tails), re.compile(b"|".join(sorted(inner))).search if inner else None


def _expression(part: Part) -> bytes:
    if part.kind == "suffix":
        return b"(?s:.*)" + re.escape(part.value) + b"\\Z"
    if part.kind == "prefix":
        return re.escape(part.value)
    return part.value


def _either(base: Find, local: list[tuple[Part, int]]) -> Find:
    """``base`` joined by rules that count in one directory only."""
    if not local:
        return base
    here = make_find(local)
    return lambda name: max(base(name), here(name))


def _code(pattern: Pattern) -> int:
    return pattern.line * 2 + pattern.excludes
