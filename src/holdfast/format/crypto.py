"""Sealing and opening of units: AES-256-CTR with a Poly1305-AES tag, one by one or a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hmac import compare_digest
from itertools import groupby
from mmap import ACCESS_COPY, mmap

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

from holdfast.format import accelerated
from holdfast.kernel.errors import Corrupt, Invalid
from holdfast.kernel.values import dataclass

Buffer = bytes | bytearray | memoryview

NONCE_SIZE = 16
TAG_SIZE = 16
OVERHEAD = NONCE_SIZE + TAG_SIZE
"""How many bytes a sealed unit is longer than its plaintext."""

_BLOCK = 16
_ZERO_NONCE = bytes(NONCE_SIZE)
_COUNTER_RANGE = 1 << 128
# A window of plaintext, ciphertext and check copy stays in the cache of one core; 16 MiB windows ran at half the speed.
_WINDOW = 512 * 1024
# Cipher.update_into wants room for one block less one byte beyond its input.
_SPARE = _BLOCK - 1

_FAULT_HINT = "Test this machine's memory and processor; do not trust other backups that it made recently."
_DAMAGE_HINT = "Run a check of the vault; another copy of the same data may still be intact."


@dataclass(frozen=True, slots=True, repr=False)
class MasterKey:
    """The three keys of a repository: AES-256 (32 bytes), and the Poly1305-AES pair k and r (16 bytes each).

    Never all zero: restic refuses such keys, and so does this class (``Corrupt``).
    """

    encrypt: bytes
    mac_k: bytes
    mac_r: bytes

    def __post_init__(self) -> None:
        if (len(self.encrypt), len(self.mac_k), len(self.mac_r)) != (32, 16, 16):
            raise Corrupt(
                "a key has the wrong length", hint="The key file is damaged; open the vault with another key."
            )
        if not (any(self.encrypt) and any(self.mac_k) and any(self.mac_r)):
            raise Corrupt(
                "a key consists of zeros only", hint="The key file is damaged; open the vault with another key."
            )

    def __repr__(self) -> str:
        return "MasterKey(***)"

    @property
    def raw(self) -> bytes:
        """All 64 bytes: encrypt, k, r. What :meth:`from_random` takes."""
        return self.encrypt + self.mac_k + self.mac_r

    @classmethod
    def from_random(cls, raw64: bytes) -> MasterKey:
        """The key made of 64 random (or derived) bytes: encrypt, then k, then r, as restic lays them out."""
        return cls(bytes(raw64[:32]), bytes(raw64[32:48]), bytes(raw64[48:]))


def _blocks(length: int) -> int:
    """Counter values that an item of ``length`` bytes occupies.

    At least one: two items with one nonce would share a one-time Poly1305 key, and the tag of an empty item
    gives away half of it.
    """
    return (length + _SPARE) // _BLOCK or 1


def _mask_maker(key: MasterKey) -> CipherContext:
    """AES-128(k) on whole blocks; keeps no state between calls."""
    return Cipher(algorithms.AES(key.mac_k), modes.ECB()).encryptor()


def _one_time_keys(mask_maker: CipherContext, mac_r: bytes, nonces: Sequence[bytes]) -> list[bytes]:
    # ECB over the concatenated nonces is AES-128(k) applied to each: one call instead of a cipher object a unit.
    masks = mask_maker.update(b"".join(nonces))
    return [mac_r + masks[at : at + 16] for at in range(0, len(masks), 16)]


def _tag(key: MasterKey, nonce: bytes, ciphertext: Buffer) -> bytes:
    return Poly1305.generate_tag(_one_time_keys(_mask_maker(key), key.mac_r, [nonce])[0], ciphertext)


def seal(key: MasterKey, nonce: bytes, plaintext: Buffer) -> bytes:
    """``nonce | ciphertext | tag`` of one unit. The nonce (16 bytes, never used before with this key) is the caller's.

    Raises ``Invalid`` for a nonce that is all zero or not 16 bytes long.
    """
    if len(nonce) != NONCE_SIZE or nonce == _ZERO_NONCE:
        raise Invalid("a nonce must be 16 bytes and not all zero", hint="Draw another random nonce.")
    ciphertext = Cipher(algorithms.AES(key.encrypt), modes.CTR(nonce)).encryptor().update(plaintext)
    return b"".join((nonce, ciphertext, _tag(key, nonce, ciphertext)))


def unseal(key: MasterKey, sealed: Buffer) -> bytes:
    """The plaintext of one unit.

    Raises ``Corrupt`` if it is shorter than ``OVERHEAD``, has an all-zero nonce, or its tag does not match.
    """
    if len(sealed) < OVERHEAD:
        raise Corrupt("an encrypted unit is too short", hint=_DAMAGE_HINT, length=len(sealed))
    with memoryview(sealed) as whole:
        nonce = bytes(whole[:NONCE_SIZE])
        ciphertext = whole[NONCE_SIZE:-TAG_SIZE]
        if nonce == _ZERO_NONCE:
            raise Corrupt("an encrypted unit has an all-zero nonce", hint=_DAMAGE_HINT)
        if not compare_digest(_tag(key, nonce, ciphertext), bytes(whole[-TAG_SIZE:])):
            raise Corrupt("an encrypted unit was changed: its authentication tag does not match", hint=_DAMAGE_HINT)
        return Cipher(algorithms.AES(key.encrypt), modes.CTR(nonce)).decryptor().update(ciphertext)


def _private_memory(size: int) -> memoryview:
    # Copy-on-write, because mmap's default is shared: two processes that were forked would write into one buffer.
    return memoryview(mmap(-1, size, access=ACCESS_COPY))


class _Scratch:
    """Anonymous memory for one window, allocated once and never zero-filled by us."""

    __slots__ = ("view",)

    def __init__(self) -> None:
        self.view = _private_memory(_WINDOW + _SPARE)


def _windows(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Runs ``[first, last)`` of items that together fit a window; an item larger than that stands alone."""
    runs: list[tuple[int, int]] = []
    first = used = 0
    limit = _WINDOW // _BLOCK
    for at, count in enumerate(blocks):
        if used and used + count > limit:
            runs.append((first, at))
            first, used = at, 0
        used += count
    if len(blocks) > first:
        runs.append((first, len(blocks)))
    return runs


class BatchSealer:
    """Seals many units with one key stream. Not for use by two threads at once."""

    def __init__(self, key: MasterKey) -> None:
        self._raw = key.raw
        self._small = _agrees()
        self._mac_r = key.mac_r
        self._mask_maker = _mask_maker(key)
        # One context each for good: a new nonce costs 0.2 us, a new context 3.5 us.
        cipher = Cipher(algorithms.AES(key.encrypt), modes.CTR(_ZERO_NONCE))
        self._encryptor = cipher.encryptor()
        self._decryptor = cipher.decryptor()
        self._plain = _Scratch()
        self._cipher = _Scratch()
        # A bytearray, because its startswith() compares with memcmp; comparing memoryviews goes byte by byte.
        self._check = bytearray(_WINDOW + _SPARE)

    def seal(self, start: bytes, plaintexts: Sequence[Buffer], *, verify: bool = True) -> list[bytes | bytearray]:
        """Every plaintext as ``nonce | ciphertext | tag``, in order.

        The nonce of the first unit is ``start`` (16 random bytes); each further nonce lies as many counter values
        further, modulo 2**128, as the unit before has blocks of 16 bytes (at least one), so that the counter ranges
        follow each other and never overlap. ``verify`` decrypts everything again, compares, and computes every tag
        anew over the bytes that are returned, as restic does before an upload.

        Raises ``Corrupt`` when the verification fails (the machine is at fault) and ``Invalid`` for a start that
        would give some unit an all-zero nonce.
        """
        if not plaintexts:
            return []
        blocks = [_blocks(len(plaintext)) for plaintext in plaintexts]
        nonces = self._nonces(start, blocks)
        keys = _one_time_keys(self._mask_maker, self._mac_r, nonces)
        check_keys = _one_time_keys(self._mask_maker, self._mac_r, nonces) if verify else []
        encryptor, decryptor = self._encryptor, self._decryptor
        encryptor.reset_nonce(nonces[0])
        decryptor.reset_nonce(nonces[0])
        sealed: list[bytes | bytearray] = []
        for first, last in _windows(blocks):
            if blocks[first] * _BLOCK > _WINDOW:
                sealed.append(self._seal_alone(nonces[first], keys[first], plaintexts[first]))
                if verify:
                    self._compare_alone(sealed[-1], check_keys[first], plaintexts[first])
                continue
            size = sum(blocks[first:last]) * _BLOCK
            self._lay_out(plaintexts[first:last], blocks[first:last], size)
            ciphertext = self._cipher.view
            encryptor.update_into(self._plain.view[:size], ciphertext)
            at = 0
            for item in range(first, last):
                body = ciphertext[at : at + len(plaintexts[item])]
                sealed.append(b"".join((nonces[item], body, Poly1305.generate_tag(keys[item], body))))
                at += blocks[item] * _BLOCK
            if verify:
                decryptor.update_into(ciphertext[:size], self._check)
                self._compare(sealed, check_keys, first, size)
        return sealed

    def seal_joined(self, start: bytes, plaintexts: Sequence[Buffer]) -> list[bytes | bytearray]:
        """The units that :meth:`seal` makes, back to back, in any number of pieces; always verified.

        Raises what :meth:`seal` raises.
        """
        if not self._small:
            return self.seal(start, plaintexts)
        pieces: list[bytes | bytearray] = []
        counter = int.from_bytes(start, "big")
        for large, items in groupby(plaintexts, lambda plaintext: len(plaintext) > accelerated.LARGE):
            run = list(items)
            first = counter.to_bytes(16, "big")
            blocks = sum(map(_blocks, map(len, run)))
            if large or len(start) != NONCE_SIZE or not 0 < counter < _COUNTER_RANGE - blocks:
                pieces += self.seal(first, run)
            else:
                sealed = accelerated.seal_small(self._raw, first, run)
                if sealed is None:
                    raise Corrupt("what was encrypted does not decrypt: a memory or processor fault", hint=_FAULT_HINT)
                pieces.append(sealed)
            counter = (counter + blocks) % _COUNTER_RANGE
        return pieces

    def _seal_alone(self, nonce: bytes, key: bytes, plaintext: Buffer) -> bytearray:
        """A large item, encrypted straight into its unit: the tag's place serves as the spare bytes until it is
        known.
        """
        size = len(plaintext)
        unit = bytearray(size + OVERHEAD)
        self._encryptor.reset_nonce(nonce)
        with memoryview(unit) as view:
            view[:NONCE_SIZE] = nonce
            self._encryptor.update_into(plaintext, view[NONCE_SIZE:])
            view[-TAG_SIZE:] = Poly1305.generate_tag(key, view[NONCE_SIZE:-TAG_SIZE])
        self._encryptor.update(bytes(-size % _BLOCK))  # the next unit begins at the next whole block
        return unit

    def _compare_alone(self, unit: bytes | bytearray, key: bytes, plaintext: Buffer) -> None:
        self._decryptor.reset_nonce(bytes(unit[:NONCE_SIZE]))
        with memoryview(unit) as view, memoryview(plaintext) as plain:
            body = view[NONCE_SIZE:-TAG_SIZE]
            good = Poly1305.generate_tag(key, body) == view[-TAG_SIZE:]
            for at in range(0, len(body), _WINDOW):
                self._decryptor.update_into(body[at : at + _WINDOW], self._check)
                good = good and self._check.startswith(plain[at : at + _WINDOW])
        self._decryptor.update(bytes(-len(plaintext) % _BLOCK))
        if not good:
            raise Corrupt("what was encrypted does not decrypt: a memory or processor fault", hint=_FAULT_HINT)

    @staticmethod
    def _nonces(start: bytes, blocks: Sequence[int]) -> list[bytes]:
        if len(start) != NONCE_SIZE:
            raise Invalid("a nonce must be 16 bytes", hint="Pass 16 random bytes.")
        counter = int.from_bytes(start, "big")
        nonces: list[bytes] = []
        for count in blocks:
            nonces.append(counter.to_bytes(16, "big"))
            counter += count
            if counter >= _COUNTER_RANGE:
                counter -= _COUNTER_RANGE
        if _ZERO_NONCE in nonces:
            raise Invalid("a nonce must not be all zero", hint="Draw another random start.")
        return nonces

    def _lay_out(self, plaintexts: Sequence[Buffer], blocks: Sequence[int], size: int) -> None:
        view = self._plain.view
        at = 0
        for plaintext, count in zip(plaintexts, blocks, strict=True):
            view[at : at + len(plaintext)] = plaintext
            at += count * _BLOCK

    def _compare(self, sealed: Sequence[bytes | bytearray], keys: Sequence[bytes], first: int, size: int) -> None:
        """The last window, read back: ``sealed[first:]`` against what was laid out."""
        tag = Poly1305.generate_tag
        good = self._check.startswith(self._plain.view[:size])
        for item in range(first, len(sealed)):
            unit = sealed[item]
            good = good and tag(keys[item], memoryview(unit)[NONCE_SIZE:-TAG_SIZE]) == unit[-TAG_SIZE:]
        if not good:
            raise Corrupt("what was encrypted does not decrypt: a memory or processor fault", hint=_FAULT_HINT)


class BatchOpener:
    """Opens many units at little cost for each. Not for use by two threads at once."""

    def __init__(self, key: MasterKey) -> None:
        self._raw = key.raw
        self._small = _agrees()
        self._mac_r = key.mac_r
        self._mask_maker = _mask_maker(key)
        self._decryptor = Cipher(algorithms.AES(key.encrypt), modes.CTR(_ZERO_NONCE)).decryptor()

    def open(self, sealed: Sequence[Buffer]) -> list[bytes | None]:
        """The plaintext of every unit, in order; None where the unit is malformed or its tag does not match."""
        if not self._small:
            return self._open_each(sealed)
        large = [at for at, unit in enumerate(sealed) if len(unit) > accelerated.LARGE]
        if not large:
            return accelerated.open_small(self._raw, sealed)
        opened = accelerated.open_small(self._raw, [b"" if len(u) > accelerated.LARGE else u for u in sealed])
        for at, plain in zip(large, self._open_each([sealed[at] for at in large]), strict=True):
            opened[at] = plain
        return opened

    def _open_each(self, sealed: Sequence[Buffer]) -> list[bytes | None]:
        """By OpenSSL, for units of any length.

        For a unit of 300 bytes it takes 2.4 microseconds to make the tag and 0.5 to decrypt. One key stream for
        all neighbours in a pack, whose nonces follow each other, is no gain: their bytes have to be copied twice.
        """
        opened: list[bytes | None] = []
        take = opened.append
        tag, reset, decrypt = Poly1305.generate_tag, self._decryptor.reset_nonce, self._decryptor.update
        nonces = [bytes(unit[:NONCE_SIZE]) if len(unit) >= OVERHEAD else _ZERO_NONCE for unit in sealed]
        keys = _one_time_keys(self._mask_maker, self._mac_r, nonces)
        for unit, nonce, key in zip(sealed, nonces, keys, strict=True):
            body = memoryview(unit)[NONCE_SIZE:-TAG_SIZE]
            if nonce != _ZERO_NONCE and compare_digest(tag(key, body), unit[-TAG_SIZE:]):
                reset(nonce)
                take(decrypt(body))
            else:
                take(None)
        return opened


@cache
def _agrees() -> bool:
    """Whether the extension seals and opens small units exactly as OpenSSL does; asked once a process.

    Known answers: every length of a last block, a carry in the counter, a Poly1305 sum that must be reduced at its end.
    """
    if not accelerated.can_seal():
        return False
    key = MasterKey.from_random(bytes(range(255, 191, -1)))
    texts = [bytes(range(length)) for length in (*range(33), 63, 64, 65, 127, 128, 129, 255)]
    texts += [b"\xff" * length for length in (16, 64, 80)]
    nonce = b"\x5a" * 7 + b"\xff" * 8 + b"\xe0"
    wanted: list[bytes] = []
    counter = int.from_bytes(nonce, "big")
    for text in texts:
        wanted.append(seal(key, counter.to_bytes(16, "big"), text))
        counter += _blocks(len(text))
    forged = [bytes([*unit[:-1], unit[-1] ^ 0x80]) for unit in wanted]
    return (
        accelerated.seal_small(key.raw, nonce, texts) == b"".join(wanted)
        and accelerated.open_small(key.raw, wanted) == texts
        and not any(plain is not None for plain in accelerated.open_small(key.raw, forged))
    )
