"""Walks the folders of a local storage: its finished files, and what interrupted writes left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

from holdfast.storage.base import TEMPORARY, Info, is_name

RESERVED = frozenset({"lost+found"})
"""Folders at the top that belong to the file system and that only root may read."""


def finished(root: str, folder: str) -> Iterator[Info]:
    """Every finished file beneath ``folder``, which may be missing; ``root`` ends with a slash. Raises ``OSError``.

    One folder is read to its end before its files are handed out, so that the caller may delete while walking. Linked
    folders are followed (people move ``data`` to another disk), unless they lead back up.
    """
    pending = [f"{folder}/" if folder else ""]
    while pending:
        prefix = pending.pop()
        files: list[Info] = []
        for entry in _entries(root, prefix):
            name = prefix + entry.name
            if entry.is_file():
                if is_name(name):
                    try:
                        files.append(Info(name, entry.stat().st_size))
                    except FileNotFoundError:  # deleted since the folder was read
                        continue
            elif entry.is_dir() and name not in RESERVED and not _leads_up(entry):
                pending.append(name + "/")
        yield from files


def leftovers(root: str, before_ns: int) -> Iterator[str]:
    """Full paths of temporary files last changed before that instant (nanoseconds since 1970)."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        for entry in _entries(root, prefix):
            if entry.is_dir(follow_symlinks=False):
                if prefix + entry.name not in RESERVED:
                    pending.append(f"{prefix}{entry.name}/")
            elif TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                try:
                    changed_ns = entry.stat(follow_symlinks=False).st_mtime_ns
                except FileNotFoundError:
                    continue
                if changed_ns < before_ns:
                    yield entry.path


def _entries(root: str, prefix: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root + prefix) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        if not prefix:
            raise
        return []


def _leads_up(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return False
    here = os.path.realpath(os.path.dirname(entry.path)) + "/"
    return here.startswith(os.path.realpath(entry.path).rstrip("/") + "/")
