"""The quick way to a pack's header and index entries says what the thorough one says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.format.index import encode_index
from holdfast.format.pack import Blob, BlobType, decode_header, describe, encode_header
from holdfast.kernel.ids import BlobId, PackId

listed = st.lists(
    st.tuples(
        st.binary(min_size=32, max_size=32).map(BlobId),
        st.integers(32, 1 << 24),
        st.none() | st.integers(1, 1 << 24),
    ),
    min_size=1,
    max_size=30,
)


@given(st.sampled_from(BlobType), listed)
def test_describe_agrees_with_header_and_index(kind: BlobType, entries: list[tuple[BlobId, int, int | None]]) -> None:
    header, text = describe(kind, entries)
    blobs = []
    offset = 0
    for identifier, length, raw_length in entries:
        blobs.append(Blob(identifier, kind, offset, length, raw_length))
        offset += length
    assert header == encode_header(blobs)
    assert decode_header(header) == blobs
    pack = PackId(bytes(32))
    assert encode_index([(pack, blobs)]) == b'{"packs":[{"id":"%s","blobs":[%s]}]}\n' % (b"00" * 32, text)
