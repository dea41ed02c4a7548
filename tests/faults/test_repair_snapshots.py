"""Snapshots made anew without what is lost, and folders that no snapshot leads to any more."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.archivekit import nodes, open_vault, save
from tests.faults.crafted import SECRET, Crafted, dir_node, errors, file_node
from tests.repairkit import Patient, contents, flip, healthy_vault, patient_vault, rewrite_file  # noqa: F401

from holdfast.format.pack import BlobType
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt
from holdfast.kernel.events import ignore
from holdfast.kernel.ids import BlobId
from holdfast.repository import Repository, layout
from holdfast.storage import LocalStorage
from holdfast.vaults.archive.repair import SnapshotsOptions, SnapshotsRepair, repair_snapshots
from holdfast.vaults.archive.repair.aside import Aside
from holdfast.vaults.base import Outcome


def lose(patient: Patient, path: Path) -> None:
    """Destroy for good the pack that holds the first piece of the newest version of a file."""
    vault = open_vault(patient.folder)
    content = dict(nodes(vault))[os.fsencode(path)].content
    assert content
    place = vault.repository.index.place(content[0])
    assert place is not None
    (patient.folder / layout.name_of(layout.DATA, place.pack)).unlink()
    patient.mend_index()


def test_a_file_keeps_what_is_left_of_it(patient: Patient) -> None:
    large = os.fsencode(patient.source / "large")
    old = dict(nodes(open_vault(patient.folder)))
    lose(patient, patient.source / "large")
    done = patient.mend_snapshots()
    assert done.outcome is Outcome.FAILED  # the damaged ones are still there
    assert (len(done.replaced), done.kept, done.forgotten) == (2, 2, 0)
    told = {path: what for _, path, what in done.changes}
    assert "are lost; the rest is kept" in told[large]
    latest = max(patient.open().snapshots(), key=lambda pair: (pair[1].time_ns, "repaired" in pair[1].tags))
    identifier, snapshot = latest
    assert snapshot.tags == ("repaired",)
    assert snapshot.original in {item.old for item in done.replaced}
    new = dict(nodes(open_vault(patient.folder), identifier))
    assert new.keys() == old.keys()
    assert new[large].content == old[large].content[1:]  # type: ignore[index]
    assert 0 < new[large].size < old[large].size
    # Folders without damage have the trees that they had.
    same = {path for path, node in old.items() if node.subtree is not None and new[path].subtree == node.subtree}
    assert os.fsencode(patient.source / "empty") in same
    assert len(same) >= 3
    assert replace(new[large], content=old[large].content, size=old[large].size) == old[large]
    assert patient.errors()
    forgetting = patient.mend_snapshots(forget=True)
    assert (forgetting.outcome, forgetting.forgotten) == (Outcome.OK, 2)
    assert [item.new for item in forgetting.replaced] == [None, None], "they were there already"
    assert patient.errors() == []


def test_a_lost_folder_becomes_empty(patient: Patient) -> None:
    vault = open_vault(patient.folder)
    deep = os.fsencode(patient.source / "folder 1" / "deep")
    tree = dict(nodes(vault))[deep].subtree
    assert tree is not None
    for place in vault.repository.index.places(tree):
        path = patient.folder / layout.name_of(layout.DATA, place.pack)
        rewrite_file(path, flip(place.offset + 20))
    with pytest.raises(Corrupt) as caught:
        patient.mend_snapshots(forget=True)
    assert "holdfast repair packs" in caught.value.hint
    assert patient.mend_packs().outcome is Outcome.FAILED
    done = patient.mend_snapshots(forget=True)
    assert [path for _, path, _ in done.changes] == [deep]
    assert patient.errors() == []
    left = dict(nodes(open_vault(patient.folder)))
    assert deep in left
    assert not [path for path in left if path.startswith(deep + b"/")]


def test_an_incomplete_index_comes_first(patient: Patient) -> None:
    """Nothing is given up for lost while it lies in a pack that no index names."""
    stored = list((patient.folder / "index").iterdir())
    for path in stored[: len(stored) // 2]:
        path.unlink()
    before = contents(patient.folder)
    for forget in (False, True):
        with pytest.raises(Corrupt) as caught:
            patient.mend_snapshots(forget=forget)
        assert "holdfast repair index" in caught.value.hint
    assert contents(patient.folder) == before
    patient.mend_index()
    assert not patient.mend_snapshots().replaced


def test_only_the_named_snapshots_are_touched(patient: Patient) -> None:
    lose(patient, patient.source / "large")
    first, second = (identifier for identifier, _ in patient.open().snapshots())
    rewrite_file(patient.folder / layout.name_of(layout.SNAPSHOTS, second), flip(30))
    done = patient.mend_snapshots(only=frozenset((first,)), forget=True)
    assert [item.old for item in done.replaced] == [first]
    assert done.hopeless == []
    assert (patient.folder / layout.name_of(layout.SNAPSHOTS, second)).exists()


def test_a_held_snapshot_stays_beside_its_successor(patient: Patient) -> None:
    lose(patient, patient.source / "large")
    done = patient.mend_snapshots(forget=True, protected=lambda snapshot: True)
    assert (len(done.replaced), done.kept, done.forgotten, done.outcome) == (2, 2, 0, Outcome.FAILED)
    assert len(patient.open().snapshots()) == 4


def test_a_snapshot_that_cannot_be_read_is_set_aside(patient: Patient) -> None:
    first, _ = (identifier for identifier, _ in patient.open().snapshots())
    path = patient.folder / layout.name_of(layout.SNAPSHOTS, first)
    rewrite_file(path, flip(30))
    damaged = path.read_bytes()
    kept = patient.mend_snapshots()
    assert (kept.kept, kept.outcome, path.exists()) == (1, Outcome.FAILED, True)
    done = patient.mend_snapshots(forget=True)
    assert (done.forgotten, done.outcome, path.exists()) == (1, Outcome.OK, False)
    assert (patient.aside.folder / f"snapshots-{path.name}").read_bytes() == damaged
    # Its folders are still there for the next command.
    assert patient.recover().roots
    assert patient.errors() == []


# -- trees that no backup would make -----------------------------------------------------------------------------------


def mend(crafted: Crafted, aside: Path) -> SnapshotsRepair:
    options = SnapshotsOptions(forget=True)
    return repair_snapshots(
        crafted.repository, options, aside=Aside(aside), protected=lambda snapshot: False, emit=ignore, cancel=Cancel()
    )


@pytest.fixture
def crafted(tmp_path: Path) -> Crafted:
    return Crafted(LocalStorage(str(tmp_path / "vault")))


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("size", "its size was wrong: it has 3 bytes, not 9"),
        ("name", "no file can have this name"),
        ("twice", "twice in its folder"),
        ("kind", "of an unknown kind"),
        ("no subtree", "has no content in the vault"),
        ("no content", "it has no content in the vault"),
    ],
)
def test_trees_that_make_no_sense_are_made_to(crafted: Crafted, tmp_path: Path, case: str, words: str) -> None:
    good = file_node("good", 3, crafted.data(b"abc"))
    more = crafted.data(b"more")
    bad = {
        "size": [file_node("a", 9, crafted.data(b"abc"))],
        "name": [file_node("..", 4, more)],
        "twice": [file_node("a", 4, more), file_node("a", 4, more)],
        "kind": [file_node("a", 4, more).replace(b'"file"', b'"portal"')],
        "no subtree": [dir_node("a", b"").replace(b',"subtree":""', b"")],
        "no content": [file_node("a", 4).replace(b"[]", b"null")],
    }[case]
    crafted.save(crafted.tree(*bad, good))
    assert errors(crafted.check())
    done = mend(crafted, tmp_path / "aside")
    ((_, _, what),) = done.changes
    assert words in what
    assert (len(done.replaced), done.outcome) == (1, Outcome.OK)
    assert errors(crafted.check()) == []
    repository = Repository.open(crafted.storage, SECRET)
    repository.load_index()
    ((_, snapshot),) = repository.snapshots()
    assert good in repository.read_blob(snapshot.tree)


def test_names_out_of_order_are_sorted(crafted: Crafted, tmp_path: Path) -> None:
    blob = crafted.data(b"abc")
    crafted.save(crafted.tree(file_node("b", 3, blob), file_node("a", 3, blob)))
    assert mend(crafted, tmp_path / "aside").outcome is Outcome.OK
    assert errors(crafted.check()) == []


def test_a_damaged_empty_folder_is_stored_again(crafted: Crafted, tmp_path: Path) -> None:
    """What stands in place of a lost folder may have the id of just what is damaged."""
    crafted.save(crafted.tree(dir_node("empty", crafted.tree())))
    empty = BlobId(crafted.tree())
    crafted.repository.load_index()
    (place,) = crafted.repository.index.places(empty)
    path = tmp_path / "vault" / layout.name_of(layout.DATA, place.pack)
    rewrite_file(path, flip(place.offset + 20))
    sick = Patient(tmp_path / "vault", tmp_path, tmp_path / "aside")
    sick.open = lambda storage=None: crafted.repository  # type: ignore[method-assign,assignment]
    assert sick.mend_packs().outcome is Outcome.FAILED
    done = mend(crafted, tmp_path / "aside")
    assert done.replaced == []
    assert len(done.changes) == 1
    assert errors(crafted.check()) == []


# -- recover -----------------------------------------------------------------------------------------------------------


def test_forgotten_snapshots_come_back(patient: Patient, need: Callable[[str], str]) -> None:
    roots = {snapshot.tree for _, snapshot in patient.open().snapshots()}
    whole = patient.restorable()
    for path in (patient.folder / "snapshots").iterdir():
        path.unlink()
    before = contents(patient.folder)
    planned = patient.recover(dry_run=True)
    assert contents(patient.folder) == before
    done = patient.recover()
    assert set(done.roots) == set(planned.roots) == roots
    assert (planned.snapshot, done.outcome, done.unreadable) == (None, Outcome.OK, 0)
    ((identifier, snapshot),) = patient.open().snapshots()
    assert identifier == done.snapshot
    assert (snapshot.paths, snapshot.tags, snapshot.hostname) == (("/recover",), ("recovered",), "here")
    (found,) = patient.restorable().values()
    for files in whole.values():
        inside = {path for path in files if path != b"/"}
        assert any({b"/" + root.hex()[:8].encode() + path for path in inside} <= found.keys() for root in roots)
    checked = patient.restic(need("restic"), "check", "--read-data")
    assert checked.returncode == 0, checked.stderr
    again = patient.recover()
    assert (again.snapshot, again.roots, again.trees) == (None, [], 0)


def test_only_what_nothing_leads_to_is_recovered(patient: Patient) -> None:
    """One of two snapshots is gone: the folders that the other one shares are no roots."""
    first, second = patient.open().snapshots()
    (patient.folder / layout.name_of(layout.SNAPSHOTS, first[0])).unlink()
    done = patient.recover()
    assert done.roots == [first[1].tree]
    assert done.trees < sum(1 for path in patient.restorable()[second[0]] if path.endswith(b"/"))


def test_what_hung_below_a_lost_folder_is_recovered(patient: Patient) -> None:
    """The top of every snapshot is lost: what was beneath it comes back, each folder under its id."""
    vault = open_vault(patient.folder)
    inner = {node.subtree for path, node in nodes(vault) if path == os.fsencode(patient.source)}
    tops = {snapshot.tree for _, snapshot in patient.open().snapshots()}
    vault.repository.load_index()
    packs = {place.pack for tree in tops | inner for place in vault.repository.index.places(tree)}  # type: ignore[arg-type]
    for pack in packs:
        path = patient.folder / layout.name_of(layout.DATA, pack)
        for tree in tops | inner:
            for place in vault.repository.index.places(tree):  # type: ignore[arg-type]
                if place.pack == pack:
                    rewrite_file(path, flip(place.offset + 20))
    patient.mend_packs()
    done = patient.recover()
    assert done.outcome is Outcome.FAILED
    assert done.roots
    mended = patient.mend_snapshots(forget=True)
    assert len(mended.hopeless) == 2
    (found,) = patient.restorable().values()
    assert any(path.endswith(b"/deep/file 1") for path in found)
    assert patient.errors() == []


def test_a_backup_that_was_interrupted_leaves_nothing_to_recover_twice(patient: Patient) -> None:
    save(open_vault(patient.folder), patient.source)
    assert patient.recover().snapshot is None
    assert len({pack.name for pack in patient.packs(BlobType.TREE)}) >= 1
