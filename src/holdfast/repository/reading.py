"""Reading from a place as it suits the place: one after the other from a disk; over a network several files at a time,
and of large ones what probably comes next as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.threads import map_in_threads
from holdfast.kernel.values import dataclass
from holdfast.storage.base import Info, Storage

_BATCH_BYTES = 32 << 20  # held in memory while several are read at once
_BATCH_FILES = 1024

Listed = tuple[bytes, Info]
"""A file as ``layout.listing`` tells it: the hash in its name, its name and size."""


@runtime_checkable
class Copies(Protocol):
    """What a storage may offer beside its promise: copies of some of its files on local disk."""

    def keep(self, names: Iterable[str]) -> None:
        """These files are worth a copy: a whole one is made when a part is first read, and when they are written."""
        ...

    def copy_of(self, name: str) -> bytes | None:
        """The whole content of a file if there is a copy, without asking the place; else None."""
        ...

    def spool(self) -> str | None:
        """A private local folder to prepare files in that are to be written, or None. What is left there for a day is
        removed."""
        ...


def read_files(storage: Storage, files: Iterable[Listed]) -> Iterator[tuple[Listed, bytes | HoldfastError]]:
    """Each of ``files`` with its whole content, or with what reading it raised; in any order.

    Where calls wait for a network (``traits.connections``) that many are made at once, in threads that have ended
    whenever this yields; at most 32 MiB, or one file, are then held in memory.
    """
    at_once = storage.traits.connections
    if at_once <= 1:
        for listed in files:
            yield listed, _read(storage, listed)
        return
    copies = storage if isinstance(storage, Copies) else None
    batch: list[Listed] = []
    size = 0
    for listed in files:
        if copies is not None and (copy := copies.copy_of(listed[1].name)) is not None:
            yield listed, copy
            continue
        if batch and (size + listed[1].size > _BATCH_BYTES or len(batch) == _BATCH_FILES):
            yield from _read_together(storage, batch, at_once)
            batch, size = [], 0
        batch.append(listed)
        size += listed[1].size
    yield from _read_together(storage, batch, at_once)


class Ahead:
    """Parts of large files, each read when it is asked for; while somebody reads a file on and on, in growing strides.

    For one thread. Holds at most 32 MiB, or a few parts that are larger. Over a network a part costs a round trip
    whatever its size, and neighbours in a pack are neighbours in a folder.
    """

    _FIRST_STRIDE = 1 << 20
    _LONGEST_STRIDE = 8 << 20
    _SKIPPED = 256 << 10  # a next part that begins so far on still counts as reading on
    _FILES = 4

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._held: dict[str, _Held] = {}  # the one that was used last comes last

    def read(self, name: str, offset: int, length: int) -> bytes:
        """What ``Storage.read`` gives."""
        held = self._held.pop(name, None)
        if held is None or not held.begin <= offset <= offset + length <= held.begin + len(held.data):
            stride = 0
            if held is not None and 0 <= offset - held.used <= self._SKIPPED:
                stride = min(max(held.stride * 2, self._FIRST_STRIDE), self._LONGEST_STRIDE)
            data = memoryview(bytearray(max(length, stride)))
            count = self._storage.read_into(name, data, offset)
            if count < length:
                return self._storage.read(name, offset, length)  # says what is wrong
            held = _Held(offset, data[:count], stride)
        held.used = offset + length
        self._held[name] = held
        if len(self._held) > self._FILES:
            del self._held[next(iter(self._held))]
        return bytes(held.data[offset - held.begin :][:length])


@dataclass(slots=True)
class _Held:
    begin: int
    data: memoryview
    stride: int
    used: int = 0  # where the part ended that was asked for last


def _read_together(
    storage: Storage, batch: list[Listed], at_once: int
) -> Iterator[tuple[Listed, bytes | HoldfastError]]:
    return zip(batch, map_in_threads(lambda listed: _read(storage, listed), batch, at_once), strict=True)


def _read(storage: Storage, listed: Listed) -> bytes | HoldfastError:
    try:
        return storage.read(listed[1].name)
    except HoldfastError as error:
        return error
