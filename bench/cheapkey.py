"""Gives a restic repository a key without stretching, for measurements in which key derivation would hide the rest."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

# The least that scrypt can do. Safe only because the password is 256 random bits.
LEAST = {"N": 2, "r": 1, "p": 1}


def without_stretching(repository: Path, password: bytes) -> None:
    """Replaces the one key of ``repository`` by one with the same password and master key, and next to no scrypt."""
    (old,) = (repository / "keys").iterdir()
    fields = json.loads(old.read_bytes())
    nonce_and_text = base64.b64decode(fields["data"])[:-16]
    master = _counter_mode(_derive(password, fields)[:32], nonce_and_text[:16], nonce_and_text[16:])

    fields |= LEAST | {"salt": base64.b64encode(os.urandom(64)).decode()}
    derived = _derive(password, fields)
    nonce = os.urandom(16)
    text = _counter_mode(derived[:32], nonce, master)
    pad = Cipher(algorithms.AES(derived[32:48]), modes.ECB()).encryptor().update(nonce)
    mac = Poly1305.generate_tag(derived[48:64] + pad, text)
    fields["data"] = base64.b64encode(nonce + text + mac).decode()
    content = json.dumps(fields).encode()
    (repository / "keys" / hashlib.sha256(content).hexdigest()).write_bytes(content)
    old.unlink()


def _derive(password: bytes, fields: dict[str, object]) -> bytes:
    cost = {name: int(str(fields[name])) for name in ("N", "r", "p")}
    salt = base64.b64decode(str(fields["salt"]))
    return hashlib.scrypt(
        password, salt=salt, n=cost["N"], r=cost["r"], p=cost["p"], maxmem=256 * cost["N"] * cost["r"] + 2**26, dklen=64
    )


def _counter_mode(key: bytes, nonce: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor().update(data)
