"""Sealing: what comes back, what is refused, and that no two units share a counter or a one-time key."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.format.crypto import OVERHEAD, BatchOpener, BatchSealer, MasterKey, seal, unseal
from holdfast.kernel.errors import Corrupt, Invalid

KEY = MasterKey.from_random(bytes(range(64)))
OTHER = MasterKey.from_random(bytes(range(1, 65)))
NONCES = st.binary(min_size=16, max_size=16).filter(any)
BATCHES = st.lists(st.binary(max_size=200), max_size=20)


def test_poly1305_aes_vectors() -> None:
    """Bernstein's Poly1305-AES paper, appendix B: the tags that restic's own tests use."""
    # With an AES-CTR plaintext chosen so that the ciphertext is the paper's message, the tag must be the paper's.
    vectors = [
        (
            "f3f6",
            "ec074c835580741701425b623235add6",
            "851fc40c3467ac0be05cc20404f3f700",
            "fb447350c4e868c52ac3275cf9d4327e",
            "f4c633c3044fc145f84f335cb81953de",
        ),
        (
            "",
            "75deaa25c09f208e1dc4ce6b5cad3fbf",
            "a0f3080000f46400d0c7e9076c834403",
            "61ee09218d29b0aaed7e154a2c5509cc",
            "dd3fab2251f11ac759f0887129cc2ee7",
        ),
    ]
    for message, mac_k, mac_r, nonce, tag in vectors:
        key = MasterKey(bytes(range(32)), bytes.fromhex(mac_k), bytes.fromhex(mac_r))
        stream = seal(key, bytes.fromhex(nonce), bytes(len(message) // 2))[16:-16]
        plaintext = bytes(a ^ b for a, b in zip(stream, bytes.fromhex(message), strict=True))
        assert seal(key, bytes.fromhex(nonce), plaintext).hex() == nonce + message + tag


@given(NONCES, st.binary(max_size=500))
def test_one_unit_round_trip(nonce: bytes, plaintext: bytes) -> None:
    sealed = seal(KEY, nonce, plaintext)
    assert len(sealed) == len(plaintext) + OVERHEAD
    assert sealed[:16] == nonce
    assert unseal(KEY, sealed) == plaintext
    assert unseal(KEY, memoryview(bytearray(sealed))) == plaintext


@given(NONCES, BATCHES, st.booleans())
def test_a_batch_is_what_single_seals_would_be(start: bytes, plaintexts: list[bytes], verify: bool) -> None:
    try:
        sealed = BatchSealer(KEY).seal(start, plaintexts, verify=verify)
    except Invalid:
        # A start just below 2**128 may reach the all-zero nonce.
        assert int.from_bytes(start, "big") > 2**127
        return
    assert sealed == [seal(KEY, unit[:16], plaintext) for unit, plaintext in zip(sealed, plaintexts, strict=True)]
    assert BatchOpener(KEY).open(sealed) == plaintexts
    used: set[int] = set()
    for unit in sealed:
        first = int.from_bytes(unit[:16], "big")
        taken = {(first + block) % 2**128 for block in range(max(1, (len(unit) - OVERHEAD + 15) // 16))}
        assert not used & taken
        used |= taken


def test_a_batch_larger_than_its_window() -> None:
    plaintexts = [bytes((size % 251,)) * size for size in (700_000, 0, 1, 300_000, 300_000, 15, 1_600_000, 17)]
    sealer, opener = BatchSealer(KEY), BatchOpener(KEY)
    start = b"\xff" * 15 + b"\x01"
    for _ in range(2):
        sealed = sealer.seal(start, [*plaintexts, memoryview(b"view"), bytearray(b"array")])
        assert opener.open(sealed) == [*plaintexts, b"view", b"array"]
        assert [unseal(KEY, unit) for unit in sealed] == [*plaintexts, b"view", b"array"]


def test_a_giant_item_does_not_keep_its_memory() -> None:
    sealer = BatchSealer(KEY)
    giant = bytes(20_000_000)
    assert unseal(KEY, sealer.seal(b"n" * 16, [giant])[0]) == giant
    assert sealer.seal(b"n" * 16, [b"small"]) == [seal(KEY, b"n" * 16, b"small")]


def test_the_counter_wraps_but_never_to_a_zero_nonce() -> None:
    sealer = BatchSealer(KEY)
    wrapped = sealer.seal(b"\xff" * 16, [b"x" * 32, b"y"])
    assert wrapped[1][:16] == (1).to_bytes(16, "big")
    assert BatchOpener(KEY).open(wrapped) == [b"x" * 32, b"y"]
    with pytest.raises(Invalid):
        sealer.seal(b"\xff" * 16, [b"x", b"y"])
    with pytest.raises(Invalid):
        seal(KEY, bytes(16), b"x")


def test_every_flipped_bit_is_noticed() -> None:
    sealed = seal(KEY, b"n" * 16, b"payload")
    changed = []
    for bit in range(len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(damaged))
        with pytest.raises(Corrupt):
            unseal(KEY, damaged)
    assert BatchOpener(KEY).open(changed) == [None] * len(changed)


def test_every_truncation_is_noticed() -> None:
    sealed = seal(KEY, b"n" * 16, b"payload")
    cut = [sealed[:length] for length in range(len(sealed))]
    for unit in cut:
        with pytest.raises(Corrupt):
            unseal(KEY, unit)
    assert BatchOpener(KEY).open(cut) == [None] * len(cut)


@given(BATCHES, st.data())
def test_damage_costs_only_the_damaged_unit(plaintexts: list[bytes], data: st.DataObject) -> None:
    sealed = BatchSealer(KEY).seal(b"\x01" * 16, plaintexts)
    hit = data.draw(st.sets(st.integers(0, max(0, len(sealed) - 1)))) if sealed else set()
    damaged = [unit[:-1] + bytes((unit[-1] ^ 1,)) if at in hit else unit for at, unit in enumerate(sealed)]
    order = data.draw(st.permutations(range(len(sealed))))
    expected = [None if at in hit else plaintexts[at] for at in order]
    assert BatchOpener(KEY).open([damaged[at] for at in order]) == expected


def test_an_all_zero_nonce_and_a_foreign_key_are_refused() -> None:
    sealed = seal(KEY, b"n" * 16, b"payload")
    with pytest.raises(Corrupt):
        unseal(KEY, bytes(16) + sealed[16:])
    with pytest.raises(Corrupt):
        unseal(OTHER, sealed)
    assert BatchOpener(OTHER).open([sealed, bytes(16) + sealed[16:]]) == [None, None]


def test_a_fault_between_encrypting_and_returning_is_noticed() -> None:
    """The verification sees a buffer that changes under it, as with bad memory."""

    class Faulty(BatchSealer):
        def _lay_out(self, *args: object) -> None:
            super()._lay_out(*args)  # type: ignore[arg-type]
            self.laid_out += 1

        def _compare(self, *args: object) -> None:
            self._plain.view[3] ^= 4
            super()._compare(*args)  # type: ignore[arg-type]

        laid_out = 0

    with pytest.raises(Corrupt, match="memory or processor fault"):
        Faulty(KEY).seal(b"n" * 16, [b"payload"])


def test_a_fault_in_the_emitted_bytes_is_noticed() -> None:
    class Faulty(BatchSealer):
        def _compare(self, sealed: list[bytes], *args: object) -> None:  # type: ignore[override]
            sealed[-1] = sealed[-1][:20] + b"?" + sealed[-1][21:]
            super()._compare(sealed, *args)  # type: ignore[arg-type]

    with pytest.raises(Corrupt, match="memory or processor fault"):
        Faulty(KEY).seal(b"n" * 16, [b"first", b"payload"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forked_processes_do_not_share_buffers() -> None:
    """Workers inherit a sealer from their parent; what one lays out must not reach the other. Openers have none."""
    sealer = BatchSealer(KEY)
    scratches = [sealer._plain, sealer._cipher]
    before = [bytes(scratch.view[:64]) for scratch in scratches]
    child = os.fork()
    if child == 0:
        for scratch in scratches:
            scratch.view[:64] = b"c" * 64
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert [bytes(scratch.view[:64]) for scratch in scratches] == before


def test_keys_are_hidden_and_never_zero() -> None:
    assert "01" not in repr(KEY)
    assert repr(KEY) == "MasterKey(***)"
    for raw in (bytes(64), bytes(32) + b"x" * 32, b"x" * 32 + bytes(16) + b"x" * 16, b"x" * 48 + bytes(16), b"x" * 63):
        with pytest.raises(Corrupt):
            MasterKey.from_random(raw)
