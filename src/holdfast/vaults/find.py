"""``find``: search snapshots by name, type, size and time, reading every unchanged folder once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Invalid, NotFound
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.items import Browsable, Item, Mark


@dataclass(frozen=True, slots=True)
class Criteria:
    """What is looked for: any of ``patterns``, and everything else that is set. Empty fields match everything.

    ``patterns``: ``*`` and ``?`` match within a name, ``[a-z]`` and ``[!a-z]`` one character, ``**`` any number of
    folders, a backslash takes the next character as it is. Without a slash they are matched against the name alone;
    with one, against the path: from the root if they begin with the slash, else from any folder on. ``kinds``:
    ``Entry.kind`` values. ``larger`` and ``smaller``: at least, at most so many bytes, files only. ``newer`` and
    ``older``: modified at or after, at or before (nanoseconds since 1970 UTC).
    """

    patterns: tuple[bytes, ...] = ()
    ignore_case: bool = False
    kinds: frozenset[str] = frozenset()
    larger: int | None = None
    smaller: int | None = None
    newer: int | None = None
    older: int | None = None

    def compile(self) -> Callable[[Item], bool]:
        """A function that tells whether an item is meant. Raises ``Invalid`` for a pattern that can match nothing."""
        flags = re.DOTALL | (re.IGNORECASE if self.ignore_case else re.NOFLAG)
        names = _name_matcher([pattern for pattern in self.patterns if b"/" not in pattern], flags)
        paths = [_path_parts(pattern, flags) for pattern in self.patterns if b"/" in pattern]
        sized = self.larger is not None or self.smaller is not None
        least = 0 if self.larger is None else self.larger

        def matches(item: Item) -> bool:
            if self.patterns and not (
                (names is not None and names.fullmatch(os.fsdecode(item.name)))
                or (paths and _any_path_fits(paths, os.fsdecode(item.path)))
            ):
                return False
            if self.kinds and item.kind not in self.kinds:
                return False
            if sized and (
                item.kind != "file" or item.size < least or (self.smaller is not None and item.size > self.smaller)
            ):
                return False
            if self.newer is not None and item.mtime_ns < self.newer:
                return False
            return self.older is None or item.mtime_ns <= self.older

        return matches


def find(
    vault: Browsable,
    snapshots: Iterable[SnapshotInfo],
    criteria: Criteria,
    *,
    path: bytes = b"",
    cancel: Cancel | None = None,
) -> Iterator[tuple[SnapshotInfo, list[Item]]]:
    """The matches in each of ``snapshots``, in their order: depth first, in byte order of names; may be empty.

    ``path`` limits the search to what is beneath it (and itself); snapshots without it have no matches. A folder that
    an earlier snapshot held at the same place with the same content is not read again, its matches are reported again.
    Raises ``Invalid`` for a bad pattern and ``Cancelled``. Memory: all matches, and some 250 bytes a folder.
    """
    search = _Search(vault, criteria.compile(), cancel)
    for snapshot in snapshots:
        yield snapshot, search.run(snapshot, path)


class _Search:
    """Searches snapshot after snapshot and remembers what each folder gave."""

    def __init__(self, vault: Browsable, matches: Callable[[Item], bool], cancel: Cancel | None) -> None:
        self._vault = vault
        self._matches = matches
        self._cancel = cancel
        # (folder's mark, its path) -> where its matches are: a slice of an earlier snapshot's list.
        self._seen: dict[tuple[Mark, bytes], tuple[list[Item], int, int]] = {}

    def run(self, snapshot: SnapshotInfo, path: bytes) -> list[Item]:
        found: list[Item] = []
        try:
            top = self._vault.find(snapshot, path)
        except NotFound:
            return found
        if top.name and self._matches(top):
            found.append(top)
        self._beneath(top, found)
        return found

    def _beneath(self, top: Item, found: list[Item]) -> None:
        matches, seen = self._matches, self._seen
        pending = [self._enter(top, found)]
        while pending:
            items, key, start = pending[-1]
            item = next(items, None)
            if item is None:
                pending.pop()
                if key is not None:
                    seen[key] = (found, start, len(found))
                continue
            if matches(item):
                found.append(item)
            if item.kind == "dir":
                pending.append(self._enter(item, found))

    def _enter(self, folder: Item, found: list[Item]) -> tuple[Iterator[Item], tuple[Mark, bytes] | None, int]:
        if self._cancel is not None:
            self._cancel.check()
        key = None if folder.mark is None else (folder.mark, folder.path)
        known = None if key is None else self._seen.get(key)
        if known is not None:
            earlier, start, end = known
            found.extend(earlier[start:end])
            return iter(()), None, 0
        return iter(self._vault.children(folder)), key, len(found)


_TOKEN = re.compile(r"(?P<star>\*+)|\?|\[(?P<not>[!^]?)(?P<set>[^\]][^\]]*|\][^\]]*)\]|\\(?P<literal>.)|.", re.DOTALL)
_Parts = tuple[re.Pattern[str] | None, ...]
"""The components of a path pattern; None stands for any number of folders."""


def _name_matcher(patterns: Iterable[bytes], flags: int) -> re.Pattern[str] | None:
    sources = [f"(?:{_component(os.fsdecode(pattern))})" for pattern in patterns]
    return re.compile("|".join(sources), flags) if sources else None


def _component(pattern: str) -> str:
    """The regular expression for one whole name.

    Stars take as little as they can and never give it back (but for the last one), so that no pattern is slow: a plain
    translation needs hours for ``a*a*a*a*a*a*b`` and a long name of that letter.
    """
    fixed = [""]
    for token in _TOKEN.finditer(pattern):
        if token["star"]:
            fixed.append("")
        elif token[0] == "?":
            fixed[-1] += "."
        elif token["set"] is not None:
            fixed[-1] += _set(token["set"], bool(token["not"]), pattern)
        else:
            fixed[-1] += re.escape(token["literal"] or token[0])
    if len(fixed) == 1:
        return fixed[0]
    return fixed[0] + "".join(f"(?>.*?{part})" for part in fixed[1:-1]) + ".*" + fixed[-1]


def _set(members: str, negated: bool, pattern: str) -> str:
    escaped = "".join("\\" + member if member in "\\[]&~|^" else member for member in members)
    source = f"[{'^' if negated else ''}{escaped}]"
    try:
        re.compile(source)
    except re.error:
        raise Invalid(
            f"the pattern {pattern!r} has a range in [ ] that is the wrong way round",
            hint="Write the lower end first, as in [a-z].",
            pattern=pattern,
        ) from None
    return source


def _path_parts(pattern: bytes, flags: int) -> _Parts:
    text = os.fsdecode(pattern)
    components = [part for part in text.split("/") if part]
    if not text.startswith("/"):
        components.insert(0, "**")
    if components[-1:] == ["**"]:
        components.append("*")  # everything beneath, not the folder itself
    return tuple(None if part == "**" else re.compile(_component(part), flags) for part in components)


def _any_path_fits(paths: list[_Parts], path: str) -> bool:
    names = path[1:].split("/")
    return any(_path_fits(parts, names) for parts in paths)


def _path_fits(parts: _Parts, names: list[str]) -> bool:
    """Whether the components of a path fit; only the last ``**`` before a mismatch needs to be tried again."""
    at = name = retry_name = 0
    retry = -1
    while name < len(names):
        part = parts[at] if at < len(parts) else ...
        if part is None:
            retry, retry_name = at, name
            at += 1
        elif part is not ... and part.fullmatch(names[name]):
            at, name = at + 1, name + 1
        elif retry >= 0:
            retry_name += 1
            at, name = retry + 1, retry_name
        else:
            return False
    return at == len(parts)
