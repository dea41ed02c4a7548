"""How one entry of a snapshot is shown: a line for people, fields for JSON."""

from __future__ import annotations

import stat
from typing import Any

from holdfast.cli import text
from holdfast.cli.console import clean, path_fields
from holdfast.files.entry import Entry
from holdfast.vaults.base import SnapshotInfo


def entry_line(entry: Entry, *, long: bool) -> str:
    """The path; with ``long`` as ``ls -l`` has it: mode, owner, group, size, local time, path, target."""
    shown = text.name(entry.path)
    if not long:
        return shown + "/" if entry.kind == "dir" and not shown.endswith("/") else shown
    user, group = text.name(entry.user) or str(entry.st_uid), text.name(entry.group) or str(entry.st_gid)
    size = f"{entry.st_size:,}" if entry.kind == "file" else ""
    target = f" -> {text.name(entry.linktarget)}" if entry.linktarget is not None else ""
    mode = stat.filemode(entry.st_mode)
    return f"{mode} {user:<8} {group:<8} {size:>13} {text.moment(entry.st_mtime_ns)} {shown}{target}"


def entry_fields(entry: Entry, snapshot: SnapshotInfo) -> dict[str, Any]:
    """The entry for JSON; names keep their exact bytes."""
    fields: dict[str, Any] = {
        "snapshot": snapshot.id.hex(),
        **path_fields(entry.path),
        "kind": entry.kind,
        "size": entry.st_size,
        "mode": entry.st_mode,
        "mtime_ns": entry.st_mtime_ns,
        "uid": entry.st_uid,
        "gid": entry.st_gid,
        "user": clean(entry.user),
        "group": clean(entry.group),
    }
    if entry.linktarget is not None:
        fields.update(path_fields(entry.linktarget, "target"))
    return fields
