"""The mark of a vault of plain files: one hidden folder with a small JSON file that says what kind of vault it is."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from dataclasses import field
from typing import Any

from holdfast.kernel.errors import Corrupt, Unsupported
from holdfast.kernel.values import dataclass

FOLDER = b".holdfast"
"""The hidden folder in a vault of plain files: everything in it is Holdfast's, everything beside it the user's."""

NAME = b"vault.json"
VERSION = 1
_LONGEST = 1 << 16
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class Marker:
    """What a vault says of itself. ``kind`` is ``mirror`` or another kind of plain files; ``id`` 32 random bytes.

    ``settings`` are the kind's own choices, made when the vault was made (JSON-ready).
    """

    kind: str
    id: bytes
    settings: dict[str, Any] = field(default_factory=dict)


def read_marker(root: bytes) -> Marker | None:
    """The mark of the vault in the folder ``root``; None where there is none.

    Raises ``Corrupt`` for one that makes no sense, ``Unsupported`` for one of a later version.
    """
    path = os.path.join(root, FOLDER, NAME)
    try:
        with open(path, "rb") as file:
            text = file.read(_LONGEST)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    shown = os.fsdecode(path)
    try:
        fields = json.loads(text)
        kind, version, identifier = fields["kind"], fields["version"], bytes.fromhex(fields["id"])
        settings = fields.get("settings", {})
        if not (isinstance(kind, str) and isinstance(version, int) and isinstance(settings, dict)):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Corrupt(
            f"{shown} does not tell what kind of vault this is",
            hint="Its files can be used as they are. Put the marker back from another copy, or make a new vault.",
            path=shown,
        ) from None
    if version > VERSION:
        raise Unsupported(
            f"the vault at {os.fsdecode(root)} was made by a later version of Holdfast", hint="Install that version."
        )
    return Marker(kind, identifier, settings)


def write_marker(root: bytes, marker: Marker) -> None:
    """Make ``root`` a vault: the hidden folder (0700), and in it the mark, durable when this returns.

    Raises ``OSError``; ``FileExistsError`` where there is a mark already. After a crash there is a mark or none.
    """
    folder = os.path.join(root, FOLDER)
    os.makedirs(root, 0o700, exist_ok=True)
    if not os.path.isdir(folder):
        os.mkdir(folder, 0o700)
    fields = {"kind": marker.kind, "version": VERSION, "id": marker.id.hex(), "settings": marker.settings}
    temporary = os.path.join(folder, NAME + b".new")
    with open(temporary, "wb") as file:
        file.write(json.dumps(fields, indent=2).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, os.path.join(folder, NAME))
    except OSError as error:
        if error.errno == errno.EEXIST or os.path.lexists(os.path.join(folder, NAME)):
            os.unlink(temporary)
            raise
        os.rename(temporary, os.path.join(folder, NAME))  # no hard links here
    else:
        os.unlink(temporary)
    for place in (folder, root):
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def folders_around(own: bytes) -> frozenset[tuple[int, int]]:
    """Device and inode of the vault's folder and of all around it."""
    found: set[tuple[int, int]] = set()
    place = os.path.realpath(own)
    while True:
        with suppress(OSError):
            st = os.stat(place)
            found.add((st.st_dev, st.st_ino))
        if place == os.path.dirname(place):
            return frozenset(found)
        place = os.path.dirname(place)
