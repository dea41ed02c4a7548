"""Key files: the master key, wrapped with a key that scrypt derives from a password."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Callable, Iterable
from functools import cache

import orjson
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from holdfast.format.crypto import OVERHEAD, Buffer, MasterKey, seal, unseal
from holdfast.format.gostring import json_string
from holdfast.format.jsonfields import load_object, take_base64, take_int, take_text, wrong
from holdfast.kernel.errors import Corrupt, Invalid, Unsupported
from holdfast.kernel.native import native as _native
from holdfast.kernel.values import dataclass

LaneMap = Callable[[Callable[[bytes], bytes], Iterable[bytes]], Iterable[bytes]]
"""``map`` of one iterable, results in order; it may work on several items at a time."""

SALT_SIZE = 64
_WHAT = "a key file"
_MEMORY_LIMIT = 4 << 30
# restic's calibration ends near N*r*p = 2 million for half a second; this allows about five minutes.
_WORK_LIMIT = 1 << 30
# hashlib refuses a maxmem that does not fit a C int.
_HASHLIB_MEMORY = (1 << 31) - 1
# Lanes are computed two at a time, and by several threads, only while they are small (restic's limit: 60 MiB).
_LANE_MEMORY = 64 << 20
# Below (about 12 ms) OpenSSL is soon enough done.
# Lanes that are mixed side by side, piece after piece. Of two threads one then takes pairs (64 ms), the other single
# lanes (50 ms): as fast as pairs alone for p up to 6, with 96 MiB instead of 128.
_TOGETHER = (2, 1, 1)
_WORTH_LANES = 1 << 16
# The white space that Go's strings.TrimSpace removes.
_WHITE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


@dataclass(frozen=True, slots=True)
class KdfParams:
    """Cost of scrypt: ``n`` (a power of two), block size ``r``, parallelism ``p``. Memory is about 128*n*r bytes."""

    n: int
    r: int
    p: int


STRETCHED = KdfParams(32_768, 8, 5)
"""For passwords that people choose. OWASP asks for p=3 at this n; restic calibrates itself to p=4..7."""

UNSTRETCHED = KdfParams(256, 8, 1)
"""For generated keys with 256 bits of entropy, which stretching cannot make safer."""


@dataclass(frozen=True)
class KeyFile:
    """One password's way to the master key. ``data`` is the sealed master key; ``created`` is RFC 3339 text."""

    created: str
    username: str
    hostname: str
    params: KdfParams
    salt: bytes
    data: bytes

    @classmethod
    def parse(cls, raw: Buffer) -> KeyFile:
        """Read a key file (plain JSON).

        Raises ``Corrupt`` if it is damaged, ``Unsupported`` for another key derivation or an absurd cost.
        """
        fields = load_object(raw, _WHAT)
        kdf = take_text(fields, "kdf", _WHAT)
        if kdf != "scrypt":
            raise Unsupported(
                f"a key file uses the key derivation {kdf!r}; only scrypt is known",
                hint="Open the vault with another key, or with the program that made this one.",
            )
        params = KdfParams(take_int(fields, "N", _WHAT), take_int(fields, "r", _WHAT), take_int(fields, "p", _WHAT))
        _check_cost(params)
        salt = take_base64(fields, "salt", _WHAT)
        data = take_base64(fields, "data", _WHAT)
        if len(salt) != SALT_SIZE:
            raise wrong(_WHAT, f"its salt has {len(salt)} bytes instead of {SALT_SIZE}")
        if len(data) <= OVERHEAD:
            raise wrong(_WHAT, "its encrypted part is too short")
        created, username, hostname = (take_text(fields, key, _WHAT) for key in ("created", "username", "hostname"))
        return cls(created, username, hostname, params, salt, data)

    def encode(self) -> bytes:
        """The file's bytes, fields in restic's order; their SHA-256 is its name."""
        return b"".join(
            (
                b'{"created":',
                json_string(self.created),
                b',"username":',
                json_string(self.username),
                b',"hostname":',
                json_string(self.hostname),
                b',"kdf":"scrypt","N":%d,"r":%d,"p":%d,"salt":"' % (self.params.n, self.params.r, self.params.p),
                base64.b64encode(self.salt),
                b'","data":"',
                base64.b64encode(self.data),
                b'"}',
            )
        )


def _check_cost(params: KdfParams) -> None:
    n, r, p = params.n, params.r, params.p
    if n < 2 or n & (n - 1) or r < 1 or p < 1:
        raise wrong(_WHAT, f"impossible scrypt parameters N={n} r={r} p={p}")
    if 128 * r * (n + p) > _MEMORY_LIMIT or n * r * p > _WORK_LIMIT:
        raise Unsupported(
            f"a key file asks for an absurd amount of memory or work (scrypt N={n} r={r} p={p})",
            hint="The key file may be forged or damaged; open the vault with another key.",
        )
    if n.bit_length() > 16 * r:  # RFC 7914, section 2: N < 2^(128 * r / 8)
        raise wrong(_WHAT, f"impossible scrypt parameters N={n} r={r} p={p}")


def derive(params: KdfParams, salt: bytes, password: bytes, lanes: LaneMap = map) -> bytes:
    """64 bytes (AES key, MAC key k, MAC key r) from a password by scrypt.

    An expensive derivation runs in the C extension, where it exists and has shown in this process that it agrees with
    OpenSSL; ``lanes`` then maps over independent pieces that release the interpreter lock (decision 0011). Raises
    ``Corrupt`` for impossible and ``Unsupported`` for absurd parameters.
    """
    _check_cost(params)
    if params.n * params.r * params.p > _WORTH_LANES and _native is not None and _native_agrees():
        try:
            return _derive_natively(params, salt, password, lanes)
        except MemoryError:
            pass  # OpenSSL needs the memory of one lane only
    return _derive_plainly(params, salt, password)


def _derive_plainly(params: KdfParams, salt: bytes, password: bytes) -> bytes:
    n, r, p = params.n, params.r, params.p
    memory = 128 * r * (n + p + 2) + (1 << 20)
    if memory > _HASHLIB_MEMORY:
        return Scrypt(salt=salt, length=64, n=n, r=r, p=p).derive(password)
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=64)


def _derive_natively(params: KdfParams, salt: bytes, password: bytes, lanes: LaneMap) -> bytes:
    """RFC 7914, section 6."""
    n, r, p = params.n, params.r, params.p
    small = 128 * n * r <= _LANE_MEMORY
    blocks = hashlib.pbkdf2_hmac("sha256", password, salt, 1, 128 * r * p)
    pieces: list[bytes] = []
    at = 0
    for together in itertools.cycle(_TOGETHER if small else (1,)):
        if at == len(blocks):
            break
        pieces.append(blocks[at : at + 128 * r * together])
        at += len(pieces[-1])
    mixed = (lanes if small else map)(lambda piece: _native.romix(piece, n, r), pieces)
    return hashlib.pbkdf2_hmac("sha256", password, b"".join(mixed), 1, 64)


@cache
def _native_agrees() -> bool:
    """Whether the extension derives what OpenSSL does, for a pair of lanes and for one alone; asked once a process."""
    params = KdfParams(16, 2, 3)
    salt, password = bytes(range(SALT_SIZE)), b"known answer"
    return _derive_natively(params, salt, password, map) == _derive_plainly(params, salt, password)


def unlock(keyfile: KeyFile, password: bytes, lanes: LaneMap = map) -> MasterKey | None:
    """The master key, or None if this is not the password of this key file. For ``lanes`` see `derive`.

    Raises ``Corrupt`` if the password fits but what it protects is no key.
    """
    wrapping = MasterKey.from_random(derive(keyfile.params, keyfile.salt, password, lanes))
    try:
        plain = unseal(wrapping, keyfile.data)
    except Corrupt:
        return None
    fields = load_object(plain, _WHAT)
    mac = fields.get("mac")
    if type(mac) is not dict:
        raise wrong(_WHAT, "no MAC key inside")
    return MasterKey(take_base64(fields, "encrypt", _WHAT), take_base64(mac, "k", _WHAT), take_base64(mac, "r", _WHAT))


def wrap(
    master: MasterKey,
    password: bytes,
    *,
    params: KdfParams,
    salt: bytes,
    nonce: bytes,
    created: str,
    username: str,
    hostname: str,
) -> KeyFile:
    """A key file that opens ``master`` with ``password``; ``salt`` is 64 and ``nonce`` 16 fresh random bytes.

    Derived by OpenSSL alone: what a new key depends on for years is not left to code of our own. Raises ``Invalid`` if
    the salt or the nonce cannot be random, else what `derive` raises.
    """
    if len(salt) != SALT_SIZE or not any(salt):
        raise Invalid(f"a salt must be {SALT_SIZE} random bytes", hint="Draw a new salt.")
    inside = {
        "mac": {"k": base64.b64encode(master.mac_k).decode(), "r": base64.b64encode(master.mac_r).decode()},
        "encrypt": base64.b64encode(master.encrypt).decode(),
    }
    _check_cost(params)
    wrapping = MasterKey.from_random(_derive_plainly(params, salt, password))
    return KeyFile(created, username, hostname, params, salt, seal(wrapping, nonce, orjson.dumps(inside)))


def normalise_password(raw: bytes, *, from_file: bool) -> bytes:
    """The bytes that restic would use: white space trimmed on both ends; from a file, a byte-order mark dropped first.

    A file in UTF-16 (with its mark) is turned into UTF-8, as restic does. Bytes that are no text survive unchanged.
    """
    text = ""
    encoding = "utf-8"
    if from_file:
        for mark, marked in _BYTE_ORDER_MARKS:
            if raw.startswith(mark):
                raw, encoding = raw[len(mark) :], marked
                break
    text = raw.decode(encoding, "surrogateescape" if encoding == "utf-8" else "replace")
    return text.strip(_WHITE).encode("utf-8", "surrogateescape")
