"""The last word of every plan and vault as small JSON files, for anybody's dashboard; see docs/monitoring-status.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.files.whole import replace_file

if TYPE_CHECKING:
    from holdfast.app.context import Context
    from holdfast.app.recording import Recording
    from holdfast.kernel.events import Fact

SCHEMA = 1
SUCCESSES = ("ok", "partial")
_IN_NAMES = re.compile(r"[^A-Za-z0-9_.]+")


def leave_status(context: Context, recording: Recording, fact: Fact) -> None:
    """Write down how a run ended: of every operation of a plan, and of backups without one. Never raises: the same
    stands in the journal."""
    where = recording.where
    if not where["plan"] and where["operation"] != "backup":
        return
    from holdfast.monitor.place import status_folder
    from holdfast.monitor.plain import plain
    from holdfast.monitor.record import time_text

    path = status_folder(context.paths.state) / file_name(where["operation"], where["plan"], where["vault"])
    outcome = str(fact.data["outcome"])
    data = {name: value for name, value in fact.data.items() if name not in ("outcome", "seconds", "parent")}
    document = {
        "schema": SCHEMA,
        "operation": where["operation"],
        "plan": where["plan"],
        "vault": where["vault"],
        "run": recording.id,
        "outcome": outcome,
        "message": fact.message,
        "started": time_text(recording.started_ns),
        "finished": time_text(context.clock.now_ns()),
        "seconds": fact.data["seconds"],
        "data": data,
    }
    document["last_success"] = (
        {name: document[name] for name in ("run", "outcome", "finished")}
        if outcome in SUCCESSES
        else read(path).get("last_success")
    )
    try:
        write(path, plain(document))
    except OSError as error:
        if context.recorder.silent:
            return
        context.warn(f"the status file {path} cannot be written: {error.strerror}")


def file_name(operation: str, plan: str, vault: str) -> str:
    """What the file about the last such run is called. Different vaults never share one."""
    from hashlib import sha256

    words = [_IN_NAMES.sub("_", text)[-40:].strip("_.") for text in (operation, plan, vault) if text]
    mark = sha256("\0".join((operation, plan, vault)).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{'-'.join(word for word in words if word)}-{mark}.json"


def read(path: Path) -> dict[str, Any]:
    """What a status file says; nothing where there is none, or where it is damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Replace a status file at once: readers see the old or the new one, whole. Raises ``OSError``.

    It is not flushed: after a power failure an older one, or none, is a small loss; a run that waits for the disk is
    not.
    """
    line = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    try:
        replace_file(path, line, 0o644, flush=False)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(path, line, 0o644, flush=False)
