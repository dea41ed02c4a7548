"""The extension's SHA-256 and sealing of many small items, used where processor and self-test allow: decision 0013."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from typing import Final

from holdfast.kernel.native import native as _native

Buffer = bytes | bytearray | memoryview

LARGE: Final = 24 * 1024
"""Units above this many bytes are left to OpenSSL, which has wider vectors but costs more a call."""

_LENGTHS = (*range(66), 111, 112, 119, 120, 128, 129, 256, 1000)


def _hashlib_each(messages: Sequence[Buffer]) -> list[bytes]:
    return [sha256(message).digest() for message in messages]


@cache
def _hash_each() -> Callable[[Sequence[Buffer]], list[bytes]]:
    """The extension's function if it hashes every kind of padding as OpenSSL does; asked once a process."""
    if _native is None or "sha" not in _native.processor():
        return _hashlib_each
    text = bytes(range(256)) * 4
    messages = [text[length : 2 * length] for length in _LENGTHS]
    return _native.sha256 if _native.sha256(messages) == _hashlib_each(messages) else _hashlib_each


def sha256_each(messages: Sequence[Buffer]) -> list[bytes]:
    """The SHA-256 of every message, in order: two at a time where the processor can, 1.5 times as fast."""
    return _hash_each()(messages)


def hashes_here() -> bool:
    """Whether the extension's SHA-256 is used: the processor has the instructions, and they are right."""
    return _hash_each() is not _hashlib_each


def can_seal() -> bool:
    """Whether :func:`seal_small` and :func:`open_small` may be called: extension and AES instructions are there."""
    return _native is not None and "aes" in _native.processor()


def seal_small(key: bytes, start: bytes, plaintexts: Sequence[Buffer]) -> bytes | None:
    """``nonce | ciphertext | tag`` of each, back to back; None if what was made does not open again (a faulty machine).

    ``key`` is encrypt, k and r (64 bytes). The first nonce is ``start``, each further one lies as many blocks of 16
    bytes (at least one) further. The caller sees to it that no nonce is all zero.
    """
    return _native.seal(key, start, plaintexts)


def open_small(key: bytes, units: Sequence[Buffer]) -> list[bytes | None]:
    """Every unit's plaintext, or None where it is malformed or its tag does not match."""
    return _native.unseal(key, units)
