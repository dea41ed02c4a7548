"""What the parent snapshot says of a file, and whether the file is still like that."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from holdfast.files.names import Names
from holdfast.files.xattrs import read_xattrs
from holdfast.format.filemode import go_mode
from holdfast.format.node import NodeWriter
from holdfast.format.time import parse_time
from holdfast.format.tree import raw_nodes
from holdfast.kernel.errors import Corrupt, NotFound
from holdfast.kernel.ids import BlobId
from holdfast.vaults.archive.backup.tasks import OldTree

_KEPT_TREES = 64


class OldNode(NamedTuple):
    """A regular file of the parent snapshot: its node's exact JSON (None if it must be made anew) and fields."""

    raw: bytes | None
    fields: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes of content."""
        size: int = self.fields.get("size") or 0
        return size


class OldTrees:
    """Trees of the parent snapshot, a few of them kept parsed. A damaged or missing tree counts as no tree at all:
    the files are then read again, which also heals the vault."""

    def __init__(
        self, read: Callable[[BlobId], bytes], writer: NodeWriter, names: Names, has_blob: Callable[[bytes], bool]
    ) -> None:
        self._read = read
        self._writer = writer
        self._names = names
        self._has_blob = has_blob
        self._files: dict[BlobId, dict[bytes, OldNode]] = {}
        self._subtrees: dict[BlobId, dict[bytes, BlobId]] = {}

    def resolve(self, old: OldTree) -> BlobId | None:
        """The id of a directory's tree in the parent snapshot, or None."""
        if not isinstance(old, tuple):
            return old
        above, name = old
        tree = self.resolve(above)  # type: ignore[arg-type]
        if tree is None:
            return None
        self._load(tree)
        return self._subtrees[tree].get(name)

    def nodes(self, tree: BlobId | None) -> dict[bytes, OldNode]:
        """The regular files of an old tree by name."""
        if tree is None:
            return {}
        self._load(tree)
        return self._files[tree]

    def unchanged(self, old: OldNode, name: bytes, st: os.stat_result, path: bytes) -> bytes | None:
        """The file's node if size, mtime, ctime and inode are what they were and the vault still holds its content."""
        fields = old.fields
        content = fields.get("content")
        if (
            (fields.get("size") or 0) != st.st_size
            or (fields.get("inode") or 0) != st.st_ino
            or not self._same_time(fields.get("mtime"), st.st_mtime_ns)
            or not self._same_time(fields.get("ctime"), st.st_ctime_ns)
            or content is None
        ):
            return None
        try:
            ids = [bytes.fromhex(identifier) for identifier in content]
        except (TypeError, ValueError):
            return None
        if not all(map(self._has_blob, ids)):
            return None
        user, group = self._names.user(st.st_uid), self._names.group(st.st_gid)
        if (
            old.raw is not None
            and fields.get("mode") == go_mode(st.st_mode)
            and fields.get("uid") == st.st_uid
            and fields.get("gid") == st.st_gid
            and (fields.get("user") or "") == user
            and (fields.get("group") or "") == group
            and fields.get("links") == st.st_nlink
            and fields.get("device_id") == st.st_dev
            and fields.get("atime") == fields.get("mtime")
            and self._writer.time(st.st_mtime_ns) == fields.get("mtime")
            and self._writer.time(st.st_ctime_ns) == fields.get("ctime")
        ):
            return old.raw  # attributes cannot change without ctime: the node is what we would write
        xattrs = read_xattrs(path)
        return self._writer.file(name, st, user, group, xattrs, ids, st.st_size)

    def why_changed(self, old: OldNode, st: os.stat_result) -> str:
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
        if not isinstance(text, str):
            return False
        try:
            return parse_time(text) == ns
        except Corrupt:
            return False

    def _load(self, tree: BlobId) -> None:
        if tree in self._files:
            return
        files: dict[bytes, OldNode] = {}
        subtrees: dict[bytes, BlobId] = {}
        try:
            for name, raw, fields in raw_nodes(self._read(tree)):
                if fields.get("type") == "file":
                    files[name] = OldNode(raw, fields)
                elif fields.get("type") == "dir" and fields.get("subtree"):
                    subtrees[name] = BlobId(bytes.fromhex(fields["subtree"]))
        except (Corrupt, NotFound, TypeError, ValueError):
            files, subtrees = {}, {}
        if len(self._files) >= _KEPT_TREES:
            self._files.pop(next(iter(self._files)))
            self._subtrees.pop(next(iter(self._subtrees)))
        self._files[tree] = files
        self._subtrees[tree] = subtrees
