"""The usual node, an ordinary file of one blob, straight from a tree's JSON at half the cost of a whole node."""

from __future__ import annotations

from binascii import unhexlify
from typing import Any

from holdfast.files.safepath import LONGEST_NAME
from holdfast.format.filemode import posix_permissions
from holdfast.format.gostring import unquote_name
from holdfast.format.node import Node, node_from_json
from holdfast.format.time import parse_time
from holdfast.vaults.archive.restore.tasks import Meta

RESERVED = frozenset((b"", b".", b".."))

PlainFile = tuple[bytes, bytes, Meta]
"""Name, id of the only blob, metadata."""


def is_possible(name: bytes) -> bool:
    """Whether a file can have this name."""
    return not (name in RESERVED or b"/" in name or b"\0" in name or len(name) > LONGEST_NAME)


def split_plain(listed: list[dict[str, Any]]) -> tuple[list[PlainFile], list[Node]] | None:
    """The ordinary files of one folder, and its other nodes; None if anything is odd, above all names or their order.

    Then whoever asked looks at each node closely. 300,000 files: 4 microseconds less each. Raises ``Corrupt`` where
    ``node_from_json`` does.
    """
    files: list[PlainFile] = []
    others: list[Node] = []
    previous = b""
    try:
        for fields in listed:
            content = fields["content"]
            if (
                content.__class__ is list
                and len(content) == 1
                and fields["type"] == "file"
                and fields.get("links", 1) == 1
                and not fields.get("extended_attributes")
            ):
                name = unquote_name(fields["name"])
                mode, uid, gid, mtime_text = fields.get("mode", 0), fields["uid"], fields["gid"], fields["mtime"]
                if not (type(mode) is type(uid) is type(gid) is int and mode | uid | gid >= 0):
                    return None
                mtime = parse_time(mtime_text)
                atime = mtime if fields["atime"] == mtime_text else parse_time(fields["atime"])
                blob = unhexlify(content[0])
                if len(blob) != 32:
                    return None
                permissions = mode if mode < 0o1000 else posix_permissions(mode)
                files.append((name, blob, (permissions, uid, gid, mtime, atime, ())))
            else:
                node = node_from_json(fields)
                name = node.name
                others.append(node)
            if name <= previous or not is_possible(name):
                return None
            previous = name
    except (KeyError, TypeError, ValueError):
        return None
    return files, others
