"""How much there is to save in all, counted by a process of its own while the backup runs: for the progress display."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from holdfast.kernel.pool import Pool
from holdfast.sources.directory import Lister, walk
from holdfast.vaults.archive.backup.roots import Target

_SUMS = struct.Struct("<QQQ")  # files, bytes, 1 once all is counted


class Estimate:
    """Counts files and bytes below the targets until it is closed. Make it before any thread: it forks."""

    def __init__(self, targets: Sequence[Target], lister: Lister) -> None:
        self._sums = mmap.mmap(-1, _SUMS.size)
        sums = self._sums

        def start() -> Callable[[None], Iterator[None]]:
            def count(_task: None) -> Iterator[None]:
                os.nice(5)
                if lister.scan is not None:
                    lister.scan.only_look()  # the backup itself finds the same
                _count(targets, lister, sums)
                yield None

            return count

        self._pool: Pool[None, None] = Pool(start, 1)
        self._pool.submit(None)
        self._pool.begin()

    def __enter__(self) -> Estimate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close(at_once=True)

    def totals(self) -> tuple[int, int] | None:
        """(files, bytes), or None while it is still counting."""
        files, size, done = _SUMS.unpack(self._sums[:])
        return (files, size) if done else None


def _count(targets: Sequence[Target], lister: Lister, sums: mmap.mmap) -> None:
    files = size = 0
    for target in targets:
        with contextlib.suppress(OSError):
            st = os.lstat(target.path)
            if stat.S_ISREG(st.st_mode):
                files, size = files + 1, size + st.st_size
    for _, _, listing in walk(lister, [target.path for target in targets]):
        for item in listing.items:
            if stat.S_ISREG(item.stat.st_mode):
                files, size = files + 1, size + item.stat.st_size
    sums[:] = _SUMS.pack(files, size, 1)
