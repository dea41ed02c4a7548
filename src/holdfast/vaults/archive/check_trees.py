"""Directories as a check sees them: workers parse each tree blob once into a few numbers,
the parent walks the numbers.
"""

from __future__ import annotations

from array import array
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import lt
from typing import Any, NamedTuple

import orjson

from holdfast.format.gostring import unquote_name
from holdfast.format.node import node_from_json
from holdfast.format.time import parse_time
from holdfast.format.tree import check_tree, decode_tree
from holdfast.kernel.errors import Corrupt
from holdfast.vaults.archive.check_index import Catalogue

_TYPES = frozenset(("file", "dir", "symlink", "socket", "chardev", "dev", "fifo"))
_NUMBERS = ("mode", "uid", "gid", "inode", "device_id", "size", "links", "device")
_TEXTS = ("user", "group", "error")
_RARE = frozenset(("generic_attributes", "linktarget_raw"))
_ODD_CHARACTERS = '/\\"\n'
_SHOWN = 5


class Problem(NamedTuple):
    """What is wrong inside one tree (its id and number). ``names`` are the nodes concerned; none: the directory as a
    whole. ``lost``: it cannot be read at all."""

    tree: bytes
    number: int
    kind: str
    message: str
    names: tuple[bytes, ...] = ()
    lost: bool = False


@dataclass(slots=True)
class Parsed:
    """The trees of one part of a pack: for each its number, its files, how many subtrees; all subtrees in one row.

    ``missing`` holds, by tree, the ids of blobs that the tree needs and no index knows, back to back.
    """

    numbers: array[int] = field(default_factory=lambda: array("I"))
    files: array[int] = field(default_factory=lambda: array("I"))
    degrees: array[int] = field(default_factory=lambda: array("I"))
    children: array[int] = field(default_factory=lambda: array("I"))
    problems: list[Problem] = field(default_factory=list)
    missing: dict[int, bytes] = field(default_factory=dict)


class TreeParser:
    """Checks trees one by one and collects what the walk needs."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._number_of = catalogue.index.number
        self._plain_sizes = catalogue.plain_sizes
        self._is_tree = catalogue.is_tree
        self._parsed = Parsed()

    def take(self) -> Parsed:
        """What was collected since the last call."""
        parsed, self._parsed = self._parsed, Parsed()
        return parsed

    def add(self, identifier: bytes, plain: bytes) -> None:
        """Check one tree whose bytes are known to be what its id says."""
        number, parsed = self._number_of(identifier), self._parsed
        try:
            nodes = orjson.loads(plain).get("nodes") or []
            if not _is_plain(nodes):
                problems = check_tree(decode_tree(plain))
                if problems:
                    more = f" and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
                    text = "; ".join(problems[:_SHOWN]) + more
                    parsed.problems.append(Problem(identifier, number, "tree.invalid", text))
                nodes = [node for node in nodes if node.get("type") in _TYPES]
        except (orjson.JSONDecodeError, Corrupt, AttributeError, KeyError, TypeError) as error:
            why = error.message if isinstance(error, Corrupt) else "it is not the JSON of a tree"
            parsed.problems.append(Problem(identifier, number, "tree.invalid", why, lost=True))
            return
        self._collect(identifier, number, nodes)

    def _collect(self, tree: bytes, number: int, nodes: list[dict[str, Any]]) -> None:
        parsed = self._parsed
        files = [node for node in nodes if node["type"] == "file"]
        missing, wrong = self._check_files(files)
        if wrong:
            parsed.problems.append(_size_problem(tree, number, wrong))
        degree = 0
        for node in nodes:
            if node["type"] == "dir" and (subtree := node.get("subtree")) is not None:
                identifier = unhexlify(subtree)
                child = self._catalogue.number(identifier, tree=True)
                if child < 0:
                    missing.append(identifier)
                else:
                    parsed.children.append(child)
                    degree += 1
        parsed.numbers.append(number)
        parsed.files.append(len(files))
        parsed.degrees.append(degree)
        if missing:
            parsed.missing[number] = b"".join(dict.fromkeys(missing))

    def _check_files(self, files: list[dict[str, Any]]) -> tuple[list[bytes], list[_WrongSize]]:
        """The ids of blobs that are in no index, and the files whose blobs have together another size than they."""
        number_of, plain_sizes, is_tree = self._number_of, self._plain_sizes, self._is_tree
        missing: list[bytes] = []
        wrong: list[_WrongSize] = []
        for node in files:
            total = 0
            whole = True
            for text in node.get("content") or ():
                identifier = unhexlify(text)
                blob = number_of(identifier)
                if blob >= 0 and (not is_tree[blob] or self._catalogue.number(identifier, tree=False) >= 0):
                    total += plain_sizes[blob]
                else:
                    missing.append(identifier)
                    whole = False
            size = node.get("size") or 0
            if total != size and whole:
                wrong.append(_WrongSize(unquote_name(node["name"]), size, total))
        return missing, wrong


class _WrongSize(NamedTuple):
    name: bytes
    claimed: int
    found: int


def _size_problem(tree: bytes, number: int, wrong: list[_WrongSize]) -> Problem:
    shown = "; ".join(
        f"file {name.decode('utf-8', 'backslashreplace')!r} claims {claimed:,} bytes, its blobs have {found:,}"
        for name, claimed, found in wrong[:_SHOWN]
    )
    more = f" and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
    return Problem(tree, number, "file.size", shown + more, tuple(name for name, _, _ in wrong))


def _is_plain(nodes: list[dict[str, Any]]) -> bool:
    """Whether all nodes are sound, found out column by column (a fifth of the time of decoding each node).

    False means nothing but that the thorough way must decide. Names are compared as text: the order of code points is
    the order of UTF-8's bytes. Raises ``KeyError`` and ``TypeError`` for what can be no tree.
    """
    names = [node["name"] for node in nodes]
    joined = "\0".join(names)
    if joined.count("\0") != max(len(names) - 1, 0) or any(character in joined for character in _ODD_CHARACTERS):
        return False
    if not {"", ".", ".."}.isdisjoint(names) or not all(map(lt, names, names[1:])):
        return False
    kinds = {node["type"] for node in nodes}
    if not kinds <= _TYPES or not _are_content_and_subtrees(nodes):
        return False
    for key in _NUMBERS:
        column = {node.get(key, 0) for node in nodes}
        if column and (set(map(type, column)) != {int} or min(column) < 0):
            return False
    texts = {text for key in _TEXTS for node in nodes if (text := node.get(key)) is not None}
    if not set(map(type, texts)) <= {str}:
        return False
    try:
        times = {node["mtime"] for node in nodes}
        times.update([node["ctime"] for node in nodes])
        times.update([node["atime"] for node in nodes])
        for time in times:
            parse_time(time)
        for node in nodes:
            if "extended_attributes" in node or "linktarget" in node or not _RARE.isdisjoint(node):
                node_from_json(node)
    except (Corrupt, KeyError):
        return False
    return True


def _are_content_and_subtrees(nodes: list[dict[str, Any]]) -> bool:
    """Every file has a list of ids (maybe empty), every directory the id of a tree."""
    contents = [node["content"] for node in nodes if node["type"] == "file"]
    if not set(map(type, contents)) <= {list}:
        return False
    ids = list(chain.from_iterable(contents))
    ids += [node["subtree"] for node in nodes if node["type"] == "dir"]
    if not set(map(len, ids)) <= {64}:
        return False
    try:
        unhexlify("".join(ids))
    except ValueError:
        return False
    return True


class Forest:
    """All trees that could be read, as numbers; and the walk that finds out which of them snapshots need."""

    def __init__(self, blobs: int) -> None:
        self._slots = array("I", bytes(4 * blobs))  # by number: position in the tables below plus one; 0: not read
        self._files = array("I")
        self._starts = array("Q", (0,))
        self._children = array("I")
        self._problems: dict[int, list[Problem]] = {}
        self._missing: dict[int, bytes] = {}

    def add(self, parsed: Parsed) -> None:
        """Take over what a worker has parsed. A tree that is stored twice counts once."""
        slots, starts, children = self._slots, self._starts, self._children
        for problem in parsed.problems:
            known = self._problems.setdefault(problem.number, [])
            if problem not in known:
                known.append(problem)
        self._missing.update(parsed.missing)
        at = 0
        for number, files, degree in zip(parsed.numbers, parsed.files, parsed.degrees, strict=True):
            if not slots[number]:
                self._files.append(files)
                slots[number] = len(self._files)
                children.extend(parsed.children[at : at + degree])
                starts.append(len(children))
            at += degree

    def walk(self, roots: Iterable[int]) -> Reached:
        """Everything that these trees lead to, each tree once."""
        reached = Reached()
        seen = bytearray(len(self._slots))
        slots, starts, children = self._slots, self._starts, self._children
        pending = array("I", roots)
        while pending:
            number = pending.pop()
            if seen[number]:
                continue
            seen[number] = 1
            reached.trees += 1
            slot = slots[number]
            if slot:
                reached.files += self._files[slot - 1]
                pending.extend(children[starts[slot - 1] : starts[slot]])
            if number in self._problems:
                reached.problems += self._problems[number]
            if number in self._missing:
                reached.missing.update(split_ids(self._missing[number]))
        return reached


@dataclass(slots=True)
class Reached:
    """What the walk came by: distinct trees, files in them, what is wrong there, and blobs that are in no index."""

    trees: int = 0
    files: int = 0
    problems: list[Problem] = field(default_factory=list)
    missing: set[bytes] = field(default_factory=set)


def split_ids(joined: bytes | Sequence[int]) -> Iterator[bytes]:
    """The ids of 32 bytes that lie back to back."""
    return (bytes(joined[at : at + 32]) for at in range(0, len(joined), 32))
