"""How one entry of a snapshot is shown: a line for people, fields for JSON."""

from __future__ import annotations

from typing import Any

from holdfast.cli import text
from holdfast.cli.console import Console, clean, path_fields
from holdfast.files.entry import Entry
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.items import Item
from holdfast.vaults.listing import mode_text, owner_text


def show_item(console: Console, snapshot: SnapshotInfo, item: Item, *, long: bool, indent: str = "") -> None:
    """One line, or one event, for something in a snapshot."""
    if console.json:
        console.event("entry", **entry_fields(item.entry, snapshot))
    elif long:
        console.line(indent + long_line(item.entry))
    else:
        shown = text.name(item.path)
        console.line(f"{indent}{shown}/" if item.kind == "dir" and not shown.endswith("/") else indent + shown)


def long_line(entry: Entry) -> str:
    """The entry as ``ls -l`` has it: mode, owner, group, size, local time, path, target."""
    user, group = map(text.name, owner_text(entry))
    size = f"{entry.st_size:,}" if entry.kind == "file" else ""
    target = f" -> {text.name(entry.linktarget)}" if entry.linktarget is not None else ""
    when = text.moment(entry.st_mtime_ns)
    return f"{mode_text(entry)} {user:<8} {group:<8} {size:>13} {when} {text.name(entry.path)}{target}"


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
