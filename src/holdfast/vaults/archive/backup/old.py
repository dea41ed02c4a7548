"""What the parent snapshot says of a file, and whether the file is still like that."""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from holdfast.files.names import Names
from holdfast.files.xattrs import read_xattrs
from holdfast.format.gostring import json_name
from holdfast.format.node import NodeWriter, Stat
from holdfast.format.time import parse_time
from holdfast.format.tree import is_laid_out, raw_nodes, raw_slice, raw_slices
from holdfast.kernel.errors import Corrupt, NotFound
from holdfast.kernel.ids import BlobId
from holdfast.sources.directory import Item
from holdfast.sources.records import pack
from holdfast.vaults.archive.backup.tasks import OldTree

_KEPT_TREES = 64
_FEW = 16  # nodes that are looked up one by one
_NAME = len(b'{"name":"')
_NAME_END = b'","type":"'
_CONTENT = b'"content":["'
_NO_CONTENT = b'"content":[]}'
_SUBTREE = b'"subtree":"'


class OldNode:
    """A node of the parent snapshot: its exact JSON, parsed only when needed."""

    __slots__ = ("_fields", "raw")

    def __init__(self, raw: bytes, fields: dict[str, Any] | None = None) -> None:
        self.raw = raw
        self._fields = fields

    @property
    def fields(self) -> dict[str, Any]:
        """The parsed node; empty if this is none."""
        if self._fields is None:
            try:
                fields = orjson.loads(self.raw)
            except orjson.JSONDecodeError:
                fields = {}
            self._fields = fields if isinstance(fields, dict) else {}
        return self._fields

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file."""
        return self.fields.get("type") == "file"


class OldNodes:
    """The nodes of one old tree. Looks a few up where they are, and takes the tree apart if more are wanted."""

    __slots__ = ("_data", "_left", "_taken")

    def __init__(self, data: bytes = b"") -> None:
        """``data``: the tree; empty where there is none."""
        self._data = data
        self._left = _FEW
        self._taken: dict[bytes, OldNode] | None = None

    @property
    def data(self) -> bytes:
        """The tree."""
        return self._data

    def __bool__(self) -> bool:
        return bool(self._data)

    def find(self, name: bytes) -> OldNode | None:
        """The node of that name."""
        return self.get(json_name(name).encode()) if self._data else None

    def get(self, json: bytes) -> OldNode | None:
        """The node of a name as JSON has it, without the quotes."""
        if self._taken is None and self._left and is_laid_out(self._data):
            self._left -= 1
            raw = raw_slice(self._data, json)
            return None if raw is None else OldNode(raw)
        if self._taken is None:
            self._taken = _taken_apart(self._data)
        return self._taken.get(json)


_NONE = OldNodes()


class OldTrees:
    """Trees of the parent snapshot, a few of them kept. A damaged or missing tree counts as no tree at all:
    the files are then read again, which also heals the vault.
    """

    def __init__(
        self,
        read: Callable[[BlobId], bytes],
        writer: NodeWriter,
        names: Names,
        has_blob: Callable[[bytes], bool],
        *,
        trusted: bool,
    ) -> None:
        self._read = read
        self._writer = writer
        self._names = names
        self._has_blob = has_blob
        self._trusted = trusted  # every index file of the parent's time is still there, and so are all its blobs
        self._trees: dict[BlobId, OldNodes] = {}

    def resolve(self, old: OldTree) -> BlobId | None:
        """The id of a directory's tree in the parent snapshot, or None."""
        if not isinstance(old, tuple):
            return old
        above, name = old
        tree = self.resolve(above)  # type: ignore[arg-type]
        node = self.nodes(tree).find(name)
        if node is None:
            return None
        at = node.raw.rfind(_SUBTREE) + len(_SUBTREE)
        try:
            subtree = unhexlify(node.raw[at : at + 64])
        except ValueError:
            return None
        return BlobId(subtree) if len(subtree) == 32 else None

    def nodes(self, tree: BlobId | None) -> OldNodes:
        """The nodes of an old tree."""
        if tree is None:
            return _NONE
        found = self._trees.get(tree)
        if found is None:
            if len(self._trees) >= _KEPT_TREES:
                self._trees.pop(next(iter(self._trees)))
            try:
                found = OldNodes(self._read(tree))
            except (Corrupt, NotFound):
                found = _NONE
            self._trees[tree] = found
        return found

    def settled(self, nodes: OldNodes, items: Sequence[Item]) -> list[bytes | None] | None:
        """For each entry of a directory its node, if it is a file that is found not to have changed all at once; None
        for what :meth:`unchanged` has to be asked about, and instead of the list for all of it."""
        packed = pack(items) if nodes else None
        if packed is None:
            return None
        found = self._writer.settled(nodes.data, packed, self._names.user, self._names.group)
        if found is not None and not self._trusted:
            return [raw if raw is not None and self._holds(_content(raw)) else None for raw in found]
        return found

    def unchanged(self, nodes: OldNodes, name: bytes, st: Stat, path: bytes) -> tuple[bytes | None, OldNode | None]:
        """(the file's node, if it has not changed; what the parent has under that name, if anything).

        Unchanged: size, mtime, ctime and inode are what they were, and the vault still holds the content. ``path``
        reaches the file, for its attributes.
        """
        start = self._writer.file_start(name, st, self._names.user(st.st_uid), self._names.group(st.st_gid))
        old = nodes.get(start[_NAME : start.find(_NAME_END)])
        if old is None:
            return None, None
        raw = old.raw
        # Attributes cannot change without ctime, which stands in what is compared: the node is what we would write.
        if raw.startswith(start):
            if self._trusted and raw.endswith((b'"]}', _NO_CONTENT)):
                return raw, old
            ids = _content(raw)
            if ids is not None:
                return (raw if self._holds(ids) else None), old
        return self._remade(old, name, st, path), old

    def same_database(self, nodes: OldNodes, name: bytes, seen: Stat) -> tuple[bytes | None, OldNode | None]:
        """As :meth:`unchanged`, for a file whose saved size may be another than its own: ``seen`` has none."""
        start = self._writer.file_start(name, seen, self._names.user(seen.st_uid), self._names.group(seen.st_gid))
        old = nodes.get(start[_NAME : start.find(_NAME_END)])
        if old is None or not old.raw.startswith(start):
            return None, old
        ids = _content(old.raw)
        return (old.raw if self._holds(ids) else None), old

    def _remade(self, old: OldNode, name: bytes, st: Stat, path: bytes) -> bytes | None:
        """Another program's node, or one of the same content with another owner, mode or time zone: written anew."""
        fields = old.fields
        content = fields.get("content")
        if (
            content is None
            or (fields.get("size") or 0) != st.st_size
            or (fields.get("inode") or 0) != st.st_ino
            or not self._same_time(fields.get("mtime"), st.st_mtime_ns)
            or not self._same_time(fields.get("ctime"), st.st_ctime_ns)
        ):
            return None
        try:
            ids = [unhexlify(identifier) for identifier in content]
        except (TypeError, ValueError):
            return None
        if not all(map(self._has_blob, ids)):
            return None
        user, group = self._names.user(st.st_uid), self._names.group(st.st_gid)
        return self._writer.file(name, st, user, group, read_xattrs(path), ids, st.st_size)

    def why_changed(self, old: OldNode, st: Stat) -> str:
        """In words, what differs from the parent snapshot."""
        fields = old.fields
        reasons = []
        if (fields.get("size") or 0) != st.st_size:
            reasons.append("size")
        if not self._same_time(fields.get("mtime"), st.st_mtime_ns):
            reasons.append("modification time")
        if (fields.get("inode") or 0) != st.st_ino:
            reasons.append("inode")
        if not reasons and not self._same_time(fields.get("ctime"), st.st_ctime_ns):
            reasons.append("change time")
        return ", ".join(reasons) or "content is missing from the vault, or a reread was asked for"

    def _same_time(self, text: object, ns: int) -> bool:
        if text == self._writer.time(ns):
            return True
        try:
            return isinstance(text, str) and parse_time(text) == ns
        except Corrupt:
            return False

    def _holds(self, ids: list[bytes] | None) -> bool:
        return ids is not None and all(map(self._has_blob, ids))


def _taken_apart(data: bytes) -> dict[bytes, OldNode]:
    try:
        slices = raw_slices(data)
        if slices is not None:
            return {raw[_NAME : raw.find(_NAME_END)]: OldNode(raw) for raw in slices}
        return {json_name(name).encode(): OldNode(orjson.dumps(node), node) for name, _, node in raw_nodes(data)}
    except Corrupt:
        return {}


def _content(raw: bytes) -> list[bytes] | None:
    """The blobs of a file's node whose last field is its content; None if it is not."""
    if raw.endswith(_NO_CONTENT):
        return []
    at = raw.rfind(_CONTENT)
    if at < 0 or not raw.endswith(b'"]}'):
        return None
    try:
        ids = [unhexlify(identifier) for identifier in raw[at + len(_CONTENT) : -3].split(b'","')]
    except ValueError:
        return None
    return ids if all(len(identifier) == 32 for identifier in ids) else None
