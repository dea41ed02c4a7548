"""Small real mirrors for tests: make one, back up into it, and compare it with its source entry by entry."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from holdfast.files.rules import Rules
from holdfast.files.xattrs import read_xattrs
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Event, Fact, ignore
from holdfast.vaults.base import BackupOptions, BackupSummary, CheckOptions, CheckReport
from holdfast.vaults.mirror import MirrorVault, make_mirror, open_mirror

ALL = Rules.compile([], defaults=False)


def new_mirror(place: Path, *, protect: bool = False) -> MirrorVault:
    """An empty mirror."""
    make_mirror(os.fsencode(place), protect=protect, identifier=bytes(32))
    return open_mirror(os.fsencode(place))


def options(*paths: Path | bytes, **changes: object) -> BackupOptions:
    """Options for a backup of these paths on host ``here``, without default excludes."""
    named = tuple(os.fsencode(path) for path in paths)
    return replace(BackupOptions(paths=named, rules=ALL, hostname="here", username="tester"), **changes)


def save(
    vault: MirrorVault,
    *paths: Path | bytes,
    emit: Callable[[Event], None] = ignore,
    cancel: Cancel | None = None,
    **changes: object,
) -> BackupSummary:
    """Back up."""
    return vault.backup(options(*paths, **changes), emit=emit, cancel=cancel or Cancel())


def check(vault: MirrorVault, **changes: object) -> CheckReport:
    """Check."""
    return vault.check(replace(CheckOptions(), **changes), emit=ignore, cancel=Cancel())


def copy_of(vault: MirrorVault, path: Path) -> Path:
    """Where the mirror has ``path``."""
    return Path(os.fsdecode(vault.root) + str(path))


def told(vault: MirrorVault, *paths: Path | bytes, **changes: object) -> list[tuple[str, bytes]]:
    """(word, path) of every item that a backup tells of, sorted."""
    facts: list[tuple[str, bytes]] = []

    def emit(event: Event) -> None:
        if isinstance(event, Fact) and event.kind.startswith("item."):
            facts.append((event.kind.removeprefix("item."), event.data["path"]))

    save(vault, *paths, emit=emit, **changes)
    return sorted(facts)


def tree(root: Path, *, mask: int = 0) -> dict[bytes, tuple[object, ...]]:
    """Everything beneath ``root``, itself included, with all that a mirror keeps of it. ``mask``: bits taken away."""
    found: dict[bytes, tuple[object, ...]] = {}
    inodes: dict[int, bytes] = {}
    top = os.fsencode(root)

    def add(path: bytes) -> None:
        st = os.lstat(path)
        name = os.path.relpath(path, top)
        what: object = None
        if stat.S_ISREG(st.st_mode):
            with open(path, "rb") as file:
                what = file.read(), inodes.setdefault(st.st_ino, name)
        elif stat.S_ISLNK(st.st_mode):
            what = os.readlink(path)
        mode = st.st_mode if stat.S_ISLNK(st.st_mode) else st.st_mode & ~mask
        attributes = () if stat.S_ISLNK(st.st_mode) else tuple(sorted(read_xattrs(path)))
        found[name] = mode, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_rdev, what, attributes
        if stat.S_ISDIR(st.st_mode):
            for child in sorted(os.listdir(path)):
                add(os.path.join(path, child))

    add(top)
    return found


def assert_mirrors(vault: MirrorVault, *sources: Path) -> None:
    """The mirror is what its sources are."""
    mask = 0o222 if vault.protect else 0
    for source in sources:
        assert tree(copy_of(vault, source)) == tree(source, mask=mask)
