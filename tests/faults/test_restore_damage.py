"""A restore from a damaged vault: what is touched is told and absent, everything else comes back."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.archivekit import new_vault, nodes, open_vault, save
from tests.restorekit import Forge, bring_back, facts, forge, look

from holdfast.format.node import Node
from holdfast.format.pack import BlobType
from holdfast.kernel.errors import Corrupt
from holdfast.kernel.events import Event
from holdfast.kernel.ids import BlobId
from holdfast.repository import layout
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.read import read_file, walk
from holdfast.vaults.base import Outcome


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Small files, files of several blobs and a hard link, in two folders."""
    root = tmp_path / "source"
    draw = random.Random(3)
    for folder in ("one", "two"):
        (root / folder).mkdir(parents=True)
        for number in range(30):
            (root / folder / f"small{number}").write_bytes(draw.randbytes(200 + number))
        (root / folder / "big").write_bytes(draw.randbytes(5_000_000))
    os.link(root / "one/small3", root / "two/linked")
    return root


@pytest.fixture
def vault(tmp_path: Path, source: Path) -> ArchiveVault:
    """It, saved in several packs: one a folder."""
    made = new_vault(tmp_path / "vault")
    save(made, source / "one")
    save(made, source)
    return made


def pack_file(vault: ArchiveVault, identifier: bytes) -> tuple[Path, int, int]:
    """Where a blob lies: the file, offset and length."""
    place = vault.repository.index.place(BlobId(identifier))
    assert place is not None
    return Path(vault.location) / layout.name_of(layout.DATA, place.pack), place.offset, place.length


def change(path: Path, edit: Callable[[bytearray], None]) -> None:
    """Edit a file that the vault protects from writing."""
    data = bytearray(path.read_bytes())
    edit(data)
    os.chmod(path, 0o600)
    path.write_bytes(data)


def content_of(vault: ArchiveVault, end: bytes) -> tuple[BlobId, ...]:
    """The blobs of the file whose path ends so."""
    return next(node.content for path, node in nodes(vault) if path.endswith(end) and node.content)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("where", ["nonce", "ciphertext", "mac"])
def test_one_flipped_bit_costs_one_file(
    tmp_path: Path, source: Path, vault: ArchiveVault, where: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.vaults.archive.restore.run.ALONE_FILES", 0)
    path, offset, length = pack_file(vault, content_of(vault, b"/two/small7")[0])
    at = offset + {"nonce": 3, "ciphertext": 40, "mac": length - 1}[where]
    change(path, lambda data: data.__setitem__(at, data[at] ^ 1))
    events: list[Event] = []
    done = bring_back(open_vault(tmp_path / "vault"), tmp_path / "back", source, workers=workers, emit=events.append)
    assert done.outcome is Outcome.PARTIAL
    assert [problem.path for problem in done.problems] == [os.fsencode(source / "two/small7")]
    assert [fact.data["path"] for fact in facts(events, "damage.found")] == [os.fsencode(source / "two/small7")]
    expected = look(source)
    del expected[b"./two/small7"]
    assert look(tmp_path / "back") == expected


@pytest.mark.parametrize("workers", [0, 3])
def test_a_damaged_part_costs_the_whole_file_and_its_links(
    tmp_path: Path, source: Path, vault: ArchiveVault, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.vaults.archive.restore.run.ALONE_FILES", 0)
    monkeypatch.setattr("holdfast.vaults.archive.restore.plan.PARTS_PER_TASK", 1)
    for name in (b"/one/big", b"/one/small3"):
        path, offset, _ = pack_file(vault, content_of(vault, name)[-1])
        change(path, lambda data, at=offset + 20: data.__setitem__(at, data[at] ^ 0x80))
    done = bring_back(open_vault(tmp_path / "vault"), tmp_path / "back", source, workers=workers)
    touched = {os.fsencode(source / name) for name in ("one/big", "one/small3", "two/linked")}
    assert {problem.path for problem in done.problems} == touched and len(done.problems) == 3
    expected = look(source)
    for name in touched:
        del expected[b"." + name.removeprefix(os.fsencode(source))]
    assert look(tmp_path / "back") == expected


@pytest.mark.parametrize("how", ["deleted", "emptied", "cut", "swapped"])
def test_a_whole_pack_that_is_gone_costs_only_its_files(
    tmp_path: Path, source: Path, vault: ArchiveVault, how: str
) -> None:
    pack, _, _ = pack_file(vault, content_of(vault, b"/two/big")[0])
    of_this_pack = {
        path.removeprefix(os.fsencode(source))
        for path, node in nodes(vault)
        if node.content and any(pack_file(vault, blob)[0] == pack for blob in node.content)
    }
    other = pack_file(vault, content_of(vault, b"/one/big")[0])[0]
    assert other != pack
    if how == "deleted":
        pack.unlink()
    elif how == "emptied":
        change(pack, bytearray.clear)
    elif how == "cut":
        change(pack, lambda data: data.__delitem__(slice(len(data) // 2, None)))
    else:
        change(pack, lambda data: data.__setitem__(slice(None), other.read_bytes()))
    done = bring_back(open_vault(tmp_path / "vault"), tmp_path / "back", source)
    touched = {problem.path.removeprefix(os.fsencode(source)) for problem in done.problems}
    assert touched and (touched <= of_this_pack if how == "cut" else touched == of_this_pack)
    expected = {path: seen for path, seen in look(source).items() if path[1:] not in touched}
    assert look(tmp_path / "back") == expected


def test_a_damaged_tree_costs_its_folder(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    tree = next(node.subtree for path, node in nodes(vault) if path.endswith(b"/source/two"))
    assert tree is not None
    path, offset, _ = pack_file(vault, tree)
    change(path, lambda data: data.__setitem__(offset + 30, data[offset + 30] ^ 4))
    vault = open_vault(tmp_path / "vault")
    done = bring_back(vault, tmp_path / "back", source)
    assert [problem.path for problem in done.problems] == [os.fsencode(source / "two")]
    assert sorted(os.listdir(tmp_path / "back")) == ["one", "two"] and not os.listdir(tmp_path / "back/two")
    snapshot = vault.snapshots()[-1]
    told: list[bytes] = []
    seen = [at for at, _ in walk(vault.repository, snapshot, os.fsencode(source), lambda at, error: told.append(at))]
    assert told == [os.fsencode(source / "two")] and os.fsencode(source / "one/big") in seen
    with pytest.raises(Corrupt, match="two"):
        list(walk(vault.repository, snapshot))


def test_reading_one_damaged_file_raises_and_names_it(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    path, offset, _ = pack_file(vault, content_of(vault, b"/one/big")[1])
    change(path, lambda data: data.__setitem__(offset + 20, data[offset + 20] ^ 1))
    vault = open_vault(tmp_path / "vault")
    with vault.reading():
        pieces = read_file(vault.repository, vault.snapshots()[-1], os.fsencode(source / "one/big"))
        assert (source / "one/big").read_bytes().startswith(next(pieces))
        with pytest.raises(Corrupt, match="one/big"):
            list(pieces)


def test_a_damaged_index_file_costs_what_only_it_knows(tmp_path: Path, source: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, source / "one")
    (first,) = (tmp_path / "vault/index").iterdir()
    save(vault, source)
    change(first, lambda data: data.__setitem__(50, data[50] ^ 1))
    events: list[Event] = []
    done = bring_back(open_vault(tmp_path / "vault"), tmp_path / "back", source, emit=events.append)
    assert done.outcome is Outcome.PARTIAL
    assert any("index" in fact.message for fact in facts(events, "damage.found"))
    assert (tmp_path / "back/two/big").read_bytes() == (source / "two/big").read_bytes()


def test_another_intact_copy_of_a_blob_is_used(tmp_path: Path) -> None:
    vault = new_vault(tmp_path / "vault")

    def make(smith: Forge) -> list[Node]:
        node = smith.file(b"file", b"content that is stored twice")
        smith.flush()
        smith.file(b"again", b"content that is stored twice", b"and more")
        return [node]

    snapshot = forge(vault, make)
    blob = content_of(vault, b"/file")[0]
    assert len(vault.repository.index.places(blob)) == 2
    path, offset, _ = pack_file(vault, blob)
    change(path, lambda data: data.__setitem__(offset + 20, data[offset + 20] ^ 1))
    done = bring_back(open_vault(tmp_path / "vault"), tmp_path / "back", snapshot=snapshot)
    assert done.outcome is Outcome.OK
    assert (tmp_path / "back/file").read_bytes() == b"content that is stored twice"


def test_content_that_no_index_knows(tmp_path: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    lost = BlobId(bytes(32))

    def make(smith: Forge) -> list[Node]:
        known = smith.blob(b"known")
        return [
            smith.file(b"big", content=(known, lost), size=10),
            smith.file(b"good", b"good"),
            smith.file(b"link1", content=(lost,), links=2, inode=7),
            smith.file(b"link2", content=(lost,), links=2, inode=7),
            smith.file(b"none", content=None),
            smith.file(b"small", content=(lost,), size=5),
        ]

    done = bring_back(vault, tmp_path / "back", snapshot=forge(vault, make))
    assert sorted(problem.path for problem in done.problems) == [b"/big", b"/link1", b"/link2", b"/none", b"/small"]
    assert os.listdir(tmp_path / "back") == ["good"]


def test_what_is_there_stays_when_its_replacement_is_damaged(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    path, offset, _ = pack_file(vault, content_of(vault, b"/two/small7")[0])
    change(path, lambda data: data.__setitem__(offset + 20, data[offset + 20] ^ 1))
    (tmp_path / "back/two").mkdir(parents=True)
    (tmp_path / "back/two/small7").write_bytes(b"what I have")
    bring_back(open_vault(tmp_path / "vault"), tmp_path / "back", source, delete=True)
    assert (tmp_path / "back/two/small7").read_bytes() == b"what I have"


def test_a_tree_blob_is_content_like_any_other(tmp_path: Path) -> None:
    """A file may be a tree's very bytes: deduplication makes it refer to the tree's blob."""
    vault = new_vault(tmp_path / "vault")
    snapshot = forge(vault, lambda smith: [smith.file(b"file", content=(smith.tree(),), size=13)])
    assert vault.repository.index.place(content_of(vault, b"/file")[0]).type is BlobType.TREE  # type: ignore[union-attr]
    assert bring_back(vault, tmp_path / "back", snapshot=snapshot).outcome is Outcome.OK
    assert (tmp_path / "back/file").read_bytes() == b'{"nodes":[]}\n'


def test_a_damaged_way_to_one_path_leaves_the_others(tmp_path: Path) -> None:
    vault = new_vault(tmp_path / "vault")

    def make(smith: Forge) -> list[Node]:
        return [
            smith.folder(b"home", subtree=BlobId(bytes(32))),
            smith.folder(b"srv", smith.folder(b"data", smith.file(b"file", b"good"))),
        ]

    done = bring_back(vault, tmp_path / "back", snapshot=forge(vault, make, "/home/me", "/srv/data"))
    assert [problem.path for problem in done.problems] == [b"/home"]
    assert (tmp_path / "back/srv/data/file").read_bytes() == b"good"
