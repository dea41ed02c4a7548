"""Reading JSON that somebody else wrote: every wrong shape becomes ``Corrupt`` instead of a crash."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import orjson

from holdfast.kernel.errors import Corrupt

if TYPE_CHECKING:
    from holdfast.format.crypto import Buffer  # with cryptography, which plain vaults do without

_HINT = "The file is damaged or was written by a newer program; run a check of the vault."


def wrong(what: str, problem: str) -> Corrupt:
    """The error that says that ``what`` (an index, a tree, ...) cannot be understood."""
    return Corrupt(f"{what} is malformed: {problem}", hint=_HINT)


def load_object(raw: Buffer, what: str) -> dict[str, Any]:
    """The JSON object in ``raw``. Raises ``Corrupt`` if it is anything else."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise wrong(what, "not JSON") from error
    if type(value) is not dict:
        raise wrong(what, "not a JSON object")
    return value


def take_text(fields: dict[str, Any], key: str, what: str) -> str:
    """Remove and return a string; missing or null is empty, as Go reads it."""
    value = fields.pop(key, None)
    if value is None:
        return ""
    if type(value) is not str:
        raise wrong(what, f"{key} is not text")
    return value


def take_int(fields: dict[str, Any], key: str, what: str) -> int:
    """Remove and return a whole number >= 0; missing or null is 0."""
    value = fields.pop(key, None)
    if value is None:
        return 0
    if type(value) is not int or value < 0:
        raise wrong(what, f"{key} is not a whole number")
    return value


def take_bool(fields: dict[str, Any], key: str, what: str) -> bool:
    """Remove and return a truth value; missing or null is False."""
    value = fields.pop(key, None)
    if value is None:
        return False
    if type(value) is not bool:
        raise wrong(what, f"{key} is neither true nor false")
    return value


def take_texts(fields: dict[str, Any], key: str, what: str) -> tuple[str, ...]:
    """Remove and return a list of strings; missing or null is empty."""
    value = fields.pop(key, None)
    if value is None:
        return ()
    if type(value) is not list or any(type(item) is not str for item in value):
        raise wrong(what, f"{key} is not a list of texts")
    return tuple(value)


def take_id(fields: dict[str, Any], key: str, what: str) -> bytes | None:
    """Remove and return an id (32 bytes from 64 hex digits); missing or null is None."""
    value = fields.pop(key, None)
    return None if value is None else parse_id(value, key, what)


def take_base64(fields: dict[str, Any], key: str, what: str) -> bytes:
    """Remove and return bytes from standard base64 with padding; missing or null is empty."""
    text = take_text(fields, key, what)
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise wrong(what, f"{key} is not base64") from error


def parse_id(value: object, key: str, what: str) -> bytes:
    """32 bytes from 64 hex digits. Raises ``Corrupt`` for anything else."""
    if type(value) is str:
        try:
            raw = binascii.unhexlify(value)
        except ValueError:
            raw = b""
        if len(raw) == 32:
            return raw
    raise wrong(what, f"{key} is not an id of 64 hex digits")
