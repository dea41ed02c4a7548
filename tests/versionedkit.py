"""What the tests of versioned vaults share: saving, states of a tree, and going back in time with ordinary tools."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from holdfast.files.rules import Rules
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Event, ignore
from holdfast.vaults.base import (
    BackupOptions,
    BackupSummary,
    CheckOptions,
    CheckReport,
    RestoreOptions,
    RestoreSummary,
    SnapshotInfo,
)
from holdfast.vaults.versioned import VersionedVault

State = dict[bytes, tuple[object, ...]]
NOTHING_EXCLUDED = Rules.compile((), defaults=False)


def new_vault(root: Path) -> VersionedVault:
    return VersionedVault.create(os.fsencode(root), os.urandom(32))


def open_vault(root: Path) -> VersionedVault:
    return VersionedVault.open(os.fsencode(root))


def save(
    vault: VersionedVault,
    *paths: Path | bytes,
    emit: Callable[[Event], None] = ignore,
    cancel: Cancel | None = None,
    rules: Rules = NOTHING_EXCLUDED,
    **changes: object,
) -> BackupSummary:
    options = BackupOptions(
        paths=tuple(map(os.fsencode, paths)),
        rules=rules,
        hostname="here",
        username="me",
        **changes,  # type: ignore[arg-type]
    )
    return vault.backup(options, emit=emit, cancel=cancel or Cancel())


def bring_back(
    vault: VersionedVault,
    target: Path,
    path: Path | bytes = b"",
    snapshot: SnapshotInfo | None = None,
    **changes: object,
) -> RestoreSummary:
    options = RestoreOptions(target=os.fsencode(target), path=os.fsencode(path), **changes)  # type: ignore[arg-type]
    return vault.restore(snapshot or vault.snapshots()[-1], options, emit=ignore, cancel=Cancel())


def check(vault: VersionedVault) -> CheckReport:
    return vault.check(CheckOptions(), emit=ignore, cancel=Cancel())


def state(root: Path | bytes) -> State:
    """Everything below ``root`` with what a restore must bring back."""
    found: State = {}
    top = os.fsencode(root)
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            path = folder + b"/" + name
            st = os.lstat(path)
            content: object = None
            if stat.S_ISREG(st.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            elif stat.S_ISLNK(st.st_mode):
                content = os.readlink(path)
            mode = 0 if stat.S_ISLNK(st.st_mode) else st.st_mode
            found[path[len(top) :]] = (stat.S_IFMT(st.st_mode), mode, st.st_mtime_ns, content)
    return found


def with_ordinary_tools(vault: VersionedVault, path: bytes, step: int, patch: str, zstd: str) -> bytes | None:
    """The content of a file at a step as ``docs/versioned.md`` says: JSON lines, ``patch -R`` and ``zstd -d``."""
    hidden = Path(vault.location) / ".holdfast"
    changes: list[tuple[int, dict[str, object]]] = []
    ended = ""
    for file in sorted((hidden / "manifest").iterdir()):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            if record.get("path") != path.decode():
                continue
            if ".base." not in file.name:
                changes.append((int(file.name[:10]), record))
                continue
            # The history of a base's line is of its own version: the change that ended it comes next, if it is there.
            if changes and changes[-1][0] == record["first"]:
                changes.pop()
                changes.append((record["first"], {**record, "history": ended}))
            else:
                changes.append((record["first"], {**record, "history": ""}))
            if "last" in record:
                ended = record.get("history", "")
                changes.append((record["last"], {"removed": True, "history": ended}))
    at = [number for number, (made, _) in enumerate(changes) if made <= step]
    if not at or changes[at[-1]][1].get("removed"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "file"
        current = Path(vault.location + os.fsdecode(path))
        if current.is_file():
            shutil.copyfile(current, work)
        for _, record in reversed(changes[at[-1] + 1 :]):
            history = str(record.get("history", ""))
            if history.endswith(".zst"):
                subprocess.run([zstd, "-dqf", str(hidden / "history" / history), "-o", str(work)], check=True)
            elif history.endswith(".diff"):
                with (hidden / "history" / history).open("rb") as diff:
                    subprocess.run([patch, "-R", "--binary", "-s", str(work)], stdin=diff, check=True)
        return work.read_bytes()
