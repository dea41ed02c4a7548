"""Key, config, index, snapshot and lock files, their compression, and pack headers: round trips and refusals."""

from __future__ import annotations

import contextlib
import json
from random import Random
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.format.compression import Compressor, Decompressor, decompress
from holdfast.format.config import RepoConfig, polynomial_from_random, polynomial_is_irreducible
from holdfast.format.crypto import MasterKey
from holdfast.format.index import decode_index, encode_index
from holdfast.format.keyfile import KdfParams, KeyFile, derive, normalise_password, unlock, wrap
from holdfast.format.lock import LockInfo
from holdfast.format.pack import (
    MAX_HEADER,
    Blob,
    BlobType,
    decode_header,
    encode_header,
    encode_trailer,
    header_size,
    parse_trailer,
)
from holdfast.format.snapshot import Snapshot
from holdfast.format.unpacked import decode_unpacked, encode_unpacked
from holdfast.kernel.errors import Corrupt, Internal, Invalid, Unsupported
from holdfast.kernel.ids import BlobId, SnapshotId

IDS = st.binary(min_size=32, max_size=32)
KEY = MasterKey.from_random(bytes(range(64)))
CHEAP = KdfParams(2, 1, 1)
POLYNOMIAL = 0x3DA3358B4DC173  # the polynomial of the chunker's published test vectors


def make_key(password: bytes = b"secret") -> KeyFile:
    names = {"created": "2026-01-02T03:04:05Z", "username": "ä<b>", "hostname": 'h"o'}
    return wrap(KEY, password, params=CHEAP, salt=b"s" * 64, nonce=b"n" * 16, **names)


def changed(raw: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(raw) | fields).encode()


# --- keys


def test_key_file_round_trip() -> None:
    keyfile = make_key()
    raw = keyfile.encode()
    assert KeyFile.parse(raw) == keyfile
    order = ["created", "username", "hostname", "kdf", "N", "r", "p", "salt", "data"]
    assert list(json.loads(raw)) == order
    assert b"\\u003cb\\u003e" in raw
    assert unlock(KeyFile.parse(raw), b"secret") == KEY
    assert unlock(KeyFile.parse(raw), b"Secret") is None


def test_scrypt_vector() -> None:
    """RFC 7914, section 12."""
    assert derive(KdfParams(1024, 8, 16), b"NaCl", b"password").hex().startswith("fdbabe1c9d3472007856e7190d01e9fe")


def test_scrypt_beyond_the_limit_of_the_standard_library_is_only_asked_for_within_ours() -> None:
    raw = make_key().encode()
    for cost in ({"N": 1 << 30, "r": 8}, {"N": 32768, "r": 1 << 20}, {"p": 1 << 40}, {"N": 1 << 40}):
        with pytest.raises(Unsupported) as caught:
            KeyFile.parse(changed(raw, **cost))
        assert caught.value.hint
    impossible: tuple[dict[str, Any], ...] = ({"N": 0}, {"N": 3}, {"N": -2}, {"r": 0}, {"p": 0}, {"N": "x"}, {"N": 1.5})
    for nonsense in impossible:
        with pytest.raises(Corrupt):
            KeyFile.parse(changed(raw, **nonsense))


def test_key_files_that_cannot_be_used_say_why() -> None:
    raw = make_key().encode()
    with pytest.raises(Corrupt, match="not JSON"):
        KeyFile.parse(raw[:-1])
    with pytest.raises(Corrupt, match="not a JSON object"):
        KeyFile.parse(b"[]")
    with pytest.raises(Unsupported, match="argon2"):
        KeyFile.parse(changed(raw, kdf="argon2"))
    for salt in ("", "c2FsdA==", "?"):
        with pytest.raises(Corrupt, match="salt"):
            KeyFile.parse(changed(raw, salt=salt))
    for data in ("", "AAAA", None):
        with pytest.raises(Corrupt):
            KeyFile.parse(changed(raw, data=data))
    with pytest.raises(Invalid):
        wrap(KEY, b"", params=CHEAP, salt=b"short", nonce=b"n" * 16, created="", username="", hostname="")


def test_every_truncation_of_a_key_file_is_refused() -> None:
    raw = make_key().encode()
    for length in range(len(raw)):
        with pytest.raises(Corrupt):
            KeyFile.parse(raw[:length])


@pytest.mark.parametrize(
    ("raw", "from_file", "expected"),
    [
        (b" secret \r\n", False, b"secret"),
        (b"\xef\xbb\xbfsecret\n", True, b"secret"),
        (b"\xef\xbb\xbfsecret", False, b"\xef\xbb\xbfsecret"),
        ("\ufeffgeheim-ß\n".encode("utf-16-le"), True, "geheim-ß".encode()),
        ("\ufeffgeheim-ß\n".encode("utf-16-be"), True, "geheim-ß".encode()),
        (b"\xff\x00 x\n", False, b"\xff\x00 x"),
        ("\u00a0\u2003pass word\u3000".encode(), True, b"pass word"),
        (b"\x1cx\x1f", True, b"\x1cx\x1f"),
        (b"", True, b""),
    ],
)
def test_passwords_are_trimmed_as_restic_does(raw: bytes, from_file: bool, expected: bytes) -> None:
    assert normalise_password(raw, from_file=from_file) == expected


# --- compression


@given(st.binary(max_size=2000))
def test_compression_round_trip(data: bytes) -> None:
    packed = Compressor().compress(data)
    assert decompress(packed, limit=len(data)) == data
    assert Decompressor().decompress(memoryview(packed), size=len(data)) == data
    with pytest.raises(Corrupt):
        Decompressor().decompress(packed, size=len(data) + 1)
    if data:
        with pytest.raises(Corrupt):
            Decompressor().decompress(packed, size=len(data) - 1)
        with pytest.raises(Corrupt):
            decompress(packed, limit=len(data) - 1)


@pytest.mark.parametrize("size", [0, 1, 100, 300_000])
def test_frames_without_a_content_size(size: int) -> None:
    data = Random(1).randbytes(size)
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    assert zstandard.frame_content_size(packed) == -1
    assert decompress(packed, limit=1 << 30) == data
    assert decompress(packed, limit=size) == data
    assert Decompressor().decompress(packed, size=size) == data


@pytest.mark.parametrize("declared", [True, False])
def test_bombs_are_refused(declared: bool) -> None:
    bomb = zstandard.ZstdCompressor(write_content_size=declared).compress(bytes(50_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(Corrupt):
        decompress(bomb, limit=1_000_000)
    with pytest.raises(Corrupt):
        Decompressor().decompress(bomb, size=1_000_000)
    with pytest.raises(Corrupt):
        decode_unpacked(b"\x02" + bomb, limit=1_000_000)


@pytest.mark.parametrize("declared", [True, False])
def test_damaged_frames_are_refused(declared: bool) -> None:
    packed = zstandard.ZstdCompressor(write_content_size=declared).compress(b"some text, some text" * 50)
    for length in range(len(packed)):
        with pytest.raises(Corrupt):
            decompress(packed[:length], limit=10_000)
    for garbage in (b"\0", packed):
        with pytest.raises(Corrupt):
            decompress(packed + garbage, limit=10_000)


def test_unpacked_files() -> None:
    compressor = Compressor()
    assert decode_unpacked(encode_unpacked(b'{"a":1}', compressor)) == b'{"a":1}'
    assert encode_unpacked(b"{}", compressor)[0] == 2
    assert decode_unpacked(b'{"a":1}') == b'{"a":1}'
    assert decode_unpacked(bytearray(b"[]")) == b"[]"
    for bad in (b"", b"\x01{}", b" {}", b"\x02", b"\x02{}", b'"'):
        with pytest.raises(Corrupt):
            decode_unpacked(bad)
    with pytest.raises(Corrupt):
        decode_unpacked(b"[     ]", limit=3)


# --- config


def test_config_round_trip_keeps_what_it_does_not_know() -> None:
    config = RepoConfig(2, b"i" * 32, POLYNOMIAL, {"is_hot": True, "chunker": "rabin"})
    raw = config.encode()
    assert RepoConfig.parse(raw) == config
    assert raw.startswith(b'{"version":2,"id":"6969')
    assert b'"chunker_polynomial":"3da3358b4dc173"' in raw
    assert RepoConfig.parse(changed(raw, version=1)).version == 1


def test_config_refusals() -> None:
    raw = RepoConfig(2, b"i" * 32, POLYNOMIAL).encode()
    for version in (0, 3, None):
        with pytest.raises(Unsupported) as caught:
            RepoConfig.parse(changed(raw, version=version))
        assert caught.value.hint
    for fields in (
        {"id": "12"},
        {"id": None},
        {"chunker_polynomial": "3da3358b4dc175"},
        {"chunker_polynomial": "b"},
        {"chunker_polynomial": "-3da3358b4dc173"},
        {"chunker_polynomial": ""},
        {"chunker_polynomial": 17},
        {"version": "2"},
    ):
        with pytest.raises(Corrupt):
            RepoConfig.parse(changed(raw, **fields))


def test_irreducible_polynomials_of_small_degree_are_exactly_the_known_ones() -> None:
    """Counts from Gauss's formula (OEIS A001037), and a sieve by multiplication."""

    def product(first: int, second: int) -> int:
        return 0 if not second else (first if second & 1 else 0) ^ (product(first, second >> 1) << 1)

    reducible = {product(a, b) for a in range(2, 64) for b in range(2, 64)}
    found = [p for p in range(2, 64) if polynomial_is_irreducible(p)]
    assert found == [p for p in range(2, 64) if p not in reducible]
    assert not polynomial_is_irreducible(0)
    assert not polynomial_is_irreducible(1)
    counts = [sum(map(polynomial_is_irreducible, range(1 << d, 2 << d))) for d in range(1, 9)]
    assert counts == [2, 1, 2, 3, 6, 9, 18, 30]


def test_random_polynomials() -> None:
    random = Random(5)
    for _ in range(5):
        polynomial = polynomial_from_random(random.randbytes)
        assert polynomial >> 53 == 1
        assert polynomial & 1
        assert polynomial_is_irreducible(polynomial)
    assert polynomial_is_irreducible(POLYNOMIAL)


def test_a_broken_random_source_does_not_hang() -> None:
    with pytest.raises(Internal):
        polynomial_from_random(bytes)


# --- packs and indexes

BLOBS = st.builds(
    Blob,
    IDS,
    st.sampled_from(BlobType),
    st.just(0),
    st.integers(32, 100_000),
    st.none() | st.integers(1, (1 << 32) - 1),
)


def placed(blobs: list[Blob]) -> list[Blob]:
    offset = 0
    for blob in blobs:
        blob.offset = offset
        offset += blob.length
    return blobs


@given(st.lists(BLOBS, min_size=1, max_size=20))
def test_pack_header_round_trip(blobs: list[Blob]) -> None:
    placed(blobs)
    raw = encode_header(blobs)
    assert decode_header(raw) == blobs
    assert decode_header(memoryview(raw)) == blobs
    assert header_size(blobs) == len(raw) + 32 + 4
    assert [blob.is_compressed for blob in blobs] == [blob.raw_length is not None for blob in blobs]


@given(st.lists(BLOBS, min_size=1, max_size=4), st.data())
def test_a_cut_pack_header_never_yields_other_blobs(blobs: list[Blob], data: st.DataObject) -> None:
    raw = encode_header(placed(blobs))
    length = data.draw(st.integers(0, len(raw) - 1))
    try:
        decoded = decode_header(raw[:length])
    except Corrupt:
        return
    assert decoded == blobs[: len(decoded)]


@given(st.binary(max_size=200))
def test_random_pack_headers_do_not_crash(raw: bytes) -> None:
    with contextlib.suppress(Corrupt):
        assert encode_header(decode_header(raw)) == raw


def test_impossible_pack_headers() -> None:
    entry = encode_header([Blob(b"i" * 32, BlobType.DATA, 0, 100, None)])  # type: ignore[arg-type]
    for bad in (b"", b"\x04" + entry[1:], entry[:1] + b"\x1f\0\0\0" + entry[5:], entry + b"\0"):
        with pytest.raises(Corrupt):
            decode_header(bad)
    for blob in (
        Blob(b"i" * 32, BlobType.DATA, 0, 31, None),  # type: ignore[arg-type]
        Blob(b"i" * 32, BlobType.DATA, 0, 50, 0),  # type: ignore[arg-type]
        Blob(b"i" * 32, BlobType.DATA, 0, 1 << 32, None),  # type: ignore[arg-type]
    ):
        with pytest.raises(Invalid):
            encode_header([blob])


def test_trailer() -> None:
    assert parse_trailer(encode_trailer(69)) == 69
    assert parse_trailer(encode_trailer(MAX_HEADER)) == MAX_HEADER
    for bad in (b"", b"\0\0\0", bytes(4), b"\x44\0\0\0", b"\x01\0\0\x01", b"\xff" * 4, bytes(5)):
        with pytest.raises(Corrupt):
            parse_trailer(bad)
    with pytest.raises(Invalid):
        encode_trailer(MAX_HEADER + 1)


@given(st.lists(st.tuples(IDS, st.lists(BLOBS, max_size=5)), max_size=4))
def test_index_round_trip(packs: list[tuple[Any, list[Blob]]]) -> None:
    raw = encode_index(packs)
    assert raw.endswith(b"}\n")
    assert list(decode_index(raw)) == packs


def test_index_reading_is_tolerant() -> None:
    blob = {"id": "aa" * 32, "type": "tree", "offset": 5, "length": 40, "uncompressed_length": 0, "new": 1}
    packs = [{"id": "bb" * 32, "blobs": [blob], "time": "x", "size": 3}]
    index = {"supersedes": ["cc" * 32], "packs": packs, "packs_to_delete": packs, "later": {}}
    expected = (b"\xbb" * 32, [Blob(b"\xaa" * 32, BlobType.TREE, 5, 40, None)])  # type: ignore[arg-type]
    assert list(decode_index(json.dumps(index).encode())) == [expected]
    assert list(decode_index(b"{}")) == []
    assert list(decode_index(b'{"packs":null}')) == []


def test_an_odd_form_of_an_index_changes_nothing() -> None:
    """The usual form is read piece by piece; what is unusual anywhere must not lose, double or mix up packs."""
    blobs = [
        Blob(number.to_bytes(32, "big"), BlobType(number % 2), number, 40, number or None)  # type: ignore[arg-type]
        for number in range(900)
    ]
    packs = [(b"p" * 32, blobs), (b"q" * 32, blobs[:1]), (b"r" * 32, []), (b"s" * 32, blobs[:2])]
    raw = encode_index(packs)  # type: ignore[arg-type]
    assert list(decode_index(raw)) == packs
    assert list(decode_index(raw.rstrip())) == packs
    assert list(decode_index(json.dumps(json.loads(raw), indent=1).encode())) == packs
    for odd in (b'"new":"},{","id"', b'"new":[{"a":1},{"a":2}],"id"', b'"new":"]}","id"', b' "id"'):
        last = raw.rindex(b'{"id"', 0, raw.rindex(b'{"id"'))
        assert list(decode_index(raw[: last + 1] + odd + raw[last + 5 :])) == packs
    with pytest.raises(Corrupt):
        list(decode_index(raw.replace(b'"offset":899,', b'"offset":true,')))


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "aa"},
        {"id": 5},
        {"id": "zz" * 32},
        {"type": "other"},
        {"type": None},
        {"type": []},
        {"offset": -1},
        {"offset": "1"},
        {"offset": None},
        {"length": 31},
        {"length": 1 << 32},
        {"length": 40.5},
        {"uncompressed_length": -1},
        {"uncompressed_length": "x"},
    ],
)
def test_damaged_index_entries_are_refused(fields: dict[str, Any]) -> None:
    blob = {"id": "aa" * 32, "type": "tree", "offset": 5, "length": 40} | fields
    raw = json.dumps({"packs": [{"id": "bb" * 32, "blobs": [blob]}]}).encode()
    with pytest.raises(Corrupt):
        list(decode_index(raw))


def test_damaged_indexes_are_refused() -> None:
    raw = encode_index([(b"p" * 32, [Blob(b"i" * 32, BlobType.DATA, 0, 40, 9)])])  # type: ignore[arg-type, list-item]
    for length in range(len(raw) - 1):
        with pytest.raises(Corrupt):
            list(decode_index(raw[:length]))
    for bad in (b'{"packs":{}}', b'{"packs":[1]}', b'{"packs":[{"id":"00","blobs":[]}]}', b'{"packs":[{"blobs":[]}]}'):
        with pytest.raises(Corrupt):
            list(decode_index(bad))


# --- snapshots and locks

TEXT = st.text(max_size=20)
SNAPSHOTS = st.builds(
    Snapshot,
    time=st.just("2026-01-02T03:04:05.6+01:00"),
    tree=IDS,
    paths=st.lists(TEXT).map(tuple),
    parent=st.none() | IDS,
    hostname=TEXT,
    username=TEXT,
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    excludes=st.lists(TEXT).map(tuple),
    tags=st.lists(TEXT).map(tuple),
    original=st.none() | IDS,
    program_version=TEXT,
    summary=st.none() | st.dictionaries(TEXT, st.integers(0, 2**63)),
    extra=st.dictionaries(st.sampled_from(["label", "delete", "description"]), TEXT | st.integers(0, 9) | st.none()),
)


@given(SNAPSHOTS)
def test_snapshot_round_trip(snapshot: Snapshot) -> None:
    raw = snapshot.encode()
    assert Snapshot.parse(raw) == snapshot
    assert not raw.endswith(b"\n")
    assert not {60, 62, 38} & set(raw)


def test_snapshot_fields_are_in_restics_order() -> None:
    parent, tree, original = SnapshotId(b"p" * 32), BlobId(b"t" * 32), SnapshotId(b"o" * 32)
    moment = "2026-01-02T03:04:05Z"
    full = Snapshot(moment, tree, ("/a",), parent, "h", "u", 1, 2, ("e",), ("t",), original, "v", {"x": 1})
    order = "time parent tree paths hostname username uid gid excludes tags original program_version summary"
    assert list(json.loads(full.encode())) == order.split()
    assert full.time_ns == 1767323045 * 10**9
    bare = Snapshot("2026-01-02T03:04:05Z", b"t" * 32, ())  # type: ignore[arg-type]
    assert list(json.loads(bare.encode())) == ["time", "tree", "paths"]


def test_a_path_that_is_not_utf8_can_be_written() -> None:
    snapshot = Snapshot("2026-01-02T03:04:05Z", b"t" * 32, ("/caf\udce9",))  # type: ignore[arg-type]
    assert Snapshot.parse(snapshot.encode()).paths == ("/caf\ufffd",)


@pytest.mark.parametrize(
    "fields",
    [
        {"time": None},
        {"time": "yesterday"},
        {"tree": None},
        {"tree": "00"},
        {"paths": "x"},
        {"paths": [1]},
        {"parent": "x"},
        {"uid": "0"},
        {"uid": -1},
        {"tags": {}},
        {"summary": []},
        {"hostname": 5},
    ],
)
def test_damaged_snapshots_are_refused(fields: dict[str, Any]) -> None:
    raw = Snapshot("2026-01-02T03:04:05Z", b"t" * 32, ("/a",)).encode()  # type: ignore[arg-type]
    with pytest.raises(Corrupt):
        Snapshot.parse(changed(raw, **fields))


LOCKS = st.builds(
    LockInfo,
    st.just("2026-01-02T03:04:05.000000006Z"),
    st.booleans(),
    TEXT,
    TEXT,
    st.integers(0, 2**22),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)


@given(LOCKS)
@settings(max_examples=30)
def test_lock_round_trip(lock: LockInfo) -> None:
    assert LockInfo.parse(lock.encode()) == lock
    assert lock.time_ns == 1767323045 * 10**9 + 6


def test_locks_of_root_leave_ids_out_and_damage_is_refused() -> None:
    lock = LockInfo("2026-01-02T03:04:05Z", True, "h", "root", 7)
    raw = lock.encode()
    assert raw == b'{"time":"2026-01-02T03:04:05Z","exclusive":true,"hostname":"h","username":"root","pid":7}'
    damages: tuple[dict[str, Any], ...] = (
        {"time": ""},
        {"exclusive": "yes"},
        {"pid": -1},
        {"pid": "7"},
        {"hostname": []},
    )
    for fields in damages:
        with pytest.raises(Corrupt):
            LockInfo.parse(changed(raw, **fields))
