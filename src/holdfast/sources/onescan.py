"""One reading of the directories for several backups of the same paths, one after the other: what each found is kept
for the next ones, packed, in a file without a name.
"""

from __future__ import annotations

import fcntl
import marshal
import mmap
import os
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from holdfast.kernel.clock import Clock
from holdfast.sources.records import pack, unpack

if TYPE_CHECKING:
    from holdfast.format.node import Stat

SECONDS = 60.0
"""How old a listing may get. A vault that took longer was busy with contents, beside which another listing is little;
and what is saved is never older than that."""

MOST_BYTES = 256 << 20
"""How much is kept, at about 80 bytes an entry: three million. What comes later is read again."""

_FRAME = struct.Struct("<I16s")  # length of what follows, and whose it is

_RACE_NS = 20_000_000  # the file systems' clock stands still for up to 10 ms, so a second change may look like none
_COARSE_RACE_NS = 2_000_000_000  # some count in whole seconds, or every other one


class Found(NamedTuple):
    """One directory as it was read at ``at_ns``: its entries that the rules let through, how many they did not and the
    names of those (where somebody wants to know), the one name that stands for all others, and its ignore file."""

    at_ns: int
    entries: list[tuple[bytes, Stat]]
    excluded: int
    left_out: tuple[bytes, ...]
    kept: bytes | None
    ignore_text: bytes | None


class OneScan:
    """The directories of one source. Use it in a ``with``; call :meth:`turn` before each backup.

    A directory is given again while it is the same one, with the same times (nothing came, went or was renamed in it),
    and was read at most :data:`SECONDS` ago. Of its files ``stat`` may say something else by then: who reads one looks
    at it again first, who does not saves it as it was at that time. Processes that are forked share it. Nothing is
    raised: where nothing can be kept, directories are read again.
    """

    def __init__(self, backups: int, folder: str | None, clock: Clock) -> None:
        """``backups``: how many there will be. ``folder``: where the file is made; None: the system's for such."""
        self._left = backups
        self._folder = folder
        self._clock = clock
        self._file = -1
        self._map: mmap.mmap | None = None
        self._places: dict[bytes, int] = {}
        self._read = 0  # how much of the file is in the places
        self._torn = mmap.mmap(-1, 1)  # shared with forked processes: whether one of them could not write it all
        self._keeping = False

    def __enter__(self) -> OneScan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_others(self) -> bool:
        """Whether another backup found something for this one, or wants to know what it finds."""
        return self._keeping or bool(self._places)

    def turn(self) -> None:
        """The next backup begins: what was found until now is there for it."""
        self._left -= 1
        self._keeping = self._left > 0
        self._learn()

    def only_look(self) -> None:
        """Keep nothing more in this process: another one lists the same directories."""
        self._keeping = False

    def find(self, path: bytes, depth: int, fd: int) -> Found | None:
        """What was found in the open directory ``fd``, which is ``path``, ``depth`` bytes of it below the root of its
        rules; None: read it."""
        if not self._places or self._map is None:
            return None
        at = self._places.get(_key(path, depth))
        if at is None:
            return None
        length, _ = _FRAME.unpack_from(self._map, at)
        start = at + _FRAME.size
        mark, at_ns, steady, excluded, left_out, kept, text, packed = marshal.loads(self._map[start : start + length])
        age, walked = self._clock.monotonic() - steady, self._clock.now_ns() - at_ns
        if not (0 <= age <= SECONDS and 0 <= walked <= SECONDS * 1e9) or mark != _mark(fd):
            return None
        return Found(at_ns, unpack(packed), excluded, left_out, kept, text)

    def begin(self, fd: int) -> tuple[int, float, tuple[int, ...]] | None:
        """Call it before a directory is read that is to be kept; its answer goes to :meth:`keep`."""
        if not self._keeping:
            return None
        now, mark = self._clock.now_ns(), _mark(fd)
        changed = mark[-1]
        fresh = changed > now - (_RACE_NS if changed % 1_000_000_000 else _COARSE_RACE_NS)
        return None if fresh else (now, self._clock.monotonic(), mark)

    def keep(
        self,
        path: bytes,
        depth: int,
        begun: tuple[int, float, tuple[int, ...]],
        entries: Sequence[tuple[bytes, Stat]],
        excluded: int,
        left_out: tuple[bytes, ...],
        kept: bytes | None,
        ignore_text: bytes | None,
    ) -> None:
        """Keep what was found in a directory; see :class:`Found`."""
        packed = pack(entries)
        if packed is None:
            return
        at_ns, steady, mark = begun
        record = marshal.dumps((mark, at_ns, steady, excluded, left_out, kept, ignore_text, packed))
        framed = _FRAME.pack(len(record), _key(path, depth)) + record
        try:
            if self._torn[0] or os.fstat(self._file).st_size + len(framed) > MOST_BYTES:
                self._keeping = False
            elif os.write(self._file, framed) != len(framed):
                self._torn[0] = 1  # nobody can tell where the records behind it begin
        except OSError:
            self._keeping = False

    def close(self) -> None:
        """Give everything back."""
        self._places.clear()
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _learn(self) -> None:
        """Note where the records are that came since the last time; make the file for the first."""
        try:
            if self._file < 0 and self._keeping:
                self._file = _nameless(self._folder)
            size = os.fstat(self._file).st_size if self._file >= 0 else 0
            if self._torn[0] or size == self._read:
                return
            if self._map is not None:
                self._map.close()
            self._map = mmap.mmap(self._file, size, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            self._map, self._keeping = None, False
            return
        at = self._read
        while at + _FRAME.size <= size:
            length, key = _FRAME.unpack_from(self._map, at)
            self._places[key] = at
            at += _FRAME.size + length
        self._read = size


def _nameless(folder: str | None) -> int:
    """A new file that is gone when it is closed, written at its end only. Raises ``OSError``."""
    import tempfile  # 5 ms, and only where several vaults are saved into

    fd, path = tempfile.mkstemp(prefix="holdfast-scan-", dir=folder)
    try:
        os.unlink(path)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    except OSError:
        os.close(fd)
        raise
    return fd


def _key(path: bytes, depth: int) -> bytes:
    return blake2b(b"%d:%b" % (depth, path), digest_size=16).digest()


def _mark(fd: int) -> tuple[int, ...]:
    """What changes when something comes into a directory, goes or gets another name."""
    st = os.fstat(fd)
    return st.st_dev, st.st_ino, st.st_mtime_ns, st.st_ctime_ns
