"""Directories as a check sees them: workers parse each tree blob once into a few numbers,
the parent walks the numbers.
"""

from __future__ import annotations

from array import array
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from typing import NamedTuple

from holdfast.format.tree import check_tree, decode_tree
from holdfast.kernel.errors import Corrupt
from holdfast.kernel.values import dataclass
from holdfast.vaults.archive.canonical import Rows, rows
from holdfast.vaults.archive.check.index import Catalogue

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
        found = rows(plain)
        if found is not None:
            self._collect(identifier, _files_of_rows(found), [unhexlify(row[8]) for row in found if row[8]])
            return
        try:
            nodes = decode_tree(plain)
        except Corrupt as error:
            number = self._number_of(identifier)
            self._parsed.problems.append(Problem(identifier, number, "tree.invalid", error.message, lost=True))
            return
        files: list[_File] = [(node.name, node.size, node.content or ()) for node in nodes if node.type == "file"]
        subtrees = [node.subtree for node in nodes if node.type == "dir" and node.subtree is not None]
        number = self._collect(identifier, files, subtrees)
        if wrong := check_tree(nodes):
            text = "; ".join(wrong[:_SHOWN]) + _more(wrong)
            self._parsed.problems.append(Problem(identifier, number, "tree.invalid", text))

    def _collect(self, tree: bytes, files: Sequence[_File], subtrees: Sequence[bytes]) -> int:
        """Note what the tree holds and refers to; its number."""
        parsed, number_of, is_tree = self._parsed, self._number_of, self._is_tree
        number = number_of(tree)
        missing = self._check_files(tree, number, files)
        degree = 0
        for identifier in subtrees:
            child = number_of(identifier)
            if child >= 0 and not is_tree[child]:
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
        return number

    def _check_files(self, tree: bytes, number: int, files: Sequence[_File]) -> list[bytes]:
        """Compare the size of every file with that of its blobs together; the ids of blobs that are in no index."""
        number_of, plain_sizes, is_tree = self._number_of, self._plain_sizes, self._is_tree
        missing: list[bytes] = []
        wrong: list[_WrongSize] = []
        for name, size, content in files:
            total = 0
            whole = True
            for identifier in content:
                blob = number_of(identifier)
                if blob >= 0 and (not is_tree[blob] or self._catalogue.number(identifier, tree=False) >= 0):
                    total += plain_sizes[blob]
                else:
                    missing.append(identifier)
                    whole = False
            if total != size and whole:
                wrong.append(_WrongSize(name, size, total))
        if wrong:
            self._parsed.problems.append(_size_problem(tree, number, wrong))
        return missing


def _files_of_rows(found: Rows) -> list[_File]:
    """Name, size and content of the files. An id takes 64 digits, two quotes and a comma; one id is the usual case."""
    return [
        (
            row[1],
            int(row[6] or 0),
            (unhexlify(row[7][2:66]),)
            if len(row[7]) == 68
            else [unhexlify(row[7][at : at + 64]) for at in range(2, len(row[7]), 67)],
        )
        for row in found
        if row[2] == b"file"
    ]


_File = tuple[bytes, int, Sequence[bytes]]


class _WrongSize(NamedTuple):
    name: bytes
    claimed: int
    found: int


def _size_problem(tree: bytes, number: int, wrong: list[_WrongSize]) -> Problem:
    shown = "; ".join(
        f"file {name.decode('utf-8', 'backslashreplace')!r} claims {claimed:,} bytes, its blobs have {found:,}"
        for name, claimed, found in wrong[:_SHOWN]
    )
    return Problem(tree, number, "file.size", shown + _more(wrong), tuple(name for name, _, _ in wrong))


def _more(wrong: Sequence[object]) -> str:
    return f" and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""


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
