"""A prune of a damaged vault: nothing that is needed is deleted, and what is damaged is told."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from tests.archivekit import open_vault, save
from tests.prunekit import Meanwhile, Used, orphan, run, used_vault

from holdfast.format.crypto import seal
from holdfast.format.index import Entries
from holdfast.format.pack import BlobType, encode_header, encode_trailer
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, HoldfastError
from holdfast.kernel.events import Event, Fact, ignore
from holdfast.kernel.ids import PackId
from holdfast.repository import layout, writing
from holdfast.repository.packer import Packer
from holdfast.repository.reindex import replace_index
from holdfast.repository.repository import Repository
from holdfast.vaults.archive.prune import PruneOptions
from holdfast.vaults.archive.reach import reach


@pytest.fixture
def used(tmp_path: Path) -> Used:
    return used_vault(tmp_path)


def files_of(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def loaded(used: Used) -> Repository:
    repository = open_vault(used.place).repository
    repository.load_index()
    return repository


def pack_path(used: Used, repository: Repository, number: int) -> Path:
    pack = repository.index.packs[repository.index.pack_number(number)]
    return used.place / layout.name_of(layout.DATA, pack)


def needed(used: Used, *, tree: bool, shared_pack: bool = False) -> tuple[Repository, int]:
    """The entry of a blob that a kept snapshot needs; with ``shared_pack`` in a pack that also holds unused ones."""
    repository = loaded(used)
    roots = [bytes(snapshot.tree) for _, snapshot in repository.snapshots()]
    marks = reach(repository, roots, emit=ignore, cancel=Cancel(), workers=0).marks
    index = repository.index
    for number, kind in enumerate(index.tree_flags()):
        begin, end = index.span(index.pack_number(number))
        if marks[number] and bool(kind) == tree and (not shared_pack or not all(marks[begin:end])):
            return repository, number
    raise AssertionError("there is no such blob")


def damage(path: Path, offset: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("kind", ["pack", "short pack", "tree", "index", "snapshot"])
def test_whatever_is_missing_or_damaged_nothing_is_deleted(used: Used, kind: str) -> None:
    repository, number = needed(used, tree=kind == "tree")
    path = pack_path(used, repository, number)
    if kind == "pack":
        path.unlink()
    elif kind == "short pack":
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1])
    elif kind == "tree":
        damage(path, repository.index.entry(number)[1] + 20)
    else:
        damage(next((used.place / {"index": "index", "snapshot": "snapshots"}[kind]).iterdir()), 30)
    before = files_of(used.place)
    with pytest.raises(Corrupt) as caught:
        run(used.place)
    assert caught.value.hint
    assert files_of(used.place) == before


def test_an_index_without_packs_that_are_needed_is_not_pruned_by(used: Used) -> None:
    """Index files that somebody lost make data look unused and packs look like orphans."""
    largest = max((used.place / "index").iterdir(), key=lambda path: path.stat().st_size)
    largest.unlink()
    before = files_of(used.place)
    with pytest.raises(Corrupt, match="in no index"):
        run(used.place)
    assert files_of(used.place) == before


def test_a_damaged_blob_keeps_its_pack(used: Used) -> None:
    repository, number = needed(used, tree=False, shared_pack=True)
    path = pack_path(used, repository, number)
    damage(path, repository.index.entry(number)[1] + 20)
    facts: list[Event] = []
    summary = run(used.place, events=facts)
    assert summary.damaged_packs == [path.name] and summary.outcome == "partial"
    told = [fact for fact in facts if isinstance(fact, Fact) and fact.kind == "damage.found"]
    assert [fact.data["blobs"] for fact in told] == [[repository.index.id_of(number).hex()]]
    assert path.exists()
    lost = {bytes(repository.index.id_of(number))}
    after = loaded(used)
    for snapshot in after.snapshots():
        assert snapshot[0] in used.kept
    for identifier in {repository.index.id_of(at) for at in range(len(repository.index))} - lost:
        if after.index.has(identifier):
            after.read_blob(identifier)
    assert after.index.has(next(iter(lost))), "a repair may still find something"
    path.chmod(0o600)
    damage(path, repository.index.entry(number)[1] + 20)  # the bit flips back: the disk was only moody
    run(used.place)
    used.assert_whole(None)
    used.assert_clean()


def test_the_better_of_two_copies_stays(used: Used) -> None:
    """A pack that is gone, of which every blob lies elsewhere as well, is no loss."""
    repository, number = needed(used, tree=False)
    path = pack_path(used, repository, number)
    pack = repository.index.packs[repository.index.pack_number(number)]
    contents = [(blob.id, repository.read_blob(blob.id)) for blob in repository.index.blobs_of(pack)]
    with writing(repository) as writer:
        packer = Packer(repository.storage, repository.master, BlobType.DATA, repository.draw)
        for identifier, content in contents:
            packer.add(identifier, content)
        for new in packer.finish():
            writer.record(new)
    path.unlink()
    summary = run(used.place)
    assert summary.figures.gone_packs == 1
    used.assert_whole(None)
    used.assert_clean()


def test_a_new_snapshot_that_needs_what_is_missing_stops_the_deletion(used: Used) -> None:
    """What was committed since the first look is looked at with the same care."""

    def break_something() -> None:
        vault = open_vault(used.place)
        (used.source / "f0").write_bytes(b"new")
        saved = save(vault, used.source).snapshot
        assert saved is not None
        repository = loaded(used)
        tree = next(snapshot.tree for identifier, snapshot in repository.snapshots() if identifier == saved)
        pack_path(used, repository, repository.index.number(tree)).unlink()

    before = {path for path in (used.place / "data").rglob("*") if path.is_file()}
    with pytest.raises(HoldfastError):
        run(Meanwhile(used.place, "delete", "locks/", break_something))
    assert before <= {path for path in (used.place / "data").rglob("*") if path.is_file()}


def test_orphans_do_not_hide_that_there_is_nothing_else(used: Used) -> None:
    run(used.place)
    orphan(open_vault(used.place).repository, b"left by somebody")
    summary = run(used.place)
    assert (summary.removed_packs, summary.new_packs, summary.index_files) == (1, 0, 0)
    used.assert_whole(None)


def test_a_pack_that_mixes_data_and_trees_is_sorted_out(used: Used) -> None:
    """As old versions of restic wrote them, and as a careless tool may."""
    run(used.place)
    repository = loaded(used)
    index, storage = repository.index, repository.storage
    content, blobs = b"", []
    for pack in index.packs:
        sealed = storage.read(layout.name_of(layout.DATA, pack))
        for blob in index.blobs_of(pack):
            content += sealed[blob.offset : blob.offset + blob.length]
            blobs.append(replace(blob, offset=len(content) - blob.length))
    assert {blob.type for blob in blobs} == set(BlobType)
    header = seal(repository.master, os.urandom(16), encode_header(blobs))
    content += header + encode_trailer(len(header))
    mixed = PackId(sha256(content).digest())
    storage.write(layout.name_of(layout.DATA, mixed), content)
    replace_index(repository, list(repository.packs_of_file), [(mixed, Entries.of(blobs))])
    for pack in index.packs:
        storage.delete(layout.name_of(layout.DATA, pack))
    used.assert_whole(None)
    summary = run(used.place, PruneOptions(workers=0))
    assert (summary.figures.repack_packs, summary.new_packs, summary.removed_packs) == (1, 2, 1)
    after = loaded(used).index
    assert all(len({blob.type for blob in after.blobs_of(pack)}) == 1 for pack in after.packs)
    used.assert_whole(None)
    used.assert_clean()
