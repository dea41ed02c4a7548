"""What a source of streamed entries is: something whose content comes out of a pipe instead of a file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.values import dataclass

ROOT = b".holdfast"
"""The first part of the place of every streamed entry. A backup refuses paths that would stand there too."""

PLACE = (ROOT, b"databases")
"""The folder in the snapshot's tree, from its root, below which streamed entries stand."""


class StreamEntry(NamedTuple):
    """One file to be: its place below ``PLACE`` (kind, name, ...), and what its source needs to know of it."""

    place: tuple[bytes, ...]
    item: str = ""


class Stream(Protocol):
    """Content on its way: read ``fd`` to its end, then call ``finish``."""

    @property
    def fd(self) -> int:
        """A file descriptor to be read to its end."""
        ...

    def finish(self) -> None:
        """Call it at the end of the content. Raises ``HoldfastError`` where that was not all, or not right."""
        ...


class Source(Protocol):
    """A database server, or a program, whose output is saved.

    ``place`` (below ``PLACE``) is where its entries stand: the same in every run, since it is recorded among the
    snapshot's paths. A source is handed to forked workers; it may keep no connection.
    """

    @property
    def place(self) -> tuple[bytes, ...]: ...

    def entries(self, cancel: Cancel) -> Sequence[StreamEntry]:
        """What there is to save now. Raises ``HoldfastError`` where that cannot be told."""
        ...

    def open(self, entry: StreamEntry, cancel: Cancel) -> AbstractContextManager[Stream]:
        """Begin to produce one entry. Leaving the context ends whatever still runs. Raises ``HoldfastError``."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """Where a dump is now. ``made``: the database did not exist before. ``kept`` is what the former one is called."""

    database: str
    made: bool
    kept: str = ""


def as_path(place: tuple[bytes, ...]) -> bytes:
    """Where a place is in the snapshot, as a path with a leading slash."""
    return b"/" + b"/".join((*PLACE, *place))


def as_name(text: str) -> bytes:
    """A name for a file, from any text: ``/``, NUL, ``%`` and the names ``.`` and ``..`` are written as ``%XX``."""
    escaped = "".join(f"%{ord(letter):02X}" if letter in "/\0%" else letter for letter in text)
    return (escaped.replace(".", "%2E") if escaped in (".", "..") else escaped).encode("utf-8", "surrogateescape")
