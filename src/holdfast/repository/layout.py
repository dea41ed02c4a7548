"""Where the files of a repository lie in its storage (facts: restic's design document, section "Repository Layout")."""

from __future__ import annotations

import re
from collections.abc import Iterator

from holdfast.storage.base import Info, Storage

CONFIG = "config"
KEYS = "keys"
LOCKS = "locks"
SNAPSHOTS = "snapshots"
INDEX = "index"
DATA = "data"

FOLDERS = (KEYS, LOCKS, SNAPSHOTS, INDEX, DATA, *(f"{DATA}/{number:02x}" for number in range(256)))
"""What ``init`` makes: restic makes the 256 pack folders at once as well."""

_HEX_NAME = re.compile(r"[0-9a-f]{64}\Z")


def name_of(folder: str, identifier: bytes) -> str:
    """The storage name of the file of that id in that folder."""
    text = identifier.hex()
    return f"{DATA}/{text[:2]}/{text}" if folder == DATA else f"{folder}/{text}"


def listing(storage: Storage, folder: str) -> Iterator[tuple[bytes, Info]]:
    """All files of one kind as (id, info). Anything whose name is not 64 hex digits is somebody's unfinished write."""
    for info in storage.list(folder):
        base = info.name.rpartition("/")[2]
        if _HEX_NAME.match(base):
            yield bytes.fromhex(base), info
