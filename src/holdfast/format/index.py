"""Index files: which blobs lie where in which pack."""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from holdfast.format.crypto import OVERHEAD, Buffer
from holdfast.format.jsonfields import load_object, parse_id, wrong
from holdfast.format.pack import Blob, BlobType
from holdfast.kernel.errors import Corrupt
from holdfast.kernel.ids import PackId

_WHAT = "an index file"
_TYPES = {"data": BlobType.DATA, "tree": BlobType.TREE}
_NAMES = {BlobType.DATA: "data", BlobType.TREE: "tree"}
_UINT32 = 1 << 32


def encode_index(packs: Iterable[tuple[PackId, Sequence[Blob]]]) -> bytes:
    """The JSON of an index file, byte for byte as restic would write it for these packs and blobs in this order."""
    listed: list[str] = []
    for pack_id, blobs in packs:
        entries: list[str] = []
        for blob in blobs:
            raw = "" if blob.raw_length is None else f',"uncompressed_length":{blob.raw_length}'
            entries.append(
                f'{{"id":"{blob.id.hex()}","type":"{_NAMES[blob.type]}","offset":{blob.offset},'
                f'"length":{blob.length}{raw}}}'
            )
        listed.append(f'{{"id":"{pack_id.hex()}","blobs":[{",".join(entries)}]}}')
    return f'{{"packs":[{",".join(listed)}]}}\n'.encode("ascii")


def decode_index(data: Buffer) -> Iterator[tuple[PackId, list[Blob]]]:
    """Every pack of an index file with its blobs, in the order of the file (not of offsets).

    Unknown keys are skipped, and so are ``supersedes`` (historic) and ``packs_to_delete`` (rustic: packs that are
    about to go). Raises ``Corrupt``, at the latest when the damaged pack's turn comes.
    """
    packs = load_object(data, _WHAT).get("packs")
    if packs is None:
        return
    if type(packs) is not list:
        raise wrong(_WHAT, "packs is not a list")
    for pack in packs:
        try:
            pack_id = PackId(parse_id(pack["id"], "id", _WHAT))
            blobs = _decode_blobs(pack["blobs"] or ())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise wrong(_WHAT, "a pack without proper id or blobs") from error
        yield pack_id, blobs


def _decode_blobs(listed: Iterable[dict[str, Any]]) -> list[Blob]:
    types = _TYPES
    blobs: list[Blob] = []
    for entry in listed:
        blob_id = unhexlify(entry["id"])
        offset = entry["offset"]
        length = entry["length"]
        # restic reads 0 and a missing value alike: stored uncompressed.
        raw_length = entry.get("uncompressed_length") or None
        if (
            len(blob_id) != 32
            or not type(offset) is type(length) is int
            or not (0 <= offset < _UINT32 and OVERHEAD <= length < _UINT32)
            or (raw_length is not None and not (type(raw_length) is int and 0 < raw_length < _UINT32))
        ):
            raise _impossible(entry)
        blobs.append(Blob(blob_id, types[entry["type"]], offset, length, raw_length))  # type: ignore[arg-type]
    return blobs


def _impossible(entry: dict[str, Any]) -> Corrupt:
    return wrong(_WHAT, f"impossible place of blob {str(entry['id'])[:8]}")
