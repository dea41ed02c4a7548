"""One line of an ignore file, read the way git reads it (gitignore(5); dir.c and wildmatch.c of git 2.39)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Literal

from holdfast.kernel.values import dataclass

_SPECIAL = b"*?[\\"
_SLASH, _STAR, _BACKSLASH, _OPEN, _CLOSE = b"/*\\[]"

# git's own character tables, not the C library's: its "space" knows neither form feed nor vertical tab.
_CLASSES: dict[bytes, frozenset[int]] = {
    name: frozenset(members)
    for name, members in {
        b"alnum": b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        b"alpha": b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        b"blank": b" \t",
        b"cntrl": bytes(range(32)) + b"\x7f",
        b"digit": b"0123456789",
        b"graph": bytes(range(0x21, 0x7F)),
        b"lower": b"abcdefghijklmnopqrstuvwxyz",
        b"print": bytes(range(0x20, 0x7F)),
        b"punct": b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
        b"space": b" \t\n\r",
        b"upper": b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        b"xdigit": b"0123456789ABCDEFabcdef",
    }.items()
}

PartKind = Literal["literal", "prefix", "suffix", "any", "regex", "globstar"]


@dataclass(frozen=True, slots=True)
class Part:
    """What one component of a path must look like.

    ``value`` is the literal, the literal before or after a single star, or the source of a regular expression for the
    whole name. ``globstar`` stands for any number of components (at least one at the end of a pattern). Of what a
    regular expression matches, ``head`` is how every name begins, ``tail`` how it ends, ``inner`` what it contains.
    """

    kind: PartKind
    value: bytes = b""
    head: bytes = b""
    tail: bytes = b""
    inner: bytes = b""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A line that can match something.

    ``paths`` are alternatives. ``anchored``: each is a sequence of parts from the ignore file's directory on.
    Otherwise each has one part, for the last component of a path at any depth.
    """

    line: int
    text: bytes
    excludes: bool
    dirs_only: bool
    anchored: bool
    paths: tuple[tuple[Part, ...], ...]


class _Never(Exception):
    """The pattern is malformed in a way that makes git never match it."""


# A token: a literal byte; a set of which one byte must come; or one of "*", "**" and "/".
_Token = int | frozenset[int] | Literal["*", "**", "/"]
_ANY_BYTE = frozenset(range(256)) - {_SLASH}

_MOST_SPELLINGS = 128
"""``*.py[cod]`` is kept as three suffixes, for literals and suffixes cost nothing to look up: up to so many."""


def split_lines(text: bytes) -> list[bytes]:
    """The lines of an ignore file as git cuts them: a byte order mark and a CR at a line's end do not count."""
    return [line.removesuffix(b"\r") for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n")]


def parse(line: bytes, number: int = 1) -> Pattern | None:
    """The pattern on a line; None for blank lines, comments and patterns that cannot match (see :func:`is_blank`)."""
    text = _without_trailing_spaces(line.partition(b"\0")[0])  # git holds lines as C strings
    if not text or text.startswith(b"#"):
        return None
    body = text.removeprefix(b"!")
    dirs_only = body.endswith(b"/")
    glob = body[:-1] if dirs_only else body
    anchored = b"/" in glob
    try:
        paths = tuple(_paths(glob) if anchored else _spellings(_tokens(glob, path=False)))
    except _Never:
        return None
    if not paths or not glob:
        return None
    if anchored and all(len(path) == 2 and path[0].kind == "globstar" for path in paths):
        anchored, paths = False, tuple(path[1:] for path in paths)  # "**/name" is "name"
    return Pattern(number, text, not text.startswith(b"!"), dirs_only, anchored, paths)


def is_blank(line: bytes) -> bool:
    """Whether a line says nothing at all, as opposed to being a pattern that cannot match."""
    return not line.strip(b" ") or line.startswith(b"#")


def escape(path: bytes) -> bytes:
    """A pattern that matches ``path`` literally."""
    return re.sub(rb"([*?\[\\])", rb"\\\1", path)


def _without_trailing_spaces(line: bytes) -> bytes:
    end, position = 0, 0
    while position < len(line):
        if line[position] == _BACKSLASH:
            position += 1
            if position == len(line):
                return line
            end = position + 1
        elif line[position] != 0x20:
            end = position + 1
        position += 1
    return line[:end]


def _paths(glob: bytes) -> Iterator[tuple[Part, ...]]:
    """The alternatives of a pattern that has a slash.

    git compares everything before the first wildcard byte by byte and hands only the rest to its matcher, for which
    ``**`` at the start of that rest is a globstar even in ``foo**/bar``: hence several alternatives.
    """
    glob = glob.removeprefix(b"/")
    wild = next((at for at, byte in enumerate(glob) if byte in _SPECIAL), len(glob))
    prefix: list[_Token] = ["/" if byte == _SLASH else byte for byte in glob[:wild]]
    for tokens in _expanded(prefix, _tokens(glob[wild:], path=True)):
        parts = _components(tokens)
        if parts is not None:
            yield parts


def _expanded(prefix: list[_Token], rest: list[_Token]) -> Iterator[list[_Token]]:
    if not rest or rest[0] != "**" or not prefix or prefix[-1] == "/":
        yield prefix + rest
    elif len(rest) == 1:
        yield [*prefix, "*"]
        yield [*prefix, "*", "/", "**"]
    else:  # foo**/rest: "foorest", and "rest" anywhere below a directory "foo*"
        yield from _expanded(prefix, rest[2:])
        yield [*prefix, "*", "/", "**", *rest[1:]]


def _components(tokens: list[_Token]) -> tuple[Part, ...] | None:
    """The parts between slashes; None when one is empty, for no path has an empty component."""
    parts: list[Part] = []
    current: list[_Token] = []
    for token in [*tokens, "/"]:
        if token != "/":
            current.append(token)
            continue
        if not current:
            return None
        part = _part(current)
        if not (part.kind == "globstar" and parts and parts[-1].kind == "globstar"):
            parts.append(part)
        current = []
    return tuple(parts)


def _spellings(tokens: list[_Token]) -> Iterator[tuple[Part]]:
    """The parts of a pattern without a slash: its sets spelt out if that makes plain literals or suffixes."""
    sets = [token if isinstance(token, frozenset) else frozenset({token}) for token in tokens]
    count = prod(len(members) for members in sets)
    plain = 1 < count <= _MOST_SPELLINGS and tokens.count("*") == (tokens[0] == "*")
    for spelling in product(*map(_sorted, sets)) if plain else (tokens,):
        yield (_part(list(spelling)),)


def _sorted(members: frozenset[_Token]) -> list[_Token]:
    return sorted(members, key=str)


def _part(tokens: list[_Token]) -> Part:
    if tokens == ["**"]:
        return Part("globstar")
    stars = tokens.count("*")
    literals = bytes([token for token in tokens if isinstance(token, int)])
    if len(literals) + stars == len(tokens) and stars < 2:
        if not stars:
            return Part("literal", literals)
        if not literals:
            return Part("any")
        if tokens[0] == "*":
            return Part("suffix", literals)
        if tokens[-1] == "*":
            return Part("prefix", literals)
    runs = [bytes([token for token in run if isinstance(token, int)]) for run in _runs(tokens)]
    return Part("regex", _regex(tokens), runs[0], runs[-1], max(runs, key=len))


def _runs(tokens: list[_Token]) -> Iterator[list[_Token]]:
    """The literal bytes between what is not literal."""
    start = 0
    for at, token in enumerate(tokens):
        if not isinstance(token, int):
            yield tokens[start:at]
            start = at + 1
    yield tokens[start:]


def _regex(tokens: list[_Token]) -> bytes:
    """The expression for a whole name. The first fit of a piece between two stars is as good as any later one, so
    those are atomic groups and a hostile pattern costs no more than length times length."""
    pieces: list[bytes] = [b""]
    for token in tokens:
        if isinstance(token, int):
            pieces[-1] += re.escape(bytes([token]))
        elif isinstance(token, frozenset):
            pieces[-1] += _one_of(token)
        else:
            pieces.append(b"")
    first, *middle = pieces
    if not middle:
        return b"(?s:" + first + b")\\Z"
    last = middle.pop()
    return b"(?s:" + first + b"".join(b"(?>.*?" + piece + b")" for piece in middle if piece) + b".*" + last + b")\\Z"


def _one_of(members: frozenset[int]) -> bytes:
    if members is _ANY_BYTE:
        return b"."
    return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(members)) + b"]" if members else b"(?!)"


def _tokens(glob: bytes, *, path: bool) -> list[_Token]:
    """``glob`` in pieces. Without ``path`` a run of stars is one star, however long."""
    tokens: list[_Token] = []
    at, end = 0, len(glob)
    while at < end:
        byte = glob[at]
        if byte == _STAR:
            start = at
            while at < end and glob[at] == _STAR:
                at += 1
            opens = start == 0 or glob[start - 1] == _SLASH
            rest = glob[at : at + 2]
            if path and at - start > 1 and opens and (not rest or rest[:1] == b"/"):
                tokens.append("**")
            elif path and at - start > 1 and opens and rest == b"\\/":
                tokens += ["*", "/", "**"]  # here git wants at least one directory
            else:
                tokens.append("*")
            continue
        if byte == _OPEN:
            members, at = _bracket(glob, at + 1)
            tokens.append(members)
            continue
        if byte == _BACKSLASH:
            at += 1
            if at == end:
                raise _Never
            byte = glob[at]
            tokens.append("/" if byte == _SLASH else byte)
        elif byte == 0x3F:
            tokens.append(_ANY_BYTE)
        else:
            tokens.append("/" if byte == _SLASH else byte)
        at += 1
    return tokens


def _bracket(glob: bytes, at: int) -> tuple[frozenset[int], int]:
    """The bytes that the bracket whose inside starts at ``at`` stands for, and where the pattern goes on."""

    def look(position: int) -> int:
        if position >= len(glob):
            raise _Never
        return glob[position]

    negated = look(at) in b"!^"
    at += negated
    members: set[int] = set()
    previous, first = -1, True
    while look(at) != _CLOSE or first:
        first = False
        byte = glob[at]
        if byte == _BACKSLASH:
            at += 1
            byte = look(at)
            members.add(byte)
        elif byte == 0x2D and previous >= 0 and look(at + 1) != _CLOSE:
            at += 1
            if glob[at] == _BACKSLASH:
                at += 1
                look(at)
            members.update(range(previous, glob[at] + 1))
            byte = -1
        elif byte == _OPEN and glob[at + 1 : at + 2] == b":":
            close = glob.find(b"]", at + 2)
            if close < 0:
                raise _Never
            if close > at + 2 and glob[close - 1] == 0x3A:
                known = _CLASSES.get(glob[at + 2 : close - 1])
                if known is None:
                    raise _Never
                members |= known
                at, byte = close, -1
            else:
                members.add(byte)
        else:
            members.add(byte)
        previous = byte
        at += 1
    return _ANY_BYTE - members if negated else _ANY_BYTE & members, at + 1
