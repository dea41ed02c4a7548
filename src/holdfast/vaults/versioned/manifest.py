"""The manifest: what a vault holds, as JSON lines in files that never change; one for each step, and after a prune one
base in place of all before it. It is the truth; the index is made of it.

A file ends with a line that has the SHA-256 of all before it, so a torn or rotten one is known. A step is part of the
vault from the moment at which its file has its name (``0000000012.jsonl``; a base: ``0000000012.base.jsonl``).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

import orjson

from holdfast.kernel.errors import Corrupt, HoldfastError
from holdfast.vaults.versioned.layout import Layout, step_name, write_durable
from holdfast.vaults.versioned.model import CURRENT, Change, Snapshot, Step, Version, join

STEP = b".jsonl"
BASE = b".base.jsonl"
_KNOWN = (KeyError, ValueError, TypeError, AttributeError, IndexError)


def files(layout: Layout) -> tuple[tuple[int, bytes] | None, list[tuple[int, bytes]]]:
    """The newest base and the steps after it, oldest first, as (number, path). Raises ``OSError``."""
    bases: list[tuple[int, bytes]] = []
    steps: list[tuple[int, bytes]] = []
    for name in os.listdir(layout.manifest):
        number, _, rest = name.partition(b".")
        if number.isdigit() and b"." + rest in (STEP, BASE):
            (bases if b"." + rest == BASE else steps).append((int(number), layout.manifest + b"/" + name))
    base = max(bases, default=None)
    after = base[0] if base else 0
    return base, sorted(step for step in steps if step[0] > after)


def obsolete(layout: Layout) -> list[bytes]:
    """Files that a base has taken the place of, and unfinished ones."""
    base, steps = files(layout)
    wanted = {path for _, path in steps} | ({base[1]} if base else set())
    every = (layout.manifest + b"/" + name for name in os.listdir(layout.manifest))
    return [path for path in every if path not in wanted]


def write_step(layout: Layout, step: Step) -> None:
    """Make a step part of the vault, durably. Raises ``OSError``."""
    body = bytearray(_line({"step": step.number}))
    for change in step.changes:
        record: dict[str, Any] = named(join(change.folder, change.name))
        if change.before is not None:
            record["history"] = change.before.history
        if change.after is None:
            record["removed"] = True
        else:
            _describe(record, change.after)
            if change.staged:
                record["staged"] = change.staged
        body += _line(record)
    if step.snapshot is not None:
        body += _line({"snapshot": step.snapshot.record})
    write_durable(layout.manifest + b"/" + step_name(step.number) + STEP, _sealed(body))


def is_written(layout: Layout, number: int) -> bool:
    """Whether a step is part of the vault."""
    return os.path.exists(layout.manifest + b"/" + step_name(number) + STEP)


def write_base(
    layout: Layout, number: int, versions: Iterable[tuple[bytes, Version]], snapshots: Iterable[Snapshot]
) -> None:
    """Put one file in place of everything up to step ``number``. ``versions`` come as (folder, version)."""
    body = bytearray(_line({"base": number}))
    for folder, version in versions:
        record: dict[str, Any] = named(join(folder, version.name))
        record["first"] = version.first
        if version.last != CURRENT:
            record["last"] = version.last
            record["history"] = version.history
        _describe(record, version)
        body += _line(record)
    for snapshot in snapshots:
        body += _line({"snapshot": snapshot.record})
    write_durable(layout.manifest + b"/" + step_name(number) + BASE, _sealed(body))


def read_step(path: bytes, number: int) -> tuple[list[dict[str, Any]], Snapshot | None]:
    """The records of a step's changes, and its snapshot. Raises ``Corrupt``."""
    records = read(path)
    snapshot = None
    try:
        if records[0]["step"] != number:
            raise ValueError("it is another step")
        if "snapshot" in records[-1]:
            snapshot = snapshot_of(records.pop()["snapshot"])
    except _KNOWN as error:
        raise _damaged(path, str(error)) from error
    return records[1:], snapshot


def read(path: bytes) -> list[dict[str, Any]]:
    """All lines of a file of the manifest but the last, verified. Raises ``Corrupt``."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        at = data.rstrip(b"\n").rfind(b"\n") + 1
        if orjson.loads(data[at:])["sha256"] != sha256(data[:at]).hexdigest():
            raise _damaged(path, "its hash is another one")
        found = [orjson.loads(line) for line in data[:at].split(b"\n") if line]
        if not found or not all(isinstance(record, dict) for record in found):
            raise _damaged(path, "it holds something else")
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    except _KNOWN as error:
        raise _damaged(path, str(error)) from error
    return found


def changes_of(path: bytes, records: Iterable[dict[str, Any]], number: int) -> Iterator[tuple[Change, str | None]]:
    """The changes that records describe (without their ``before``), and the history of what each ends, None for
    nothing."""
    for record in records:
        try:
            folder, _, name = path_of(record).rpartition(b"/")
            after = None if record.get("removed") else version_of(record, name, number)
            yield Change(folder, name, None, after, record.get("staged", 0)), record.get("history")
        except _KNOWN as error:
            raise _damaged(path, f"{type(error).__name__}: {error}") from error


def version_of(record: dict[str, Any], name: bytes, first: int) -> Version:
    """What a line says of an item. Raises ``KeyError``, ``ValueError`` and the like for what is none."""
    return Version(
        name=name,
        first=record.get("first", first),
        last=record.get("last", CURRENT),
        mode=int(record["mode"], 8),
        uid=record["uid"],
        gid=record["gid"],
        user=record.get("user", ""),
        group=record.get("group", ""),
        size=record.get("size", 0),
        mtime=record["mtime_ns"],
        ctime=record["ctime_ns"],
        inode=record["inode"],
        device=record["device"],
        links=record.get("links", 1),
        rdev=record.get("rdev", 0),
        sha256=bytes.fromhex(record.get("sha256", "")),
        target=base64.b64decode(record["target_base64"]) if "target_base64" in record else _raw(record.get("target")),
        xattrs=tuple((base64.b64decode(key), base64.b64decode(value)) for key, value in record.get("xattrs", ())),
        history=record.get("history", "") if "last" in record else "",
        depth=record.get("depth", 0),
    )


def snapshot_of(record: dict[str, Any]) -> Snapshot:
    """What a line says of a snapshot."""
    roots = tuple(base64.b64decode(text) for text in record["roots_base64"])
    return Snapshot(record["step"], bytes.fromhex(record["id"]), roots, record)


def named(path: bytes) -> dict[str, Any]:
    """A path as JSON: text where it is UTF-8, else base64."""
    try:
        return {"path": path.decode()}
    except UnicodeDecodeError:
        return {"path_base64": base64.b64encode(path).decode()}


def path_of(record: dict[str, Any]) -> bytes:
    """The other way round. Raises ``ValueError`` for what leads elsewhere than to a place in the vault."""
    found = base64.b64decode(record["path_base64"]) if "path_base64" in record else _raw(record["path"])
    parts = (found or b"").split(b"/")
    if len(parts) < 2 or parts[0] or any(part in (b"", b".", b"..") or b"\0" in part for part in parts[1:]):
        raise ValueError(f"impossible path {found!r}")
    return b"/".join(parts)


def _raw(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _describe(record: dict[str, Any], version: Version) -> None:
    record["mode"] = f"{version.mode:06o}"
    record["uid"] = version.uid
    record["gid"] = version.gid
    record["user"] = version.user
    record["group"] = version.group
    record["mtime_ns"] = version.mtime
    record["ctime_ns"] = version.ctime
    record["inode"] = version.inode
    record["device"] = version.device
    if version.is_file:
        record["size"] = version.size
        record["sha256"] = version.sha256.hex()
        record["links"] = version.links
    if version.depth:
        record["depth"] = version.depth
    if version.rdev:
        record["rdev"] = version.rdev
    if version.target is not None:
        try:
            record["target"] = version.target.decode()
        except UnicodeDecodeError:
            record["target_base64"] = base64.b64encode(version.target).decode()
    if version.xattrs:
        record["xattrs"] = [
            [base64.b64encode(key).decode(), base64.b64encode(value).decode()] for key, value in version.xattrs
        ]


def _line(record: dict[str, Any]) -> bytes:
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _sealed(body: bytearray) -> bytes:
    return bytes(body) + _line({"lines": body.count(b"\n"), "sha256": sha256(body).hexdigest()})


def _damaged(path: bytes, why: str) -> HoldfastError:
    shown = os.fsdecode(path)
    return Corrupt(
        f"The file {shown} of the manifest is damaged: {why}.",
        hint="Put it back from a copy of the vault. Until then the vault is only readable with ordinary tools.",
        path=shown,
    )
