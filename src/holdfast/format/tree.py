"""Trees: the sorted nodes of one directory as a blob of JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from holdfast.format.crypto import Buffer
from holdfast.format.gostring import unquote_name
from holdfast.format.jsonfields import load_object, wrong
from holdfast.format.node import Node, node_from_json

_WHAT = "a tree"
_PREFIX = b'{"nodes":['
_SUFFIX = b"]}\n"
# Where a canonical tree goes from one node to the next. Inside a string a quote has a backslash before it, so this
# cannot match there; whether it matched between nodes is proved by parsing every slice.
_SEAM = re.compile(rb'\},(?=\{"name":"[^"\\]*(?:\\.[^"\\]*)*","type":")')
_TYPES = frozenset(("file", "dir", "symlink", "socket", "chardev", "dev", "fifo"))


def encode_tree(node_jsons: Iterable[bytes]) -> bytes:
    """The blob of a tree from its nodes' JSON, which must be in ascending order of the raw names."""
    return _PREFIX + b",".join(node_jsons) + _SUFFIX


def _listed(data: Buffer) -> list[Any]:
    nodes = load_object(data, _WHAT).get("nodes")
    if nodes is None:
        return []
    if type(nodes) is not list or not set(map(type, nodes)) <= {dict}:
        raise wrong(_WHAT, "nodes is not a list of objects")
    return nodes


def decode_tree(data: Buffer) -> list[Node]:
    """The nodes of a tree in their stored order; unknown keys beside them are skipped.

    Raises ``Corrupt`` for what cannot be a tree. Order, names and the rest are :func:`check_tree`'s business.
    """
    return [node_from_json(fields) for fields in _listed(data)]


def raw_nodes(data: bytes) -> list[tuple[bytes, bytes | None, dict[str, Any]]]:
    """Name, exact JSON bytes and parsed JSON of every node, in stored order; for comparing without decoding.

    The JSON bytes are None for all nodes if the tree is not laid out as restic and Holdfast do. Raises ``Corrupt``
    for what cannot be a tree.
    """
    slices = raw_slices(data)
    if slices is not None:
        try:
            return [(_name(fields := orjson.loads(raw)), raw, fields) for raw in slices]
        except orjson.JSONDecodeError:
            # Some seam lay inside of a node (for example between two objects of a field we do not know).
            pass
    return [(_name(fields), None, fields) for fields in _listed(data)]


def raw_slices(data: bytes) -> list[bytes] | None:
    """The exact JSON of every node, found by the seams between them; None for a tree that is not laid out as restic's.

    Not parsed: a slice of an unusual tree may be something else than a node.
    """
    if not is_laid_out(data):
        return None
    begin, end = len(_PREFIX), len(data) - len(_SUFFIX)
    if begin == end:
        return []
    slices: list[bytes] = []
    for seam in _SEAM.finditer(data, begin, end):
        slices.append(data[begin : seam.start() + 1])
        begin = seam.end()
    slices.append(data[begin:end])
    return slices


def is_laid_out(data: bytes) -> bool:
    """Whether a tree begins and ends as restic's do: then :func:`raw_slice` finds its nodes."""
    return data.startswith(_PREFIX) and data.endswith(_SUFFIX)


def raw_slice(data: bytes, name: bytes) -> bytes | None:
    """The exact JSON of one node of a tree that :func:`is_laid_out`, as :func:`raw_slices` has it; None if there is
    none. ``name``: as JSON has it, without its quotes."""
    key = b'{"name":"' + name + b'","type":"'
    at = data.find(key)
    while at > len(_PREFIX) and data[at - 2 : at] != b"},":  # inside of another node
        at = data.find(key, at + 1)
    if at < 0:
        return None
    seam = _SEAM.search(data, at)
    return data[at : seam.start() + 1 if seam else len(data) - len(_SUFFIX)]


def _name(fields: Any) -> bytes:
    name = fields.get("name") if type(fields) is dict else None
    if type(name) is not str:
        raise wrong(_WHAT, "a node has no name")
    return unquote_name(name)


def check_tree(nodes: Sequence[Node]) -> list[str]:
    """What is wrong with a tree, in sentences for people; empty if it is sound."""
    problems: list[str] = []
    previous: bytes | None = None
    for node in nodes:
        name = node.name
        shown = repr(name)[1:]
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            problems.append(f"node {shown} has a name that no file can have")
        if previous is not None and name <= previous:
            problems.append(f"node {shown} appears twice" if name == previous else f"node {shown} is out of order")
        previous = name
        if node.type not in _TYPES:
            problems.append(f"node {shown} has the unknown type {node.type!r}")
        elif node.type == "file" and node.content is None:
            problems.append(f"file {shown} has no list of contents")
        elif node.type == "dir" and node.subtree is None:
            problems.append(f"directory {shown} has no tree")
    return problems
