"""Trees as Holdfast and restic write them, taken apart by one regular expression: four times as fast as by JSON.

What the expression does not match is not wrong, only unusual (escaped names, a field of another program): the caller
then decodes the tree in full.
"""

from __future__ import annotations

import re
from operator import lt
from typing import NamedTuple

from holdfast.format.time import parse_time
from holdfast.kernel.errors import Corrupt

_TEXT = rb'[^"\\\x00-\x1f]*+'
_NUMBER = rb"(?:0|[1-9][0-9]{0,18}+)"
# Only the shape; that the second exists is proved once for each distinct one.
_TIME = rb"[-0-9]{10}T[:0-9]{8}(?:\.[0-9]{1,9}+)?(?:Z|[-+][01][0-9]:[0-5][0-9])"
_ID = rb"[0-9a-f]{64}"
_BASE64 = rb"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_XATTR = rb'\{"name":"' + _TEXT + rb'","value":"' + _BASE64 + rb'"\}'

_NODE = re.compile(
    rb'(\{"name":"(' + _TEXT + rb')","type":"(file|dir|symlink|fifo|socket|chardev|dev)"'
    rb'(?:,"mode":' + _NUMBER + rb")?"
    rb',"mtime":"(' + _TIME + rb')","atime":"(?:\4|(' + _TIME + rb'))","ctime":"(?:\4|(' + _TIME + rb'))"'
    rb',"uid":' + _NUMBER + rb',"gid":' + _NUMBER +
    rb'(?:,"user":"' + _TEXT + rb'")?(?:,"group":"' + _TEXT + rb'")?'
    rb'(?:,"inode":' + _NUMBER + rb')?(?:,"device_id":' + _NUMBER + rb")?"
    rb'(?:,"size":(' + _NUMBER + rb'))?(?:,"links":' + _NUMBER + rb")?"
    rb'(?:,"linktarget":"' + _TEXT + rb'")?'
    rb'(?:,"extended_attributes":\[' + _XATTR + rb"(?:," + _XATTR + rb")*+\])?"
    rb'(?:,"device":' + _NUMBER + rb")?"
    rb',"content":(\[(?:"' + _ID + rb'"(?:,"' + _ID + rb'")*+)?\]|null)(?:,"subtree":"(' + _ID + rb')")?\}),'
)  # fmt: skip
_BEGIN, _END = b'{"nodes":[', b"]}\n"


class Row(NamedTuple):
    """What :func:`rows` yields for a node: plain tuples with these fields, as they stand in the JSON."""

    whole: bytes
    name: bytes
    type: bytes
    mtime: bytes
    atime: bytes  # this and ctime are empty where they equal mtime
    ctime: bytes
    size: bytes  # empty: 0
    content: bytes  # with its brackets, or null
    subtree: bytes


Rows = list[tuple[bytes, ...]]


def rows(data: bytes) -> Rows | None:
    """The nodes of a sound tree in canonical form, each a tuple with the fields of :class:`Row`; None for any other."""
    if not (data.startswith(_BEGIN) and data.endswith(_END)):
        return None
    body = data[len(_BEGIN) : -len(_END)]
    if not body:
        return []
    # Every node with the comma after it (the last one is lent one) must make up the whole, so that nothing was skipped.
    found: Rows = _NODE.findall(body + b",")
    if sum([len(row[0]) + 1 for row in found]) != len(body) + 1 or not _is_text(data):
        return None
    return found if _are_sound(found) else None


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _are_sound(found: Rows) -> bool:
    names = [row[1] for row in found]
    if not all(map(lt, names, names[1:])) or b"/" in b"\n".join(names) or not _NO_NAMES.isdisjoint(names):
        return False
    seconds = {row[3][:19] for row in found}
    seconds.update([row[5][:19] for row in found if row[5]])
    seconds.update([row[4][:19] for row in found if row[4]])
    seconds.discard(b"")
    try:
        for second in seconds:
            parse_time(f"{second.decode('ascii')}Z")
    except Corrupt:
        return False
    # Type and content belong together: files have a list, directories a tree, nothing else has either.
    for _, _, kind, _, _, _, _, content, subtree in found:
        if (kind == b"file") == (content == b"null") or (kind == b"dir") != bool(subtree):
            return False
    return True


_NO_NAMES = frozenset((b"", b".", b".."))
