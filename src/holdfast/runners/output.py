"""What is kept of a program's output: its end, all of it within a bound, and whether some line is there."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

TAIL_BYTES = 16 << 10
HELD_BYTES = 4 << 20
_LONGEST_LINE = 64 << 10


class Tail:
    """The last bytes of both streams as they came, and how many there were in all."""

    def __init__(self, limit: int = TAIL_BYTES) -> None:
        self._limit = limit
        self._kept = b""
        self.total = 0
        self.blank = True
        """Whether there was nothing but white space."""

    def add(self, data: bytes) -> None:
        """Take in what was written."""
        self.total += len(data)
        self.blank = self.blank and data.isspace()
        self._kept = (self._kept + data)[-self._limit :]

    def text(self) -> str:
        """The end as text. What was cut at the front goes on until the next line, so that no word stands there in half:
        a half of a secret would not be recognised as one."""
        kept = self._kept
        if self.total > len(kept):
            kept = kept.partition(b"\n")[2]
        return kept.decode("utf-8", "replace")


class Held:
    """Output that is shown later, or never: both streams in order, of very much the first and the last 4 MiB."""

    def __init__(self, limit: int = HELD_BYTES) -> None:
        self._limit = limit
        self._first: list[tuple[int, bytes]] = []
        self._last: deque[tuple[int, bytes]] = deque()
        self._sizes = [0, 0]
        self._left_out = 0

    def add(self, stream: int, data: bytes) -> None:
        """Take in what was written to the stream (1 or 2)."""
        if not self._last and self._sizes[0] + len(data) <= self._limit:
            self._first.append((stream, data))
            self._sizes[0] += len(data)
            return
        self._last.append((stream, data))
        self._sizes[1] += len(data)
        while self._sizes[1] > self._limit:
            gone = len(self._last.popleft()[1])
            self._sizes[1] -= gone
            self._left_out += gone

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """All that is kept, in order, with a remark where something is missing."""
        yield from self._first
        if self._left_out:
            yield 2, f"\n... {self._left_out:,} bytes left out ...\n".encode()
        yield from self._last


class Search:
    """Looks for a line that matches, in each of the streams, as they come."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self._begun = {1: b"", 2: b""}
        self.found = False

    def add(self, stream: int, data: bytes) -> None:
        """Take in what was written to the stream (1 or 2)."""
        if self.found:
            return
        *lines, rest = (self._begun[stream] + data).split(b"\n")
        self._begun[stream] = rest[-_LONGEST_LINE:]
        self.found = any(self._pattern.search(line) for line in lines)

    def end(self) -> bool:
        """Nothing more comes; whether there was such a line."""
        self.found = self.found or any(self._pattern.search(line) for line in self._begun.values() if line)
        return self.found
