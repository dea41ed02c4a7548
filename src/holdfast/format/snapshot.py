"""Snapshots: which tree was saved when, from where, by whom."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from holdfast.format.crypto import Buffer
from holdfast.format.gostring import json_value
from holdfast.format.jsonfields import load_object, take_id, take_int, take_text, take_texts, wrong
from holdfast.format.time import parse_time
from holdfast.kernel.ids import BlobId, SnapshotId
from holdfast.kernel.values import dataclass

_WHAT = "a snapshot"


@dataclass(frozen=True)
class Snapshot:
    """One saved version. ``time`` is RFC 3339 text with the host's offset; empty and zero fields are not written.

    Paths are text; bytes in them that are not UTF-8 (surrogate escapes) are written as U+FFFD, as restic does.
    ``extra`` keeps fields that this version does not know, so that rewriting a snapshot loses nothing.
    """

    time: str
    tree: BlobId
    paths: tuple[str, ...]
    parent: SnapshotId | None = None
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    excludes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    original: SnapshotId | None = None
    program_version: str = ""
    summary: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def time_ns(self) -> int:
        """When the backup began, in nanoseconds since 1970."""
        return parse_time(self.time)

    @classmethod
    def parse(cls, raw: Buffer) -> Snapshot:
        """Read a snapshot's JSON. Raises ``Corrupt`` for what cannot be a snapshot."""
        fields = load_object(raw, _WHAT)
        time = take_text(fields, "time", _WHAT)
        parse_time(time)
        tree = take_id(fields, "tree", _WHAT)
        if tree is None:
            raise wrong(_WHAT, "it has no tree")
        parent = take_id(fields, "parent", _WHAT)
        original = take_id(fields, "original", _WHAT)
        summary = fields.pop("summary", None)
        if summary is not None and type(summary) is not dict:
            raise wrong(_WHAT, "its summary is not an object")
        return cls(
            time=time,
            tree=BlobId(tree),
            paths=take_texts(fields, "paths", _WHAT),
            parent=None if parent is None else SnapshotId(parent),
            hostname=take_text(fields, "hostname", _WHAT),
            username=take_text(fields, "username", _WHAT),
            uid=take_int(fields, "uid", _WHAT),
            gid=take_int(fields, "gid", _WHAT),
            excludes=take_texts(fields, "excludes", _WHAT),
            tags=take_texts(fields, "tags", _WHAT),
            original=None if original is None else SnapshotId(original),
            program_version=take_text(fields, "program_version", _WHAT),
            summary=summary,
            extra=fields,
        )

    def encode(self) -> bytes:
        """The JSON, fields in restic's order, no newline at the end."""
        optional = {
            "hostname": self.hostname,
            "username": self.username,
            "uid": self.uid,
            "gid": self.gid,
            "excludes": self.excludes,
            "tags": self.tags,
            "original": self.original and self.original.hex(),
            "program_version": self.program_version,
        }
        fields: dict[str, Any] = {"time": self.time}
        if self.parent is not None:
            fields["parent"] = self.parent.hex()
        fields["tree"] = self.tree.hex()
        fields["paths"] = self.paths
        fields |= {key: value for key, value in optional.items() if value}
        if self.summary is not None:
            fields["summary"] = self.summary
        return json_value(fields | self.extra)
