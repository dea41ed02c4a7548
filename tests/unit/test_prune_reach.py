"""What snapshots reach, and how the index is replaced: marks, copies, damage, batches."""

from __future__ import annotations

import random
from array import array
from pathlib import Path

import pytest
from tests.archivekit import files, new_vault, on_disk, open_vault, save

from holdfast.format.index import Entries, decode_entries, encode_index, encode_list, encode_pack
from holdfast.format.pack import Blob, BlobType
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Corrupt, HoldfastError
from holdfast.kernel.events import ignore
from holdfast.kernel.ids import BlobId, PackId
from holdfast.repository import Repository, layout, writing
from holdfast.repository.packer import Packer
from holdfast.repository.reindex import replace_index
from holdfast.vaults.archive.prune.survey import survey
from holdfast.vaults.archive.reach import Reached, reach


def filled(tmp_path: Path, count: int = 30) -> tuple[Repository, Path]:
    """A vault with one snapshot of some folders, its index loaded."""
    source = tmp_path / "source"
    draw = random.Random(3)
    for number in range(count):
        folder = source / f"d{number % 7}" / "deep"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(draw.randbytes(400))
    save(new_vault(tmp_path / "vault"), source)
    return loaded(tmp_path / "vault"), source


def loaded(place: Path) -> Repository:
    repository = open_vault(place).repository
    repository.load_index()
    return repository


def roots(repository: Repository) -> list[bytes]:
    return [bytes(snapshot.tree) for _, snapshot in repository.snapshots()]


def reached(repository: Repository, workers: int = 0, trees: list[bytes] | None = None) -> Reached:
    return reach(repository, trees or roots(repository), emit=ignore, cancel=Cancel(), workers=workers)


def add_pack(repository: Repository, kind: BlobType, *contents: tuple[bytes, bytes]) -> None:
    """One more pack with these (id, content), in the index."""
    packer = Packer(repository.storage, repository.master, kind, repository.draw)
    with writing(repository) as writer:
        for identifier, content in contents:
            packer.add(BlobId(identifier), content)
        for pack in packer.finish():
            writer.record(pack)


@pytest.mark.parametrize("workers", [0, 2])
def test_all_that_a_snapshot_needs_is_marked_and_nothing_else(tmp_path: Path, workers: int) -> None:
    repository, source = filled(tmp_path)
    before = len(repository.index)
    (source / "d1" / "deep" / "more").write_bytes(b"more")
    save(open_vault(tmp_path / "vault"), source)
    first, second = roots(loaded(tmp_path / "vault"))
    repository = loaded(tmp_path / "vault")
    old = reached(repository, workers, [first])
    assert sum(old.marks) == before < len(repository.index)
    both = reached(repository, workers, [first, second, first])
    assert sum(both.marks) == len(repository.index)
    assert both.trees == repository.index.tree_flags().count(1)


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    repository, _ = filled(tmp_path)
    packs = {pack: repository.index.entries_of(pack) for pack in repository.index.packs}
    data = next(pack for pack, entries in packs.items() if not entries.trees[0])
    lost = packs[data].blobs()[3].id
    packs[data] = Entries.of([blob for blob in packs[data].blobs() if blob.id != lost])
    replace_index(repository, list(repository.index_files), packs.items())
    repository = loaded(tmp_path / "vault")
    with pytest.raises(Corrupt) as caught:
        reached(repository)
    assert caught.value.context["blob"] == lost.hex() and "holdfast check" in caught.value.hint
    told: list[tuple[bytes, HoldfastError]] = []
    found = reach(
        repository, roots(repository), emit=ignore, cancel=Cancel(), on_damage=lambda *told_: told.append(told_)
    )
    assert found.lost == {bytes(lost)} and [identifier for identifier, _ in told] == [lost]
    assert sum(found.marks) == len(repository.index)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    repository, _ = filled(tmp_path)
    with pytest.raises(Corrupt, match="0101"):
        reached(repository, trees=[b"\1" * 32])


def test_a_damaged_tree_is_read_from_its_other_copy(tmp_path: Path) -> None:
    repository, source = filled(tmp_path)
    index = repository.index
    flags = index.tree_flags()
    number = flags.index(1)
    identifier = index.id_of(number)
    content = repository.read_blob(identifier)
    position, offset, length, _ = index.entry(number)
    path = tmp_path / "vault" / layout.name_of(layout.DATA, index.packs[position])
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset + length - 20)
        file.write(b"damaged!")
    with pytest.raises(Corrupt, match=identifier.hex()[:8]):
        reached(repository)
    add_pack(open_vault(tmp_path / "vault").repository, BlobType.TREE, (identifier, content))
    repository = loaded(tmp_path / "vault")
    found = reached(repository)
    bad, good = repository.index.copies(identifier, tree=True)
    if bad not in found.bad:
        bad, good = good, bad  # index files are read in the order of their names
    if found.bad:  # else the intact copy came first
        assert found.bad == {bad} and not found.marks[bad] and found.marks[good]
    assert files(open_vault(tmp_path / "vault"), source) == on_disk(source)


def test_a_tree_and_a_file_with_the_same_bytes_are_two_things(tmp_path: Path) -> None:
    repository, source = filled(tmp_path)
    root = roots(repository)[0]
    (source / "copy").write_bytes(repository.read_blob(BlobId(root)))
    add_pack(repository, BlobType.DATA, (root, repository.read_blob(BlobId(root))))
    repository = loaded(tmp_path / "vault")
    tree, data = repository.index.find(root, tree=True), repository.index.find(root, tree=False)
    assert tree >= 0 and data >= 0 and tree != data
    marks = reached(repository).marks
    assert (marks[tree], marks[data]) == (1, 0)


def test_of_several_copies_one_is_kept_the_one_in_the_fuller_pack(tmp_path: Path) -> None:
    repository, _ = filled(tmp_path)
    index = repository.index
    data = [number for number, tree in enumerate(index.tree_flags()) if not tree]
    twins = [index.id_of(number) for number in data[:5]]
    contents = [(bytes(twin), repository.read_blob(twin)) for twin in twins]
    add_pack(repository, BlobType.DATA, *contents, (b"?" * 32, b"unused" * 400))
    repository = loaded(tmp_path / "vault")
    index = repository.index
    sizes = [(PackId(pack), info.size) for pack, info in layout.listing(repository.storage, layout.DATA)]
    found = survey(index, reached(repository), sizes)
    assert found.blobs == (len(index) - 6, 1, 5)
    assert all(map(found.is_sound, range(len(index.packs))))
    poor = next(pack for pack in range(len(index.packs)) if found.rest[pack])
    assert found.kept[poor] == 0, "the pack with waste in it can go as a whole"
    assert sum(found.twice) > 0 and found.orphans == {}
    # Without the better pack the poor one has to do.
    gone = index.pack_number(data[0]) if index.pack_number(data[0]) != poor else index.pack_number(data[0]) + 1
    missing = survey(index, reached(repository), [pair for pair in sizes if pair[0] != index.packs[gone]])
    assert not missing.is_sound(gone)
    assert all(missing.keep[number] for twin in twins for number in index.copies(twin, tree=False)
               if index.pack_number(number) == poor)  # fmt: skip


def test_walking_stops_on_request(tmp_path: Path) -> None:
    repository, _ = filled(tmp_path)
    cancel = Cancel()
    cancel.cancel("enough")
    with pytest.raises(Cancelled, match="enough"):
        reach(repository, roots(repository), emit=ignore, cancel=cancel, workers=0)


# -- replacing the index -----------------------------------------------------------------------------------------------


def test_columns_are_written_as_objects_are() -> None:
    blobs = [
        Blob(BlobId(b"a" * 32), BlobType.DATA, 0, 100, None),
        Blob(BlobId(b"b" * 32), BlobType.TREE, 100, 50, 400),
        Blob(BlobId(b"c" * 32), BlobType.DATA, 150, 4_000_000_000, 1),
    ]
    packs = [(PackId(b"p" * 32), blobs), (PackId(b"q" * 32), [])]
    encoded = encode_list([encode_pack(pack, Entries.of(blobs)) for pack, blobs in packs])
    assert encoded == encode_index(packs)
    assert [(pack, entries.blobs()) for pack, entries in decode_entries(encoded)] == packs


def test_new_index_files_hold_whole_packs_and_not_too_many(tmp_path: Path) -> None:
    repository = new_vault(tmp_path / "vault").repository
    sizes = [20_000, 20_000, 20_000, 70_000, 10, 49_990]
    draw = random.Random(1)

    def entries(count: int) -> Entries:
        column = array("I", [100]) * count
        return Entries(draw.randbytes(32 * count), bytes(count), column, column, array("I", [0]) * count)

    written = replace_index(
        repository, [], ((PackId(bytes([at]) * 32), entries(size)) for at, size in enumerate(sizes))
    )
    contents = [
        [
            (pack[0], len(entries.trees))
            for pack, entries in decode_entries(repository.read_unpacked(layout.INDEX, file))
        ]
        for file in written
    ]
    assert contents == [[(0, 20_000), (1, 20_000)], [(2, 20_000)], [(3, 70_000)], [(4, 10), (5, 49_990)]]
    again = replace_index(repository, written, [])
    assert again == [] and list(layout.listing(repository.storage, layout.INDEX)) == []
