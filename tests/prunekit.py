"""Vaults worth pruning: several snapshots with shared and own content, some of them forgotten, an orphan pack."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.archivekit import SECRET, files, new_vault, on_disk, open_vault, save
from tests.faults.faulty import Faulty

from holdfast.format.pack import BlobType
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Event
from holdfast.kernel.ids import BlobId
from holdfast.repository import Repository
from holdfast.repository.packer import Packer
from holdfast.storage import LocalStorage, Storage
from holdfast.vaults.archive.prune import PruneOptions, PruneSummary, Tolerance, prune

THOROUGH = PruneOptions(max_unused=Tolerance(percent=0), workers=0)


@dataclass
class Used:
    """A vault at ``place``, saved from ``source``; ``kept`` maps each snapshot that stays to what is in it."""

    place: Path
    source: Path
    kept: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)

    def copy(self, place: Path) -> Used:
        """The same vault elsewhere."""
        if place.exists():
            shutil.rmtree(place)
        shutil.copytree(self.place, place)
        return Used(place, self.source, self.kept)

    def assert_whole(self, restic: str | None) -> None:
        """Every snapshot that was there is byte-equal, and restic finds no damage."""
        vault = open_vault(self.place)
        assert {snapshot.id for snapshot in vault.snapshots()} == set(self.kept)
        for snapshot, content in self.kept.items():
            assert files(open_vault(self.place), self.source, snapshot) == content
        if restic:
            checked = run_restic(restic, self.place, "check", "--read-data", "--no-lock")
            assert checked.returncode == 0, checked.stdout + checked.stderr

    def assert_clean(self) -> None:
        """Nothing is left to prune, and no lock."""
        figures = run(self.place, PruneOptions(max_unused=Tolerance(percent=0), dry_run=True, workers=0)).figures
        assert (figures.unused_blobs, figures.duplicate_blobs, figures.orphans, figures.gone_packs) == (0, 0, 0, 0)
        assert list((self.place / "locks").iterdir()) == []


class Meanwhile(Faulty):
    """Calls ``act`` once, just before the first change of that kind beneath ``folder``."""

    def __init__(self, place: Path, method: str, folder: str, act: Callable[[], None]) -> None:
        super().__init__(LocalStorage(str(place)))
        self._when = method, folder
        self._act: Callable[[], None] | None = act

    def _count(self, method: str, name: str) -> None:
        act = self._act
        if act is not None and method == self._when[0] and name.startswith(self._when[1]):
            self._act = None
            act()
        super()._count(method, name)


def used_vault(base: Path, seed: int = 7, days: int = 4, keep: int = 2) -> Used:
    """Eight files, of which a third changes every day; only the last ``keep`` days are kept. One pack is an orphan."""
    draw = random.Random(seed)
    used = Used(base / "vault", base / "source")
    (used.source / "sub").mkdir(parents=True)
    new_vault(used.place)
    for day in range(days):
        for number in range(8):
            path = used.source / ("sub" if number % 2 else ".") / f"f{number}"
            if day == 0 or draw.random() < 0.34:
                path.write_bytes(draw.randbytes(draw.randrange(1, 6000)))
        saved = save(open_vault(used.place), used.source).snapshot
        assert saved is not None
        if day >= days - keep:
            used.kept[saved] = on_disk(used.source)
        else:
            open_vault(used.place).repository.delete_unpacked("snapshots", saved)
    orphan(open_vault(used.place).repository, draw.randbytes(500))
    return used


def orphan(repository: Repository, content: bytes) -> None:
    """A pack that no index names, as a killed backup leaves it."""
    packer = Packer(repository.storage, repository.master, BlobType.DATA, repository.draw)
    packer.add(BlobId(b"?" * 32), content)
    packer.finish()


def run(
    place: Path | Storage,
    options: PruneOptions = THOROUGH,
    *,
    events: list[Event] | None = None,
    cancel: Cancel | None = None,
) -> PruneSummary:
    """Open the vault anew and prune it; locks of processes of this machine that are gone are removed before."""
    storage = LocalStorage(os.fspath(place)) if isinstance(place, Path) else place
    repository = Repository.open(storage, SECRET, username="tester")
    repository.locks.remove_stale()
    emit = (lambda _event: None) if events is None else events.append
    return prune(repository, options, emit=emit, cancel=cancel or Cancel())


def run_restic(restic: str, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode()}
    command = [restic, "-r", str(place), "--no-cache", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
