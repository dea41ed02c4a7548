"""``ls``: what a snapshot holds, one folder or everything beneath it."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from holdfast.files.entry import Entry
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.items import Browsable, Item, walk

_TYPE_LETTERS = {"irregular": "?", "stream": "-"}


def list_items(
    vault: Browsable, snapshot: SnapshotInfo, path: bytes = b"", *, recursive: bool = False
) -> Iterator[Item]:
    """What is in the folder ``path`` of ``snapshot`` (the root by default), in byte order of names.

    One level, or with ``recursive`` everything beneath, depth first. A path that is no folder yields itself. Raises
    ``NotFound`` for a path that is not there, at the first item. Memory: the folders from the root down to where it is.
    """
    top = vault.find(snapshot, path)
    if top.kind != "dir":
        yield top
    elif recursive:
        yield from walk(vault, top)
    else:
        yield from vault.children(top)


def mode_text(entry: Entry) -> str:
    """Type and permissions as ``ls -l`` shows them: ten characters such as ``drwxr-xr-x`` or ``-rwsr-xr-x``."""
    text = stat.filemode(entry.st_mode)
    return _TYPE_LETTERS.get(entry.kind, text[0]) + text[1:]


def owner_text(entry: Entry) -> tuple[str, str]:
    """Owner and group: the recorded names, or the numbers where none were recorded."""
    return entry.user or str(entry.st_uid), entry.group or str(entry.st_gid)
