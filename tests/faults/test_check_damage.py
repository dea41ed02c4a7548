"""Every kind of file of a vault, damaged in every way: a check always finds it, and says what it touches."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from holdfast.files.rules import Rules
from holdfast.format.index import decode_index, encode_index
from holdfast.format.pack import BlobType, parse_trailer
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, HoldfastError, NotFound, WrongPassword
from holdfast.kernel.events import Event, Fact
from holdfast.kernel.secret import Secret
from holdfast.repository import Repository, layout
from holdfast.storage import LocalStorage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import BackupOptions, CheckOptions, CheckReport, Damage, Outcome, Subset

SECRET = Secret(b"correct horse", random=True)
READ_ALL = CheckOptions(read_data=Subset(), workers=0)
STRUCTURE = CheckOptions(workers=0)


def backup(folder: Path, *paths: Path) -> str:
    """One snapshot of ``paths``; its short id."""
    vault = ArchiveVault(Repository.open(LocalStorage(str(folder)), SECRET))
    options = BackupOptions(
        paths=tuple(map(os.fsencode, paths)), rules=Rules.compile([], defaults=False), hostname="here", workers=0
    )
    saved = vault.backup(options, emit=lambda _: None, cancel=Cancel()).snapshot
    assert saved is not None
    return saved.hex()[:8]


def check(folder: Path, options: CheckOptions = READ_ALL, events: list[Event] | None = None) -> CheckReport:
    vault = ArchiveVault(Repository.open(LocalStorage(str(folder)), SECRET))
    return vault.check(options, emit=(events.append if events is not None else lambda _: None), cancel=Cancel())


def errors(report: CheckReport) -> list[Damage]:
    return [damage for damage in report.damage if damage.severity == "error"]


class Vault:
    """A vault of two snapshots, ready to be damaged."""

    def __init__(self, folder: Path, source: Path, snapshots: list[str]) -> None:
        self.folder = folder
        self.source = source
        self.snapshots = snapshots

    def open(self) -> Repository:
        return Repository.open(LocalStorage(str(self.folder)), SECRET)

    def packs(self, kind: BlobType) -> list[Path]:
        repository = self.open()
        repository.load_index()
        packs = sorted({pack for pack, blob in repository.index.blobs() if blob.type == kind})
        return [self.folder / layout.name_of(layout.DATA, pack) for pack in packs]

    def named(self, *paths: str) -> set[str]:
        """How a damage names these files of the source in both snapshots."""
        return {f"{snapshot}:{self.source / path}" for snapshot in self.snapshots for path in paths}

    def copy(self, to: Path) -> Vault:
        shutil.copytree(self.folder, to)
        return Vault(to, self.source, self.snapshots)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    root = tmp_path_factory.mktemp("check")
    source = root / "source"
    (source / "deep" / "deeper").mkdir(parents=True)
    (source / "empty-folder").mkdir()
    chance = random.Random(1)
    (source / "large").write_bytes(chance.randbytes(9 << 20))  # longer than the longest chunk: several blobs
    (source / "empty").touch()
    (source / "link").symlink_to("large")
    for number in range(20):
        (source / "deep" / "deeper" / f"text {number}").write_text(f"number {number}\n" * (number + 1) * 50)
    (source / "deep" / 'caf\u00e9 \\ "x"').write_bytes(chance.randbytes(300))
    folder = root / "vault"
    Repository.init(LocalStorage(str(folder)), [SECRET, Secret(b"another", random=True)])
    first = backup(folder, source)
    (source / "added").write_bytes(chance.randbytes(40_000))
    return Vault(folder, source, [first, backup(folder, source)])


@pytest.fixture
def vault(template: Vault, tmp_path: Path) -> Vault:
    return template.copy(tmp_path / "vault")


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    data = path.read_bytes()
    changed = change(data)
    assert changed != data
    path.chmod(0o600)
    path.write_bytes(changed)


def flip(at: int) -> Callable[[bytes], bytes]:
    """Invert one bit; negative positions count from the end."""

    def change(data: bytes) -> bytes:
        position = at % len(data)
        return data[:position] + bytes((data[position] ^ 0x10,)) + data[position + 1 :]

    return change


def in_header(data: bytes) -> bytes:
    return flip(len(data) - 4 - parse_trailer(data[-4:]) + 20)(data)


def first_mac(folder: Path, path: Path) -> int:
    repository = Repository.open(LocalStorage(str(folder)), SECRET)
    repository.load_index()
    blobs = repository.index.blobs_of(bytes.fromhex(path.name))  # type: ignore[arg-type]
    return min(blob.offset + blob.length for blob in blobs) - 1


WHOLE: dict[str, Callable[[bytes], bytes]] = {
    "first byte": flip(0),
    "middle": lambda data: flip(len(data) // 2)(data),
    "last byte": flip(-1),
    "truncated": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "emptied": lambda _: b"",
    "garbage behind": lambda data: data + b"garbage",
    "zeros": lambda data: bytes(len(data)),
}
SIZES = ("truncated", "one byte short", "emptied", "garbage behind")


@pytest.mark.parametrize("options", [READ_ALL, STRUCTURE, CheckOptions(read_data=Subset(), workers=2)])
def test_a_good_vault_has_no_damage(vault: Vault, options: CheckOptions) -> None:
    report = check(vault.folder, options)
    assert report.damage == []
    assert report.outcome is Outcome.OK
    packs = [path for path in (vault.folder / "data").rglob("*") if path.is_file()]
    assert (report.snapshots, report.packs) == (2, len(packs))
    # All trees of both snapshots, those that they share once.
    repository = vault.open()
    repository.load_index()
    assert report.trees == sum(1 for _, blob in repository.index.blobs() if blob.type == BlobType.TREE)
    assert report.files >= 24
    if options.read_data:
        assert report.packs_read == len(packs)
        assert report.bytes_read == sum(path.stat().st_size for path in packs)
    else:
        assert report.packs_read == report.bytes_read == 0
    assert list((vault.folder / "locks").iterdir()) == []


@pytest.mark.parametrize("how", WHOLE)
@pytest.mark.parametrize("kind", [BlobType.DATA, BlobType.TREE])
def test_damaged_pack(vault: Vault, kind: BlobType, how: str) -> None:
    path = vault.packs(kind)[0]
    rewrite(path, WHOLE[how])
    report = check(vault.folder)
    assert report.outcome is Outcome.FAILED
    (damage,) = errors(report)
    assert path.name[:8] in damage.message
    assert damage.kind in ("pack.corrupt", "pack.size")
    if how in SIZES:
        assert check(vault.folder, STRUCTURE).outcome is Outcome.FAILED


@pytest.mark.parametrize("kind", [BlobType.DATA, BlobType.TREE])
@pytest.mark.parametrize("where", ["nonce", "ciphertext", "mac", "header", "header length"])
def test_flipped_bit_in_a_pack(vault: Vault, kind: BlobType, where: str) -> None:
    path = vault.packs(kind)[0]
    change = {
        "nonce": flip(3),
        "ciphertext": flip(20),
        "mac": flip(first_mac(vault.folder, path)),
        "header": in_header,
        "header length": flip(-4),
    }[where]
    rewrite(path, change)
    (damage,) = errors(check(vault.folder))
    assert damage.kind == "pack.corrupt"
    touches_blob = where in ("nonce", "ciphertext", "mac")
    assert bool(damage.files_total) == touches_blob
    structure = check(vault.folder, STRUCTURE)
    assert bool(errors(structure)) == (kind is BlobType.TREE and touches_blob)


@pytest.mark.parametrize("options", [READ_ALL, STRUCTURE])
@pytest.mark.parametrize("kind", [BlobType.DATA, BlobType.TREE])
def test_missing_pack(vault: Vault, kind: BlobType, options: CheckOptions) -> None:
    path = vault.packs(kind)[0]
    path.unlink()
    (damage,) = errors(check(vault.folder, options))
    assert damage.kind == "pack.missing"
    assert damage.files_total
    assert set(damage.snapshots) <= set(vault.snapshots)


def test_swapped_packs(vault: Vault) -> None:
    one, two = vault.packs(BlobType.DATA)[0], vault.packs(BlobType.TREE)[0]
    content = one.read_bytes(), two.read_bytes()
    rewrite(one, lambda _: content[1])
    rewrite(two, lambda _: content[0])
    assert {damage.message[:13] for damage in errors(check(vault.folder))} == {
        f"Pack {one.name[:8]}",
        f"Pack {two.name[:8]}",
    }


def test_every_touched_file_is_named(vault: Vault) -> None:
    repository = vault.open()
    repository.load_index()
    content = (vault.source / "deep" / "deeper" / "text 7").read_bytes()
    identifier = sha256(content).digest()
    place = repository.index.place(identifier)  # type: ignore[arg-type]
    assert place is not None
    rewrite(vault.folder / layout.name_of(layout.DATA, place.pack), flip(place.offset + 17))
    events: list[Event] = []
    (damage,) = errors(check(vault.folder, events=events))
    assert set(damage.files) == vault.named("deep/deeper/text 7")
    assert set(damage.snapshots) == set(vault.snapshots)
    assert damage.files_total == 2
    assert identifier.hex()[:8] in damage.message
    facts = [event for event in events if isinstance(event, Fact)]
    assert [(fact.kind, fact.level, fact.message) for fact in facts] == [("damage.found", "error", damage.message)]
    assert facts[0].data["files_total"] == 2


def test_a_file_that_one_snapshot_has_names_only_that(vault: Vault) -> None:
    repository = vault.open()
    repository.load_index()
    place = repository.index.place(sha256((vault.source / "added").read_bytes()).digest())  # type: ignore[arg-type]
    assert place is not None
    (vault.folder / layout.name_of(layout.DATA, place.pack)).unlink()
    (damage,) = errors(check(vault.folder, STRUCTURE))
    assert damage.snapshots == (vault.snapshots[1],)
    assert damage.files == (f"{vault.snapshots[1]}:{vault.source / 'added'}",)


def test_lost_folders_are_named(vault: Vault) -> None:
    for path in vault.packs(BlobType.TREE):
        path.unlink()
    damages = errors(check(vault.folder, STRUCTURE))
    named = {file for damage in damages for file in damage.files}
    assert {f"{snapshot}:/" for snapshot in vault.snapshots} <= named
    assert {snapshot for damage in damages for snapshot in damage.snapshots} == set(vault.snapshots)


@pytest.mark.parametrize("options", [READ_ALL, STRUCTURE])
@pytest.mark.parametrize("how", [*WHOLE, "deleted", "swapped"])
@pytest.mark.parametrize("kind", ["index", "snapshots", "keys", "config"])
def test_damaged_small_file(vault: Vault, kind: str, how: str, options: CheckOptions) -> None:
    """Found by the check, or already when the vault is opened; a deleted snapshot or key nobody can miss."""
    files = sorted((vault.folder / kind).iterdir()) if kind != "config" else [vault.folder / kind]
    if kind == "keys":  # the key of somebody else: the next test damages ours
        files.sort(key=lambda path: path.name == vault.open().key_id.hex())
    path = files[0]
    if how == "deleted":
        path.unlink()
    elif how == "swapped":
        other = files[1] if len(files) > 1 else next((vault.folder / "snapshots").iterdir())
        rewrite(path, lambda _: other.read_bytes())
    else:
        rewrite(path, WHOLE[how])
    if how == "deleted" and kind in ("snapshots", "keys"):
        return
    try:
        report = check(vault.folder, options)
    except HoldfastError as error:
        assert kind == "config"
        assert isinstance(error, Corrupt | NotFound)
        return
    assert report.outcome is Outcome.FAILED
    kinds = {damage.kind for damage in errors(report)}
    if kind == "index":
        assert "blob.missing" in kinds
        assert "index.corrupt" in kinds or how == "deleted"
    else:
        assert kinds == {{"snapshots": "snapshot.corrupt", "keys": "key.corrupt", "config": "config.corrupt"}[kind]}


@pytest.mark.parametrize("how", WHOLE)
def test_a_damaged_key_of_ours_opens_nothing(vault: Vault, how: str) -> None:
    opened = vault.open()
    rewrite(vault.folder / layout.name_of(layout.KEYS, opened.key_id), WHOLE[how])
    with pytest.raises(WrongPassword):
        vault.open()
    report = ArchiveVault(opened).check(STRUCTURE, emit=lambda _: None, cancel=Cancel())
    assert [damage.kind for damage in errors(report)] == ["key.corrupt"]


@pytest.mark.parametrize("how", [*WHOLE, "deleted"])
def test_configuration_damaged_while_open(vault: Vault, how: str) -> None:
    opened = ArchiveVault(vault.open())
    if how == "deleted":
        (vault.folder / "config").unlink()
    else:
        rewrite(vault.folder / "config", WHOLE[how])
    report = opened.check(STRUCTURE, emit=lambda _: None, cancel=Cancel())
    assert [damage.kind for damage in errors(report)] == ["config.missing" if how == "deleted" else "config.corrupt"]


@pytest.mark.parametrize("kind", ["index", "snapshots"])
def test_one_damaged_file_does_not_hide_the_others(vault: Vault, kind: str) -> None:
    """Two small files and two packs at once: each is told."""
    for path in sorted((vault.folder / kind).iterdir())[:2]:
        rewrite(path, flip(40))
    damages = errors(check(vault.folder))
    kinds = [damage.kind for damage in damages]
    assert kinds.count("index.corrupt" if kind == "index" else "snapshot.corrupt") == 2


def replace_index(vault: Vault, change: Callable[[list[tuple[bytes, list]]], None]) -> None:  # type: ignore[type-arg]
    """Rewrite all index files as one, after ``change`` has had its way with the entries."""
    repository = vault.open()
    packs: list = []  # type: ignore[type-arg]
    for identifier, _ in list(layout.listing(repository.storage, layout.INDEX)):
        packs += decode_index(repository.read_unpacked(layout.INDEX, identifier))
        (vault.folder / layout.name_of(layout.INDEX, identifier)).unlink()
    change(packs)
    repository.write_unpacked(layout.INDEX, encode_index(packs))


def test_pack_in_two_index_files_alike_is_a_hint(vault: Vault) -> None:
    replace_index(vault, lambda packs: packs.append(packs[0]))
    report = check(vault.folder)
    assert report.outcome is Outcome.OK
    assert [damage.kind for damage in report.damage] == ["pack.indexed-twice"]


def test_pack_in_two_index_files_that_differ(vault: Vault) -> None:
    def change(packs: list) -> None:  # type: ignore[type-arg]
        pack, blobs = packs[0]
        packs.append((pack, [replace(blobs[0], length=blobs[0].length + 1), *blobs[1:]]))

    replace_index(vault, change)
    assert "pack.conflict" in {damage.kind for damage in errors(check(vault.folder, STRUCTURE))}


@pytest.mark.parametrize("options", [READ_ALL, STRUCTURE])
@pytest.mark.parametrize("by", [-5, 5, 1 << 30])
def test_entry_in_the_wrong_place(vault: Vault, by: int, options: CheckOptions) -> None:
    def change(packs: list) -> None:  # type: ignore[type-arg]
        _, blobs = max(packs, key=lambda entry: len(entry[1]))
        blobs.sort(key=lambda blob: blob.offset)
        blobs[-1] = replace(blobs[-1], offset=blobs[-1].offset + by)

    replace_index(vault, change)
    assert {damage.kind for damage in errors(check(vault.folder, options))} == {"index.overlap"}


def test_entry_missing_from_the_index(vault: Vault) -> None:
    replace_index(vault, lambda packs: max(packs, key=lambda entry: len(entry[1]))[1].pop())
    kinds = {damage.kind for damage in errors(check(vault.folder))}
    assert "blob.missing" in kinds
    assert kinds & {"pack.size", "index.overlap"}


def test_wrong_ids_in_index_and_header_differ(vault: Vault) -> None:
    def change(packs: list) -> None:  # type: ignore[type-arg]
        _, blobs = max(packs, key=lambda entry: len(entry[1]))
        blobs[0] = replace(blobs[0], id=sha256(b"something else").digest())

    replace_index(vault, change)
    damages = errors(check(vault.folder))
    assert {"pack.corrupt", "blob.missing"} == {damage.kind for damage in damages}
    assert any("header and the index differ" in damage.message for damage in damages)


def test_second_copy_saves_the_files(vault: Vault, tmp_path: Path) -> None:
    """A blob that another pack holds intact touches nothing, though its damaged copy is told."""
    twin = vault.copy(tmp_path / "twin")
    for path in (twin.folder / "index").iterdir():
        path.unlink()
    for path in (twin.folder / "snapshots").iterdir():
        path.unlink()
    backup(twin.folder, twin.source)  # the same blobs in other packs
    for path in [*(twin.folder / "data").rglob("*"), *(twin.folder / "index").rglob("*")]:
        target = vault.folder / path.relative_to(twin.folder)
        if path.is_file() and not target.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    assert check(vault.folder).outcome is Outcome.OK
    for path in vault.packs(BlobType.DATA)[:1]:
        rewrite(path, flip(20))
    (damage,) = errors(check(vault.folder))
    assert damage.kind == "pack.corrupt"
    assert damage.files == damage.snapshots == ()
