"""scrypt by lanes of our own: the same bytes as OpenSSL's, from threads or not, with the extension or without it."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.format import keyfile
from holdfast.format.chunker import native_available
from holdfast.format.crypto import MasterKey
from holdfast.format.keyfile import KdfParams, derive, unlock, wrap
from holdfast.kernel.errors import Corrupt, WrongPassword
from holdfast.kernel.secret import Secret
from holdfast.kernel.threads import map_in_threads
from holdfast.repository.keys import open_with, write_key
from holdfast.storage.memory import MemoryStorage

needs_native = pytest.mark.skipif(not native_available(), reason="the C extension was not built")
SALT = bytes(range(64))
MASTER = MasterKey.from_random(bytes(range(64)))
# The cheapest that is derived by lanes: an odd number of them, so that one is alone.
COSTLY = KdfParams(4096, 8, 3)


def openssl(params: KdfParams, password: bytes, salt: bytes = SALT) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=params.n, r=params.r, p=params.p, maxmem=1 << 30, dklen=64)


@pytest.fixture
def fresh_self_test() -> Iterator[None]:
    keyfile._native_agrees.cache_clear()
    yield
    keyfile._native_agrees.cache_clear()


# --- ROMix


@needs_native
def test_romix_vector() -> None:
    """RFC 7914, section 10."""
    from holdfast._native import romix

    block = bytes.fromhex(
        "f7ce0b653d2d72a4108cf5abe912ffdd777616dbbb27a70e8204f3ae2d0f6fad89f68f4811d1e87bcc3bd7400a9ffd29"
        "094f0184639574f39ae5a1315217bcd7894991447213bb226c25b54da86370fbcd984380374666bb8ffcb5bf40c254b0"
        "67d27c51ce4ad5fed829c90b505a571b7f4d1cad6a523cda770e67bceaaf7e89"
    )
    mixed = bytes.fromhex(
        "79ccc193629debca047f0b70604bf6b62ce3dd4a9626e355fafc6198e6ea2b46d58413673b99b029d665c357601fb426"
        "a0b2f4bba200ee9f0a43d19b571a9c71ef1142e65d5a266fddca832ce59faa7cac0b9cf1be2bffca300d01ee387619c4"
        "ae12fd4438f203a0e4e1c47ec314861f4e9087cb33396a6873e8f9d2539a4b8e"
    )
    assert romix(block, 16, 1) == mixed
    assert romix(block + block, 16, 1) == mixed * 2


@needs_native
@settings(deadline=None, max_examples=60)
@given(
    log_n=st.integers(1, 9),
    r=st.integers(1, 9),
    p=st.integers(1, 6),
    password=st.binary(max_size=80),
    salt=st.binary(max_size=80),
    pairs=st.booleans(),
)
def test_romix_makes_what_openssl_derives(
    log_n: int, r: int, p: int, password: bytes, salt: bytes, pairs: bool
) -> None:
    from holdfast._native import romix

    size = 128 * r * (2 if pairs else 1)
    blocks = hashlib.pbkdf2_hmac("sha256", password, salt, 1, 128 * r * p)
    mixed = b"".join(romix(blocks[at : at + size], 1 << log_n, r) for at in range(0, len(blocks), size))
    expected = openssl(KdfParams(1 << log_n, r, p), password, salt)
    assert hashlib.pbkdf2_hmac("sha256", password, mixed, 1, 64) == expected


@needs_native
def test_romix_takes_every_contiguous_buffer_and_changes_none() -> None:
    from holdfast._native import romix

    data = bytes(range(256))
    expected = romix(data, 32, 1)
    changeable = bytearray(data)
    assert romix(changeable, 32, 1) == expected
    assert changeable == data
    assert romix(memoryview(b"." + data)[1:], 32, 1) == expected
    assert romix(memoryview(data).cast("Q"), 32, 1) == expected
    with pytest.raises(BufferError):
        romix(memoryview(data + data)[::2], 32, 1)
    held = sys.getrefcount(data)
    romix(data, 32, 1)
    assert sys.getrefcount(data) == held


@needs_native
@pytest.mark.parametrize(
    ("size", "n", "r"),
    [(0, 2, 1), (127, 2, 1), (129, 2, 1), (384, 2, 1), (128, 2, 2), (128, 2, 0), (0, 2, 0), (128, 2, -1)]
    + [(128, n, 1) for n in (-(2**63), -2, 0, 1, 3, 2**20 - 1)],
)
def test_romix_refuses_what_is_no_scrypt(size: int, n: int, r: int) -> None:
    from holdfast._native import romix

    with pytest.raises(ValueError):
        romix(bytes(size), n, r)


@needs_native
@pytest.mark.parametrize("n", [2**62, 2**56, 2**50])
def test_romix_without_enough_memory_says_so(n: int) -> None:
    from holdfast._native import romix

    with pytest.raises(MemoryError):
        romix(bytes(128), n, 1)
    with pytest.raises(MemoryError):
        romix(bytes(256), n, 1)
    with pytest.raises(OverflowError):
        romix(bytes(128), 2**64, 1)


# --- derive and unlock


@pytest.mark.parametrize("lanes", [map, map_in_threads])
@pytest.mark.parametrize("p", [1, 2, 3, 4, 7])
def test_a_derived_key_is_openssls(lanes: keyfile.LaneMap, p: int) -> None:
    params = KdfParams(8192, 8, p)
    for password in (b"", b"x" * 200):
        assert derive(params, SALT, password, lanes) == openssl(params, password)


@pytest.mark.parametrize("params", [KdfParams(2, 1, 40_000), KdfParams(4, 20_000, 1), KdfParams(2, 1, 1)])
def test_unusual_costs_are_derived_alike(params: KdfParams) -> None:
    """40,000 tiny lanes, huge blocks, next to no cost: RFC 7914 allows all of them."""
    assert derive(params, SALT, b"secret", map_in_threads) == openssl(params, b"secret")


def test_more_iterations_than_the_block_size_allows_are_refused() -> None:
    with pytest.raises(Corrupt):
        derive(KdfParams(65_536, 1, 2), SALT, b"secret")


def test_big_lanes_are_derived_one_after_the_other() -> None:
    """Their memory, 68 MiB each here, is not held twice."""

    def never(_: Callable[[bytes], bytes], __: Iterable[bytes]) -> Iterable[bytes]:
        raise AssertionError("asked to spread lanes that are too big for it")

    params = KdfParams(32_768, 17, 2)
    assert derive(params, SALT, b"secret", never) == openssl(params, b"secret")


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "_native", None)


def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "_native", SimpleNamespace(romix=lambda blocks, n, r: bytes(len(blocks))))


def wrong_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a compiler might break it: right for pairs only."""
    right = keyfile._native.romix

    def romix(blocks: bytes, n: int, r: int) -> bytes:
        return right(blocks, n, r) if len(blocks) == 256 * r else bytes(len(blocks))

    monkeypatch.setattr(keyfile, "_native", SimpleNamespace(romix=romix))


def starved(monkeypatch: pytest.MonkeyPatch) -> None:
    right = keyfile._native.romix

    def romix(blocks: bytes, n: int, r: int) -> bytes:
        if n > 16:
            raise MemoryError
        return right(blocks, n, r)

    monkeypatch.setattr(keyfile, "_native", SimpleNamespace(romix=romix))


@pytest.mark.usefixtures("fresh_self_test")
@pytest.mark.parametrize(
    "spoil", [without, wrong, pytest.param(wrong_alone, marks=needs_native), pytest.param(starved, marks=needs_native)]
)
def test_a_vault_opens_without_a_usable_extension(
    spoil: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    assert derive(COSTLY, SALT, b"secret", map_in_threads) == openssl(COSTLY, b"secret")
    key_file = costly_key()
    assert unlock(key_file, b"secret", map_in_threads) == MASTER
    assert unlock(key_file, b"Secret", map_in_threads) is None


@needs_native
@pytest.mark.usefixtures("fresh_self_test")
def test_a_new_key_does_not_depend_on_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = costly_key()
    keyfile._native_agrees()
    wrong(monkeypatch)
    assert costly_key() == expected


def costly_key() -> keyfile.KeyFile:
    names = {"created": "2026-01-02T03:04:05Z", "username": "u", "hostname": "h"}
    return wrap(MASTER, b"secret", params=COSTLY, salt=SALT, nonce=b"n" * 16, **names)


class StoppedClock:
    def now_ns(self) -> int:
        return 1_767_322_800 * 10**9

    def utc_offset(self, at_ns: int) -> int:
        return 0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


def test_a_password_opens_its_vault_and_leaves_no_thread() -> None:
    storage = MemoryStorage("test")
    threads = threading.active_count()
    secret = Secret(b"correct horse")
    identifier = write_key(
        storage, MASTER, secret, clock=StoppedClock(), draw=lambda size: b"r" * size, username="u", hostname="h"
    )
    assert open_with(storage, secret) == (MASTER, identifier)
    with pytest.raises(WrongPassword):
        open_with(storage, Secret(b"battery staple"))
    assert threading.active_count() == threads
