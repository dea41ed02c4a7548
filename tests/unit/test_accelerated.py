"""What the extension computes is what OpenSSL computes, and without it (or the instructions) nothing is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.format import accelerated, crypto
from holdfast.format.crypto import BatchOpener, BatchSealer, MasterKey, seal
from holdfast.kernel.errors import Corrupt, Invalid

KEY = MasterKey.from_random(bytes(range(64)))
LARGE = accelerated.LARGE
STARTS = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.integers(1, 40).map(lambda below: (2**128 - below).to_bytes(16, "big")),
    st.integers(1, 40).map(lambda below: (2**64 - below).to_bytes(16, "big")),
).filter(any)
FILLED = st.builds(lambda byte, length: bytes([byte]) * length, st.sampled_from((0, 0x7F, 0xFF)), st.integers(0, 300))
PLAINTEXTS = st.lists(
    st.one_of(st.binary(max_size=300), FILLED, st.sampled_from((bytes(LARGE), bytes(LARGE + 1)))), max_size=12
)

needs_sha = pytest.mark.skipif(
    accelerated._native is None or "sha" not in accelerated._native.processor(),
    reason="no extension, or a processor without SHA instructions",
)
needs_aes = pytest.mark.skipif(not accelerated.can_seal(), reason="no extension, or a processor without AES")


@pytest.fixture(params=["as it is", "no extension", "no instructions", "wrong results"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Machines of which all must give the same results."""

    def forget() -> None:
        accelerated._hash_each.cache_clear()
        crypto._agrees.cache_clear()

    replacement = {
        "no extension": None,
        "no instructions": SimpleNamespace(processor=lambda: ()),
        "wrong results": SimpleNamespace(
            processor=lambda: ("aes", "sha"),
            sha256=lambda messages: [bytes(32) for _ in messages],
            seal=lambda key, nonce, plaintexts: b"".join(nonce + bytes(text) + bytes(16) for text in plaintexts),
            unseal=lambda key, units: [bytes(unit)[16:-16] for unit in units],
        ),
    }
    if request.param in replacement:
        monkeypatch.setattr(accelerated, "_native", replacement[request.param])
    forget()
    yield request.param
    forget()


def test_sha256_vectors(machine: str) -> None:
    """FIPS 180-4's examples, among messages of other lengths."""
    vectors = {
        b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
    }
    assert [digest.hex() for digest in accelerated.sha256_each(list(vectors))] == list(vectors.values())
    assert accelerated.sha256_each([]) == []


@needs_sha
@given(st.lists(st.one_of(st.binary(max_size=400), st.integers(0, 9000).map(bytes)), max_size=9))
def test_many_hashes_are_single_ones(messages: list[bytes]) -> None:
    from holdfast._native import sha256

    wanted = [hashlib.sha256(message).digest() for message in messages]
    assert sha256(messages) == wanted
    assert sha256(tuple(memoryview(bytearray(b"x" + message))[1:] for message in messages)) == wanted


@given(STARTS, PLAINTEXTS)
def test_joined_units_are_single_ones(start: bytes, plaintexts: list[bytes]) -> None:
    try:
        wanted = BatchSealer(KEY).seal(start, plaintexts)
    except Invalid:
        with pytest.raises(Invalid):
            BatchSealer(KEY).seal_joined(start, plaintexts)
        return
    assert b"".join(BatchSealer(KEY).seal_joined(start, plaintexts)) == b"".join(wanted)
    assert BatchOpener(KEY).open(wanted) == plaintexts


def test_every_machine_seals_and_opens_alike(machine: str) -> None:
    plaintexts = [bytes(range(200)), b"", bytes(LARGE + 5), b"z" * 77, b"\xff" * 4096]
    wanted, counter = [], 1 << 64
    for plaintext in plaintexts:
        wanted.append(seal(KEY, counter.to_bytes(16, "big"), plaintext))
        counter += (len(plaintext) + 15) // 16 or 1
    start = (1 << 64).to_bytes(16, "big")
    assert b"".join(BatchSealer(KEY).seal_joined(start, plaintexts)) == b"".join(wanted)
    damaged = [unit[:20] + bytes([unit[20] ^ 1]) + unit[21:] for unit in wanted]
    opened = BatchOpener(KEY).open([*wanted, *damaged, b"short", bytes(40)])
    assert opened == [*plaintexts, *[None] * 7]


@needs_aes
def test_aes_counter_mode_vector() -> None:
    """NIST SP 800-38A, F.5.5."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4") + bytes(range(32))
    start = bytes(range(0xF0, 0x100))
    plaintext = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    sealed = accelerated.seal_small(key, start, [plaintext])
    assert sealed is not None
    assert sealed[16:-16].hex() == (
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )


@needs_aes
def test_poly1305_where_sums_are_extreme() -> None:
    """All bits set in r, k and message drives every limb to its bound; the last reduction is met from both sides."""
    for r in (b"\xff" * 16, b"\x02" + bytes(15), b"\x01" + bytes(15), bytes(12) + b"\xfc\xff\xff\x0f"):
        key = MasterKey(b"\x01" * 32, b"\xff" * 16, r)
        texts = [bytes([fill]) * length for fill in (0, 0xFF) for length in (1, 16, 48, 64, 80, 1024, 4097)]
        stream = seal(key, b"\x07" * 16, bytes(5000))[16:-16]
        for text in texts:
            plaintext = bytes(a ^ b for a, b in zip(text, stream, strict=False))  # so that `text` is what is tagged
            wanted = seal(key, b"\x07" * 16, plaintext)
            assert accelerated.seal_small(key.raw, b"\x07" * 16, [plaintext]) == wanted
            assert accelerated.open_small(key.raw, [wanted]) == [plaintext]


@needs_aes
def test_every_flipped_bit_of_a_small_unit_is_noticed() -> None:
    unit = seal(KEY, b"\x01" * 16, b"some bytes")
    flipped = []
    for bit in range(8 * len(unit)):
        changed = bytearray(unit)
        changed[bit // 8] ^= 1 << bit % 8
        flipped.append(bytes(changed))
    assert BatchOpener(KEY).open(flipped) == [None] * len(flipped)


@needs_aes
def test_the_extension_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        accelerated.seal_small(b"short", bytes(16), [])
    with pytest.raises(ValueError, match="16 bytes"):
        accelerated.seal_small(KEY.raw, b"short", [])
    with pytest.raises(TypeError):
        accelerated.open_small(KEY.raw, ["text"])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        accelerated.sha256_each([b"fine", None])  # type: ignore[list-item]


@needs_aes
def test_a_fault_while_sealing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    sealer = BatchSealer(KEY)
    monkeypatch.setattr(accelerated, "seal_small", lambda key, start, plaintexts: None)
    with pytest.raises(Corrupt, match="memory or processor"):
        sealer.seal_joined(b"\x01" * 16, [b"small"])
