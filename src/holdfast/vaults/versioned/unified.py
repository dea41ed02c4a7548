"""Differences between two texts of bytes, as a unified diff that GNU patch accepts, and undoing one.

Lines are anchored at those that occur once on both sides (patience), so that the time is bounded: n log n for anchors,
and gaps without anchors are replaced as a whole unless they are small.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from holdfast.kernel.errors import Corrupt

HEADER = b"--- before\n+++ after\n"
"""Fixed: a file's name may hold anything, and ``patch`` is told it on its command line."""

_CONTEXT = 3
_SMALL_GAP = 4096  # lines of one side times lines of the other: difflib needs at most a few milliseconds for these
_NO_END = b"\\ No newline at end of file\n"
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@\n")

Block = tuple[int, int, int]
"""(line of the first side, line of the second, how many are equal from there)."""


def is_text(data: bytes) -> bool:
    """Whether ``data`` can be a side of a diff: some bytes, none of them NUL. Encodings and line ends do not matter."""
    return bool(data) and b"\0" not in data


def make_diff(before: bytes, after: bytes) -> bytes:
    """The unified diff from ``before`` to ``after`` (both texts, not equal), with three lines of context."""
    old, new = _lines(before), _lines(after)
    pieces = [HEADER]
    for hunk in _hunks(_changes(_blocks(old, new), len(old), len(new))):
        pieces += _hunk_text(old, new, hunk)
    return b"".join(pieces)


def undo_diff(after: bytes, diff: bytes) -> bytes:
    """What was ``before``, as ``patch -R`` makes it. Raises ``Corrupt`` where ``after`` is not what the diff led to."""
    new, script = _lines(after), _script(diff)
    out: list[bytes] = []
    at = line = 0
    try:
        while line < len(script):
            found = _HUNK.fullmatch(script[line])
            if found is None:
                raise _unfit()
            old_left, new_left = (1 if found[group] is None else int(found[group]) for group in (2, 4))
            start = int(found[3]) - (new_left > 0)
            out += new[at:start]
            at = start
            while old_left or new_left:
                line += 1
                mark, text = script[line][:1], script[line][1:]
                if mark in b" +":
                    if new[at] != text:
                        raise _unfit()
                    at += 1
                    new_left -= 1
                if mark in b" -":
                    out.append(text)
                    old_left -= 1
            line += 1
    except IndexError:
        raise _unfit() from None
    return b"".join(out + new[at:])


def _unfit() -> Corrupt:
    return Corrupt("a diff does not fit the version after it", hint="Run 'holdfast check' on the vault.")


def _script(diff: bytes) -> list[bytes]:
    """The lines of a diff after its header; one that ends its file without a line end has none here either."""
    script: list[bytes] = []
    for line in _lines(diff.removeprefix(HEADER)):
        if line == _NO_END:  # lines of content begin with a mark, so no content looks like this
            if not script:
                raise _unfit()
            script[-1] = script[-1][:-1]
        else:
            script.append(line)
    return script


def _lines(data: bytes) -> list[bytes]:
    # Not bytes.splitlines, which also cuts at a lone carriage return.
    lines = [line + b"\n" for line in data.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _blocks(old: Sequence[bytes], new: Sequence[bytes]) -> list[Block]:
    """What both sides share, in order, as long as possible; the work is on a list, for gaps may nest deeply."""
    found: list[Block] = []
    pending = [(0, len(old), 0, len(new))]
    while pending:
        low, high, start, end = pending.pop()
        head = 0
        while low + head < high and start + head < end and old[low + head] == new[start + head]:
            head += 1
        if head:
            found.append((low, start, head))
        low, start, tail = low + head, start + head, 0
        while low < high - tail and start < end - tail and old[high - tail - 1] == new[end - tail - 1]:
            tail += 1
        if tail:
            found.append((high - tail, end - tail, tail))
        high, end = high - tail, end - tail
        if low == high or start == end:
            continue
        anchors = _anchors(old, new, low, high, start, end)
        if anchors:
            for left, right in [*anchors, (high, end)]:
                pending.append((low, left, start, right))
                low, start = left, right
        elif (high - low) * (end - start) <= _SMALL_GAP:
            from difflib import SequenceMatcher  # 2 ms, and not every change comes this far

            matcher = SequenceMatcher(None, old[low:high], new[start:end], autojunk=False)
            found += [(low + a, start + b, size) for a, b, size in matcher.get_matching_blocks() if size]
    return sorted(found)


def _anchors(
    old: Sequence[bytes], new: Sequence[bytes], low: int, high: int, start: int, end: int
) -> list[tuple[int, int]]:
    """Lines that occur once on each side of a gap, as many as are in the same order on both (patience)."""
    here: dict[bytes, int] = {}
    for at in range(low, high):
        here[old[at]] = -1 if old[at] in here else at
    there: dict[bytes, int] = {}
    for at in range(start, end):
        there[new[at]] = -1 if new[at] in there else at
    pairs = [(at, here.get(line, -1)) for line, at in there.items() if at >= 0]
    tops: list[int] = []  # the smallest old line that ends an increasing run of each length
    piles: list[int] = []
    links: list[int] = []
    chosen = [(right, left) for right, left in pairs if left >= 0]
    for number, (_, left) in enumerate(chosen):
        pile = bisect_left(tops, left)
        links.append(piles[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(left)
            piles.append(number)
        else:
            tops[pile], piles[pile] = left, number
    found: list[tuple[int, int]] = []
    at = piles[-1] if piles else -1
    while at >= 0:
        found.append((chosen[at][1], chosen[at][0]))
        at = links[at]
    return found[::-1]


def _changes(blocks: Sequence[Block], old_length: int, new_length: int) -> list[tuple[int, int, int, int]]:
    """What lies between the blocks: (from, to on the first side, from, to on the second side)."""
    changes = []
    low = start = 0
    for left, right, size in [*blocks, (old_length, new_length, 0)]:
        if left > low or right > start:
            changes.append((low, left, start, right))
        low, start = left + size, right + size
    return changes


def _hunks(changes: Sequence[tuple[int, int, int, int]]) -> list[list[tuple[int, int, int, int]]]:
    hunks: list[list[tuple[int, int, int, int]]] = []
    for change in changes:
        if hunks and change[0] - hunks[-1][-1][1] <= 2 * _CONTEXT:
            hunks[-1].append(change)
        else:
            hunks.append([change])
    return hunks


def _hunk_text(old: Sequence[bytes], new: Sequence[bytes], hunk: Sequence[tuple[int, int, int, int]]) -> list[bytes]:
    low, start = hunk[0][0], hunk[0][2]
    lead = min(_CONTEXT, low)
    after = min(_CONTEXT, len(old) - hunk[-1][1])
    at = low - lead
    body: list[bytes] = []
    for left, right, first, last in hunk:
        body += [b" " + line for line in old[at:left]]
        body += [b"-" + line for line in old[left:right]]
        body += [b"+" + line for line in new[first:last]]
        at = right
    body += [b" " + line for line in old[at : at + after]]
    ranges = _range(low - lead, at + after), _range(start - lead, hunk[-1][3] + after)
    ended = [line if line.endswith(b"\n") else line + b"\n" + _NO_END for line in body]
    return [b"@@ -%b +%b @@\n" % ranges, *ended]


def _range(low: int, high: int) -> bytes:
    count = high - low
    return b"%d" % (low + 1) if count == 1 else b"%d,%d" % (low + (count > 0), count)
