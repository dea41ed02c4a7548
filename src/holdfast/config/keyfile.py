"""Generated keys: 256 random bits as one line of text that Holdfast recognises and restic takes as a password file.

The text is ``hfk1-`` and 56 small base32 letters (RFC 4648): 32 random bytes and 3 bytes of checksum, the front of the
SHA-256 of ``hfk1-`` and the random bytes. The whole line is the password. Prefix and checksum tell Holdfast that the
secret has 256 bits of entropy, so that an expensive key derivation would protect nothing, and that it was copied whole.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

from holdfast.files.whole import create_file
from holdfast.kernel.errors import Denied, Invalid, NoSpace
from holdfast.kernel.secret import Secret

PREFIX = b"hfk1-"
RANDOM_BYTES = 32
CHECK_BYTES = 3


def generate(random: Callable[[int], bytes]) -> bytes:
    """A new key's text, without a line end, from ``random(32)``."""
    return _text(random(RANDOM_BYTES))


def is_generated(text: bytes) -> bool:
    """Whether ``text`` is a key made by :func:`generate`, complete and unaltered."""
    if not text.startswith(PREFIX):
        return False
    try:
        raw = base64.b32decode(text[len(PREFIX) :].upper())
    except (binascii.Error, ValueError):
        return False
    return len(raw) == RANDOM_BYTES + CHECK_BYTES and _text(raw[:RANDOM_BYTES]) == text


def write_new(path: Path, random: Callable[[int], bytes]) -> Secret:
    """Make a key and keep it in the new file ``path`` (0600, folders 0700); durable on return.

    Raises ``Invalid`` where the file exists (a key is never overwritten: it may open a vault), ``Denied``, ``NoSpace``.
    After a crash the file is absent or whole.
    """
    text = generate(random)
    try:
        create_file(path, text + b"\n", 0o600)
    except FileExistsError:
        raise Invalid(
            f"there is a file at {path} already",
            hint="A key file is never overwritten, because it may open a vault. Name another file.",
        ) from None
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else Denied
        raise kind(f"cannot write the key file {path}: {error.strerror}") from error
    return Secret(text, origin=f"key file {path}", random=True)


def _text(raw: bytes) -> bytes:
    check = hashlib.sha256(PREFIX + raw).digest()[:CHECK_BYTES]
    return PREFIX + base64.b32encode(raw + check).lower()
