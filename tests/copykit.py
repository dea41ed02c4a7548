"""What the tests of copying share: a vault with several versions of a folder, and bringing them into another."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.archivekit import files, new_vault, on_disk, open_vault, save

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Event, ignore
from holdfast.storage import Storage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.copy import CopyOptions, CopySummary, copy


class Versions:
    """A vault at ``place`` that saved ``folder`` three times; ``contents`` has what each snapshot must hold."""

    def __init__(self, base: Path, versions: int = 3) -> None:
        self.folder, self.place = base / "folder", base / "vault"
        self.contents: dict[bytes, dict[bytes, bytes]] = {}
        vault = new_vault(self.place)
        draw = random.Random(7)
        for number in range(versions):
            for at in range(6):
                path = self.folder / f"d{at % 3}" / f"f{number}-{at}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(draw.randbytes(40_000) + b"compressible " * draw.randrange(2000))
            self.save(vault)

    def save(self, vault: ArchiveVault) -> bytes:
        """One more snapshot of the folder as it is."""
        made = save(vault, self.folder).snapshot
        assert made is not None
        self.contents[made] = on_disk(self.folder)
        return made

    def assert_copied(self, target: ArchiveVault, count: int | None = None) -> None:
        """Every snapshot (or ``count`` of them) is in ``target``, once, with all its content."""
        found = target.repository.snapshots()
        assert len(found) == (len(self.contents) if count is None else count)
        assert len({snapshot.original for _, snapshot in found}) == len(found)
        for identifier, snapshot in found:
            assert snapshot.original is not None
            assert files(target, self.folder, identifier) == self.contents[snapshot.original]


def bring(
    source: ArchiveVault | Path | Storage,
    target: ArchiveVault | Path | Storage,
    *,
    emit: Callable[[Event], None] = ignore,
    cancel: Cancel | None = None,
    **changes: object,
) -> CopySummary:
    """Copy everything, in this process unless ``workers`` says otherwise."""
    one = source if isinstance(source, ArchiveVault) else open_vault(source)
    other = target if isinstance(target, ArchiveVault) else open_vault(target)
    wanted = one.repository.snapshots(lambda _id, _error: None)
    options = replace(CopyOptions(workers=0), **changes)
    with one.reading(on_damage=lambda _id, _error: None) as lock:
        return copy(
            one.repository,
            other.repository,
            wanted,
            options,
            emit=emit,
            cancel=cancel or Cancel(),
            source_lock=lock,
        )
