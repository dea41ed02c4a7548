"""What packs hold: compressed blobs where the format has them, plain ones where it does not."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest

from holdfast.format.crypto import MasterKey
from holdfast.format.pack import BlobType
from holdfast.kernel.ids import BlobId
from holdfast.repository.packer import Packer
from holdfast.storage.memory import MemoryStorage

TEXT = b"the same words over and over. " * 1000


@pytest.mark.parametrize("compress", [True, False])
def test_blobs_are_compressed_only_where_the_format_has_it(compress: bool) -> None:
    storage = MemoryStorage("packs")
    packer = Packer(storage, MasterKey.from_random(os.urandom(64)), BlobType.DATA, os.urandom, compress=compress)
    packer.add(BlobId(sha256(TEXT).digest()), TEXT)
    (pack,) = packer.finish()
    if compress:
        assert pack.payload < len(TEXT) // 10 and b'"uncompressed_length"' in pack.listed
    else:
        assert pack.payload == len(TEXT) + 32 and b'"uncompressed_length"' not in pack.listed
