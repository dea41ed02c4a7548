r"""Text the way Go writes it: names quoted by ``strconv.Quote``, strings escaped by ``encoding/json``.

Two layers apply to the name of a node: first Go's quoting (so that any byte survives), then JSON's. What counts as
printable is ``str.isprintable`` (Unicode categories L, M, N, P, S and the ASCII space), which is Go's own definition;
only the Unicode version of the tables may differ. A difference costs the deduplication of that one tree against
restic's, nothing else: both readers undo either form.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import orjson

from holdfast.kernel.errors import Corrupt

# Bytes that neither layer touches: printable ASCII except " \ & < >
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\&<>')

_CONTROL_LETTERS = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v"}
_LETTER_BYTES = {"a": b"\a", "b": b"\b", "f": b"\f", "n": b"\n", "r": b"\r", "t": b"\t", "v": b"\v"}
_LETTER_BYTES |= {"\\": b"\\", '"': b'"'}

_ESCAPE = r"""\\(?:([abfnrtv\\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3}))|(["\\\n])"""
_JSON_SPECIAL = '[\x00-\x1f"\\\\<>&\u2028\u2029\ud800-\udfff]'
_JSON_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Compiled when first wanted: that takes 3 ms, and few names have anything to escape."""
    return re.compile(text)


def quote_name(name: bytes) -> str:
    """A file name as ``strconv.Quote`` writes it, without the quotes around it. Any byte is allowed."""
    if name.isascii() and not name.translate(None, _PLAIN + b"&<>"):
        return name.decode("ascii")
    # Bytes that are not UTF-8 become the code points U+DC80..U+DCFF, which no valid text contains.
    text = name.decode("utf-8", "surrogateescape")
    return "".join(map(_quote_character, text))


def _quote_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    if code in _CONTROL_LETTERS:
        return _CONTROL_LETTERS[code]
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote_name(text: str) -> bytes:
    r"""The file name that :func:`quote_name` (or Go) wrote as ``text``.

    Understands every escape of a Go string: letters, ``\xNN``, ``\NNN`` (octal), ``\uNNNN`` and ``\UNNNNNNNN``.
    Raises ``Corrupt`` for anything that Go would refuse.
    """
    if "\\" not in text and '"' not in text and "\n" not in text:
        return text.encode("utf-8", "surrogateescape")
    parts: list[bytes] = []
    end = 0
    for match in _pattern(_ESCAPE).finditer(text):
        parts.append(text[end : match.start()].encode("utf-8", "surrogateescape"))
        parts.append(_unescape(match))
        end = match.end()
    parts.append(text[end:].encode("utf-8", "surrogateescape"))
    return b"".join(parts)


def _unescape(match: re.Match[str]) -> bytes:
    letter, byte, short, long, octal, _stray = match.groups()
    if letter is not None:
        return _LETTER_BYTES[letter]
    if byte is not None:
        return bytes((int(byte, 16),))
    if octal is not None and (value := int(octal, 8)) < 256:
        return bytes((value,))
    if short is not None or long is not None:
        code = int(short or long, 16)
        if code < 0xD800 or 0xDFFF < code < 0x110000:
            return chr(code).encode("utf-8")
    raise Corrupt(
        f"a file name in a tree is not quoted properly: {match[0]!r}",
        hint="The tree was written by a broken program; run a check of the vault.",
    )


def json_text(text: str) -> str:
    r"""``text`` escaped for a JSON string as Go does it, without the quotes around it.

    ``<``, ``>``, ``&``, U+2028 and U+2029 become ``\u00xx`` and the like; what cannot be UTF-8 becomes ``\ufffd``.
    """
    if text.isascii() and text.isalnum():
        return text
    return _pattern(_JSON_SPECIAL).sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in _JSON_SHORT:
        return _JSON_SHORT[character]
    code = ord(character)
    return "\\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def json_string(text: str) -> bytes:
    """``text`` as a JSON string with its quotes, as Go writes it; see :func:`json_text`."""
    return f'"{json_text(text)}"'.encode()


def json_name(name: bytes) -> str:
    """A file name through both layers, without the quotes around it. The fast path is one scan of plain ASCII."""
    if not name.translate(None, _PLAIN):
        return name.decode("ascii")
    return json_text(quote_name(name))


def json_value(value: Any) -> bytes:
    """Any JSON value, compact, keys in their given order, with Go's escapes."""
    try:
        raw = orjson.dumps(value)
    except TypeError:
        # Lone surrogates and numbers beyond 64 bits, which orjson refuses.
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        raw = re.sub("[\ud800-\udfff]", "\\\\ufffd", text).encode()
    # Outside of strings none of these can occur.
    for plain, escaped in _HTML:
        if plain in raw:
            raw = raw.replace(plain, escaped)
    return raw


_HTML = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
