"""From the paths a user names to the top of a snapshot's tree, laid out as restic lays it out.

An absolute path stands in the snapshot with every directory above it, a relative one only with the parts that were
given (``./a/../b`` is ``b``; leading ``..`` are dropped). A lone ``.`` or ``/`` is the root itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from holdfast.files.rules import Scope


class Target(NamedTuple):
    """One path to save: where it is in the snapshot, and where it is on this machine (absolute).

    ``around`` is the scope of the directory around it, where that was listed too.
    """

    parts: tuple[bytes, ...]
    path: bytes
    around: Scope | None = None


Top = dict[bytes, "Top | Target"]
"""A directory above the targets: name to deeper directory or target."""


def absolute(path: bytes, cwd: bytes) -> bytes:
    """The absolute, cleaned form of a path; links are not resolved."""
    return os.path.normpath(os.path.join(cwd, path)).replace(b"//", b"/")


def find_targets(paths: Sequence[bytes], cwd: bytes, *, whole: bool = False) -> list[Target]:
    """The targets for these paths: duplicates, and what lies inside another target, once.

    With ``whole``, relative paths are laid out as absolute ones too.
    """
    targets = {absolute(path, cwd): _parts(path) for path in paths}
    outermost = {path: parts for path, parts in targets.items() if not any(above in targets for above in _above(path))}
    layouts = list(outermost.values())
    clash = any(
        first[: len(second)] == second for i, first in enumerate(layouts) for j, second in enumerate(layouts) if i != j
    )
    if clash or whole:  # "." beside others, or "x" beside "../x": only whole paths tell them apart
        return [Target(_parts(path), path) for path in outermost]
    return [Target(parts, path) for path, parts in outermost.items()]


def arrange(targets: Sequence[Target]) -> Top:
    """The directories above the targets as a tree. A target without parts (the root itself) is not for this."""
    top: Top = {}
    for target in targets:
        level = top
        for part in target.parts[:-1]:
            deeper = level.setdefault(part, {})
            assert isinstance(deeper, dict)  # find_targets leaves no target inside another
            level = deeper
        level[target.parts[-1]] = target
    return top


def _parts(path: bytes) -> tuple[bytes, ...]:
    cleaned = os.path.normpath(path) if path else b"."
    parts = [part for part in cleaned.split(b"/") if part not in (b"", b".")]
    while parts and parts[0] == b"..":
        del parts[0]
    return tuple(parts)


def _above(path: bytes) -> Iterator[bytes]:
    while path != b"/":
        path = os.path.dirname(path)
        yield path
