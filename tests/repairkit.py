"""A vault of many small packs that tests of repairing damage, and what of it can be restored before and after."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from tests.archivekit import SECRET, new_vault, open_vault, save

from holdfast.format.chunker import Chunker
from holdfast.format.pack import BlobType, parse_trailer
from holdfast.format.snapshot import Snapshot
from holdfast.format.tree import decode_tree
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.events import Event, ignore
from holdfast.kernel.ids import BlobId, SnapshotId
from holdfast.repository import Repository, layout
from holdfast.storage import LocalStorage, Storage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.recover import RecoverOptions, RecoverSummary, recover
from holdfast.vaults.archive.repair import (
    IndexOptions,
    IndexRepair,
    PacksOptions,
    PacksRepair,
    SnapshotsOptions,
    SnapshotsRepair,
    repair_index,
    repair_packs,
    repair_snapshots,
)  # fmt: skip
from holdfast.vaults.archive.repair.aside import Aside
from holdfast.vaults.base import CheckOptions, CheckReport, Damage, Subset

Emit = Callable[[Event], None]


def flip(at: int) -> Callable[[bytes], bytes]:
    """Invert one bit; negative positions count from the end."""

    def change(data: bytes) -> bytes:
        position = at % len(data)
        return data[:position] + bytes((data[position] ^ 0x10,)) + data[position + 1 :]

    return change


def in_header(data: bytes) -> bytes:
    return flip(len(data) - 4 - parse_trailer(data[-4:]) + 20)(data)


WHOLE: dict[str, Callable[[bytes], bytes]] = {
    "first byte": flip(0),
    "middle": lambda data: flip(len(data) // 2)(data),
    "last byte": flip(-1),
    "truncated": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "emptied": lambda _: b"",
    "garbage behind": lambda data: data + b"garbage",
    "hole": lambda data: data[: len(data) // 3] + data[len(data) // 3 + 40 :],
    "zeros": lambda data: bytes(len(data)),
}
"""Ways to damage any file."""


def rewrite_file(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace what the file holds."""
    data = change(path.read_bytes())
    path.chmod(0o600)
    path.write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Patient:
    """A vault at ``folder`` with two snapshots of ``source``."""

    def __init__(self, folder: Path, source: Path, aside: Path) -> None:
        self.folder = folder
        self.source = source
        self.aside = Aside(aside)

    def open(self, storage: Storage | None = None) -> Repository:
        return Repository.open(storage or LocalStorage(str(self.folder)), SECRET, username="tester")

    def packs(self, kind: BlobType) -> list[Path]:
        """The files of all packs with such blobs, the largest first."""
        repository = self.open()
        repository.load_index(lambda identifier, error: None)
        packs = {pack for pack, blob in repository.index.blobs() if blob.type == kind}
        files = [self.folder / layout.name_of(layout.DATA, pack) for pack in packs]
        return sorted(files, key=lambda path: (-path.stat().st_size, path))

    def copy(self, to: Path) -> Patient:
        shutil.copytree(self.folder, to)
        return Patient(to, self.source, to.with_name(f"{to.name}-aside"))

    # -- what is done to it -------------------------------------------------------------------------------------------

    def mend_index(self, *, storage: Storage | None = None, emit: Emit = ignore, **options: object) -> IndexRepair:
        chosen = replace(IndexOptions(workers=0), **options)  # type: ignore[arg-type]
        return repair_index(self.open(storage), chosen, aside=self.aside, emit=emit, cancel=Cancel())

    def mend_packs(
        self, *packs: str, storage: Storage | None = None, other: Path | None = None, emit: Emit = ignore,
        **options: object,
    ) -> PacksRepair:  # fmt: skip
        chosen = replace(PacksOptions(packs, all_damaged=not packs, workers=0), **options)  # type: ignore[arg-type]
        second = None
        if other is not None:
            second = Repository.open(LocalStorage(str(other)), SECRET)
            second.load_index(lambda identifier, error: None)
        return repair_packs(self.open(storage), chosen, aside=self.aside, other=second, emit=emit, cancel=Cancel())

    def mend_snapshots(
        self, *, storage: Storage | None = None, emit: Emit = ignore,
        protected: Callable[[Snapshot], bool] = lambda snapshot: False, **options: object,
    ) -> SnapshotsRepair:  # fmt: skip
        chosen = replace(SnapshotsOptions(), **options)  # type: ignore[arg-type]
        return repair_snapshots(
            self.open(storage), chosen, aside=self.aside, protected=protected, emit=emit, cancel=Cancel()
        )

    def recover(self, *, storage: Storage | None = None, emit: Emit = ignore, **options: object) -> RecoverSummary:
        chosen = replace(RecoverOptions(hostname="here", workers=0), **options)  # type: ignore[arg-type]
        return recover(self.open(storage), chosen, emit=emit, cancel=Cancel())

    def check(self, *, read_data: bool = True) -> CheckReport:
        options = CheckOptions(read_data=Subset() if read_data else None, workers=0)
        return ArchiveVault(self.open()).check(options, emit=ignore, cancel=Cancel())

    def errors(self) -> list[Damage]:
        return [damage for damage in self.check().damage if damage.severity == "error"]

    def restic(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode()}
        command = [program, "-r", str(self.folder), "--no-cache", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    # -- what it is worth ---------------------------------------------------------------------------------------------

    def restorable(self) -> dict[SnapshotId, dict[bytes, bytes]]:
        """By snapshot: the hash of every file that can be read whole, and b"" for every folder that can be listed."""
        repository = self.open()
        repository.load_index(lambda identifier, error: None)
        snapshots = repository.snapshots(lambda identifier, error: None)
        return {identifier: dict(_readable(repository, snapshot.tree, b"")) for identifier, snapshot in snapshots}

    def assert_no_worse_than(self, before: dict[SnapshotId, dict[bytes, bytes]]) -> None:
        """Everything is still there, in the same snapshots or in those that replaced them."""
        after = self.restorable()
        successors = {snapshot.original: identifier for identifier, snapshot in self.open().snapshots(ignore_damage)}
        for identifier, files in before.items():
            if not files:
                continue  # nothing of it could be restored: such a snapshot may go
            now = after[identifier if identifier in after else successors[identifier]]  # type: ignore[index]
            assert files.items() <= now.items()


def ignore_damage(identifier: bytes, error: HoldfastError) -> None:
    """An ``on_damage`` that passes everything over."""


def _readable(repository: Repository, tree: BlobId, path: bytes) -> Iterator[tuple[bytes, bytes]]:
    try:
        nodes = decode_tree(repository.read_blob(tree))
    except HoldfastError:
        return
    yield path + b"/", b""
    for node in nodes:
        at = path + b"/" + node.name
        if node.subtree is not None:
            yield from _readable(repository, node.subtree, at)
        elif node.type == "file":
            try:
                digest = sha256(b"".join(map(repository.read_blob, node.content or ())))
            except HoldfastError:
                continue
            yield at, digest.digest()


@pytest.fixture(scope="session", name="healthy")
def healthy_vault(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    """The vault before it is damaged: only to be copied."""
    root = tmp_path_factory.mktemp("repair")
    source = root / "source"
    draw = random.Random(11)
    for number in range(12):
        folder = source / f"folder {number % 3}" / ("deep" if number % 2 else "flat")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file {number}").write_bytes(draw.randbytes(20_000 + 1000 * number))
    (source / "empty").mkdir()
    (source / "link").symlink_to("large")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holdfast.repository.packer.TARGET_SIZE", 60_000)
        patch.setattr("holdfast.repository.packer.BATCH", 20_000)
        patch.setattr("holdfast.repository.writer.INTERIM_BLOBS", 6)
        vault = new_vault(root / "vault")
        large, chunker = b"", Chunker(vault.repository.config.polynomial)
        while len(chunker.cuts(large, final=True)) < 2:  # every vault cuts elsewhere
            large = draw.randbytes(3 << 20)
        (source / "large").write_bytes(large)
        save(vault, source)
        for number in range(4):
            (source / "folder 0" / "flat" / f"later {number}").write_bytes(draw.randbytes(30_000))
        (source / "folder 1" / "flat" / "file 4").write_bytes(draw.randbytes(5000))
        save(open_vault(root / "vault"), source)
    return Patient(root / "vault", source, root / "aside")


@pytest.fixture(name="patient")
def patient_vault(healthy: Patient, tmp_path: Path) -> Patient:
    """A copy to be damaged."""
    return healthy.copy(tmp_path / "vault")
