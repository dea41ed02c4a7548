"""How much there is to save in all, counted by a process of its own while the backup runs: for the progress display."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from holdfast.files.rules import Scope
from holdfast.kernel.pool import Pool
from holdfast.sources.directory import Lister, open_directory
from holdfast.vaults.archive.backup.roots import Target

_SUMS = struct.Struct("<QQQ")  # files, bytes, 1 once all is counted
_FILE, _DIR, _KIND = 0o100000, 0o040000, 0o170000


class Estimate:
    """Counts files and bytes below the targets until it is closed. Make it before any thread: it forks."""

    def __init__(self, targets: Sequence[Target], lister: Lister) -> None:
        self._sums = mmap.mmap(-1, _SUMS.size)
        sums = self._sums

        def start() -> Callable[[None], Iterator[None]]:
            def count(_task: None) -> Iterator[None]:
                os.nice(5)
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
    stack: list[tuple[bytes, bytes, Scope]] = []
    for target in targets:
        try:
            st = os.lstat(target.path)
        except OSError:
            continue
        if st.st_mode & _KIND == _DIR:
            stack.append((target.path, b"", lister.rules.root(target.path)))
        elif st.st_mode & _KIND == _FILE:
            files, size = files + 1, size + st.st_size
    while stack:
        path, name, scope = stack.pop()
        try:
            fd = open_directory(path)
        except OSError:
            continue
        try:
            inner, listing = lister.look(fd, scope, name)
        except OSError:
            continue
        finally:
            os.close(fd)
        prefix = path if path != b"/" else b""
        for item in listing.items:
            kind = item.stat.st_mode & _KIND
            if kind == _FILE:
                files, size = files + 1, size + item.stat.st_size
            elif kind == _DIR:
                stack.append((prefix + b"/" + item.name, item.name, inner))
    sums[:] = _SUMS.pack(files, size, 1)
