"""What the tests of browsing share: a folder with every kind of name, and a vault opened for looking around."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.browser import ArchiveBrowser
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.items import OnDamage

HOSTILE_NAMES = (
    *(bytes([byte]) + b"_" for byte in range(1, 256) if byte != ord("/")),
    b"new\nline", b"tab\t", b"esc\x1b[31mred", b"quote\"'\\", b"-rf", b"--help", b"~", b"*", b"a b ", b" ",
    b"caf\xe9", b"trunc\xe2\x82", b"surrogate\xed\xa0\x80", "ä\u202e\u2028\u200b".encode(), b"...", b"#", b"%n%s", b"=",
)  # fmt: skip


def make_hostile(folder: Path) -> None:
    """Files of all these names in ``folder``, each with its own name as content."""
    folder.mkdir()
    for name in HOSTILE_NAMES:
        (folder / os.fsdecode(name)).write_bytes(name)


@contextlib.contextmanager
def looking(
    vault: ArchiveVault, on_damage: OnDamage | None = None
) -> Iterator[tuple[list[SnapshotInfo], ArchiveBrowser]]:
    """All snapshots, oldest first, and the browser for them."""
    snapshots = list(vault.snapshots())
    with vault.reading():
        yield snapshots, ArchiveBrowser(vault.repository, on_damage)
