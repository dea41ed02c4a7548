"""Small files copied by threads, many in one call each, while whoever asked for them goes on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple

from holdfast.files.small import File, copy_small, has_extension
from holdfast.format.accelerated import hashes_here
from holdfast.kernel.threads import Workers

Result = tuple[bytes, int] | None
"""SHA-256 and inode of a file that was copied; None: it takes more than one call."""

MOST_WAITING = 64
"""Batches that may wait, each with two open directories."""


class _Batch(NamedTuple):
    source: int
    target: int
    files: list[File]
    done: Callable[[list[Result]], None]


class Batches:
    """The batches of one run. Use it in a ``with``: no thread is left behind it."""

    def __init__(self, owner: bool | None = None) -> None:
        """``owner``: as for ``to_copy``."""
        self.usable = has_extension() and hashes_here()
        self._workers: Workers[_Batch, tuple[_Batch, list[Result]]] = Workers(
            lambda: lambda batch: (batch, copy_small(batch.source, batch.target, batch.files, owner))
        )
        self._open: set[int] = set()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.close()
        for fd in self._open:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._open.clear()

    def submit(self, source: int, target: int, files: list[File], done: Callable[[list[Result]], None]) -> None:
        """Copy ``files`` between two open directories, which are closed for the caller. ``done`` is called later, in
        this thread and before the directories are closed."""
        self._open |= {source, target}
        self._workers.submit(_Batch(source, target, files, done))
        self.take(wait=self._workers.waiting >= MOST_WAITING)

    def take(self, *, wait: bool = False) -> None:
        """Tell of what is done; with ``wait``, of at least one batch. Raises what those who are told raise."""
        for batch, results in self._workers.take(wait=wait):
            try:
                batch.done(results)
            finally:
                for fd in (batch.source, batch.target):
                    os.close(fd)
                    self._open.discard(fd)

    def drain(self) -> None:
        """Return when all is done and told."""
        while self._workers.waiting:
            self.take(wait=True)
