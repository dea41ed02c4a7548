"""Uses a place at no more than so many bytes a second and so many calls at once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import Unavailable
from holdfast.storage.base import Info, Storage
from holdfast.storage.manner import Manner
from holdfast.storage.retrying import Pause, sleep

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

SMALLEST_PIECE = 128 << 10
"""Slow downloads are read in pieces of half a second, but of no less than this: each costs a round trip."""

_BATCH = 1000  # files listed in one turn


class Limited:
    """Passes calls on to ``inner``, at most ``manner.connections`` at once, each when the bytes before are paid for.

    On average no more than ``manner.upload`` and ``manner.download`` bytes a second pass, over all threads together. A
    file goes up in one piece at full speed and the pause follows it; what comes down is spread evenly. What the
    protocols add to the bytes of files is not counted.
    """

    def __init__(self, inner: Storage, manner: Manner, *, pause: Pause = sleep, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        connections = manner.connections or inner.traits.connections
        self._inner = inner
        self._turn = threading.BoundedSemaphore(connections)
        self._up = None if manner.upload is None else _Meter(manner.upload, pause, clock)
        self._down = None if manner.download is None else _Meter(manner.download, pause, clock)
        self.location = inner.location
        # Two, even if only one may be made at once: by this callers know a place that every call waits for.
        self.traits = replace(inner.traits, connections=max(connections, min(inner.traits.connections, 2)))

    def prepare(self, folders: Sequence[str]) -> None:
        with self._turn:
            self._inner.prepare(folders)

    def list(self, folder: str) -> Iterator[Info]:
        # A turn is taken for each batch: whoever reads the list may want to make other calls meanwhile.
        with self._turn:
            listing = self._inner.list(folder)
        while True:
            with self._turn:
                batch = list(islice(listing, _BATCH))
            yield from batch
            if len(batch) < _BATCH:
                return

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        meter = self._down
        if meter is None:
            with self._turn:
                return self._inner.read(name, offset, length)
        if length is None or length <= meter.piece:
            meter.wait()
            with self._turn:
                data = self._inner.read(name, offset, length)
            meter.take(len(data))
            return data
        pieces = (
            self.read(name, at, min(meter.piece, offset + length - at))
            for at in range(offset, offset + length, meter.piece)
        )
        return b"".join(pieces)

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        meter = self._down
        if meter is None:
            with self._turn:
                return self._inner.read_into(name, buffer, offset)
        view, done = memoryview(buffer).cast("B"), 0
        while True:
            piece = view[done : done + meter.piece]
            meter.wait()
            with self._turn:
                count = self._inner.read_into(name, piece, offset + done)
            meter.take(count)
            done += count
            if count < len(piece) or done == len(view):
                return done

    def size(self, name: str) -> int:
        with self._turn:
            return self._inner.size(name)

    def write(self, name: str, data: ReadableBuffer) -> None:
        with self._uploading(memoryview(data).nbytes), self._turn:
            self._inner.write(name, data)

    def staging(self) -> str | None:
        return self._inner.staging()

    def adopt(self, path: str, name: str) -> None:
        size = 0
        with contextlib.suppress(OSError):  # the place itself tells what is wrong with the file
            size = os.lstat(path).st_size
        with self._uploading(size), self._turn:
            self._inner.adopt(path, name)

    def replace(self, name: str, data: ReadableBuffer) -> None:
        with self._uploading(memoryview(data).nbytes), self._turn:
            self._inner.replace(name, data)

    def delete(self, name: str) -> None:
        with self._turn:
            self._inner.delete(name)

    def close(self) -> None:
        self._inner.close()

    @contextlib.contextmanager
    def _uploading(self, size: int) -> Iterator[None]:
        if self._up is None:
            yield
            return
        self._up.wait()
        self._up.take(size)
        yield


class _Meter:
    """Bytes a second, for all threads together: who comes waits until everything before is paid for."""

    def __init__(self, rate: int, pause: Pause, clock: Clock) -> None:
        self.piece = max(rate // 2, SMALLEST_PIECE)
        self._rate = rate
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._paid_at = 0.0

    def wait(self) -> None:
        """Return when nothing is owed. Raises ``Unavailable`` when nobody waits for this call any more."""
        while (left := self._paid_at - self._clock.monotonic()) > 0:
            if self._pause(left):
                raise Unavailable("stopped while waiting under the limit of bytes a second")

    def take(self, size: int) -> None:
        """Owe so many bytes."""
        with self._lock:
            self._paid_at = max(self._paid_at, self._clock.monotonic()) + size / self._rate
