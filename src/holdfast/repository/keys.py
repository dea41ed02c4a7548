"""The key files of a repository: which secrets open it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import sha256

from holdfast.format.crypto import MasterKey
from holdfast.format.keyfile import STRETCHED, UNSTRETCHED, KeyFile, unlock, wrap
from holdfast.format.time import format_time
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Corrupt, HoldfastError, Invalid, NotFound, Unsupported, WrongPassword
from holdfast.kernel.ids import short
from holdfast.kernel.secret import Secret
from holdfast.kernel.threads import map_in_threads
from holdfast.kernel.values import dataclass
from holdfast.repository import layout
from holdfast.repository.reading import read_files
from holdfast.storage.base import Storage

MOST_KEYS_TRIED = 20  # restic's default; each try costs up to half a second of a processor

Draw = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key, as shown to people. ``created`` is RFC 3339 text; ``current`` marks the one that opened the vault."""

    id: str
    created: str
    username: str
    hostname: str
    current: bool
    stretched: bool


def write_key(
    storage: Storage, master: MasterKey, secret: Secret, *, clock: Clock, draw: Draw, username: str, hostname: str
) -> bytes:
    """Store one more key file that opens to ``master``; returns its id. Durable when it returns."""
    if not secret.reveal():
        raise Invalid(
            "An empty password protects nothing.", hint="Give a password, or let Holdfast generate a key file."
        )
    now = clock.now_ns()
    key_file = wrap(
        master,
        secret.reveal(),
        params=UNSTRETCHED if secret.random else STRETCHED,
        salt=draw(64),
        nonce=draw(16),
        created=format_time(now, clock.utc_offset(now)),
        username=username,
        hostname=hostname,
    )
    raw = key_file.encode()
    identifier = sha256(raw).digest()
    storage.write(layout.name_of(layout.KEYS, identifier), raw)
    return identifier


def open_with(storage: Storage, secret: Secret) -> tuple[MasterKey, bytes]:
    """The master key and the id of the key file that ``secret`` opens.

    Raises ``WrongPassword`` naming the keys that were tried; ``Corrupt`` if no key file is readable at all.
    """
    tried: list[str] = []
    broken: list[str] = []
    for identifier, key_file in _key_files(storage, broken):
        if len(tried) == MOST_KEYS_TRIED:
            break
        master = unlock(key_file, secret.reveal(), map_in_threads)
        if master is not None:
            return master, identifier
        tried.append(short(identifier))
    if not tried:
        if broken:
            raise Corrupt(
                f"No key file of the vault can be read ({', '.join(broken)}).",
                hint="Put back the 'keys' folder from a copy of the vault; without it nothing can be decrypted.",
            )
        raise NotFound("The vault has no keys.", hint="Put back the 'keys' folder from a copy of the vault.")
    origin = f" from {secret.origin}" if secret.origin else ""
    raise WrongPassword(
        f"The password{origin} opens none of the vault's keys (tried {', '.join(tried)}).",
        hint="Check the password or the key file; 'holdfast key list' with a working one shows who made each key."
        + (f" Damaged key files were passed over: {', '.join(broken)}." if broken else ""),
        tried=tried,
    )


def list_keys(storage: Storage, current: bytes) -> list[KeyInfo]:
    """Every readable key file."""
    return [
        KeyInfo(
            identifier.hex(), key.created, key.username, key.hostname, identifier == current, key.params.n > 1 << 12
        )
        for identifier, key in _key_files(storage, [])
    ]


def remove_key(storage: Storage, prefix: str, current: bytes) -> str:
    """Delete the key whose hex id begins with ``prefix``; returns the whole id. The key in use is never deleted."""
    matches = [
        identifier for identifier, _ in layout.listing(storage, layout.KEYS) if identifier.hex().startswith(prefix)
    ]
    if not matches or not prefix:
        raise NotFound(f"No key begins with '{prefix}'.", hint="'holdfast key list' shows the keys.")
    if len(matches) > 1:
        raise Invalid(f"More than one key begins with '{prefix}'.", hint="Give more digits.")
    if matches[0] == current:
        raise Invalid(
            "That key is the one that opened the vault.", hint="Open the vault with another key to remove it."
        )
    storage.delete(layout.name_of(layout.KEYS, matches[0]))
    return matches[0].hex()


def _key_files(storage: Storage, broken: list[str]) -> Iterator[tuple[bytes, KeyFile]]:
    """Readable keys, those of this host first, cheap ones before expensive ones; the others' ids go to ``broken``."""
    found = []
    for (identifier, _), raw in read_files(storage, layout.listing(storage, layout.KEYS)):
        if isinstance(raw, HoldfastError):
            raise raw
        try:
            if sha256(raw).digest() != identifier:
                raise Corrupt("hash mismatch")
            found.append((identifier, KeyFile.parse(raw)))
        except (Corrupt, Unsupported):
            broken.append(short(identifier))
    host = os.uname().nodename
    found.sort(
        key=lambda pair: (pair[1].params.n * pair[1].params.r * pair[1].params.p > 1 << 19, pair[1].hostname != host)
    )
    yield from found
