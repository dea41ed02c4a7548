"""Copying snapshots from one vault into another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.archivekit import SECRET, files, new_vault, nodes, open_vault, save
from tests.copykit import Versions, bring

from holdfast.format.config import RepoConfig
from holdfast.format.crypto import seal
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Corrupt, Invalid
from holdfast.kernel.events import Event, Fact
from holdfast.repository import Repository, layout
from holdfast.storage import LocalStorage, ReadOnly
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import CheckOptions, Outcome, Subset


@pytest.mark.parametrize("workers", [0, 2])
def test_everything_arrives_once(tmp_path: Path, workers: int) -> None:
    there = Versions(tmp_path)
    target = new_vault(tmp_path / "target")
    first = bring(there.place, target, workers=workers)
    assert (len(first.copied), first.already, first.outcome) == (3, 0, Outcome.OK)
    there.assert_copied(open_vault(tmp_path / "target"))
    again = bring(there.place, tmp_path / "target", workers=workers)
    assert (len(again.copied), again.already, again.blobs, again.packs) == (0, 3, 0, 0)
    report = open_vault(tmp_path / "target").check(
        CheckOptions(read_data=Subset()), emit=lambda _event: None, cancel=Cancel()
    )
    assert report.damage == []


def test_only_what_is_missing_is_copied(tmp_path: Path) -> None:
    there = Versions(tmp_path)
    bring(there.place, new_vault(tmp_path / "target"))
    (there.folder / "d0" / "new").write_bytes(b"only this is new")
    there.save(open_vault(there.place))
    summary = bring(there.place, tmp_path / "target")
    assert len(summary.copied) == 1
    assert summary.bytes < 50_000
    there.assert_copied(open_vault(tmp_path / "target"))


def test_nothing_that_is_told_about_a_snapshot_gets_lost(tmp_path: Path) -> None:
    there = Versions(tmp_path, versions=1)
    vault = open_vault(there.place)
    identifier, snapshot = vault.repository.snapshots()[0]
    odd = replace(snapshot, tags=("a", "b"), extra={"description": "a note", "label": "of another program"})
    vault.repository.delete_unpacked(layout.SNAPSHOTS, identifier)
    new = vault.repository.write_unpacked(layout.SNAPSHOTS, odd.encode())
    target = new_vault(tmp_path / "target")
    bring(there.place, target)
    copied = target.repository.snapshots()[0][1]
    assert copied == replace(odd, parent=None, original=new)


def test_a_version_that_was_tagged_later_is_not_brought_twice(tmp_path: Path) -> None:
    there = Versions(tmp_path, versions=1)
    target = new_vault(tmp_path / "target")
    bring(there.place, target)
    repository = open_vault(there.place).repository
    identifier, snapshot = repository.snapshots()[0]
    repository.write_unpacked(layout.SNAPSHOTS, replace(snapshot, tags=("late",), original=identifier).encode())
    repository.delete_unpacked(layout.SNAPSHOTS, identifier)
    assert bring(there.place, tmp_path / "target").already == 1
    # And back again it is known as well.
    assert bring(tmp_path / "target", there.place).already == 1


def test_a_dry_run_writes_nothing_and_tells_the_same_figures(tmp_path: Path) -> None:
    there = Versions(tmp_path)
    target = new_vault(tmp_path / "target")
    before = sorted(path.name for path in (tmp_path / "target").rglob("*"))
    reading = ArchiveVault(Repository.open(ReadOnly(LocalStorage(str(tmp_path / "target"))), SECRET), no_lock=True)
    planned = bring(there.place, reading, dry_run=True)
    assert sorted(path.name for path in (tmp_path / "target").rglob("*")) == before
    assert [new for _, new in planned.copied] == [None] * 3
    real = bring(there.place, target)
    assert (planned.blobs, planned.bytes) == (real.blobs, real.bytes)


def test_a_vault_is_not_copied_into_itself(tmp_path: Path) -> None:
    there = Versions(tmp_path, versions=1)
    with pytest.raises(Invalid, match="itself"):
        bring(there.place, there.place)


def test_vaults_that_cut_alike_share_data_afterwards(tmp_path: Path) -> None:
    there = Versions(tmp_path, versions=1)
    (there.folder / "large").write_bytes(bytes(range(256)) * 12_000)
    there.save(open_vault(there.place))
    source = open_vault(there.place)
    storage = LocalStorage(str(tmp_path / "target"))
    target = ArchiveVault(
        Repository.init(storage, [SECRET], username="tester", polynomial=source.repository.config.polynomial)
    )
    assert bring(source, target).same_cutting
    assert save(open_vault(tmp_path / "target"), there.folder).data_blobs == 0


def test_a_snapshot_whose_data_is_damaged_is_left_out_and_the_others_come(tmp_path: Path) -> None:
    there = Versions(tmp_path)
    vault = open_vault(there.place)
    vault.repository.load_index()
    newest = sorted(vault.repository.snapshots(), key=lambda pair: pair[1].time_ns)[-1][0]
    only_there = b"f2-0"
    blob = next(node.content[0] for path, node in nodes(vault, newest) if path.endswith(only_there))
    place = vault.repository.index.place(blob)
    assert place is not None
    pack = there.place / layout.name_of(layout.DATA, place.pack)
    raw = bytearray(pack.read_bytes())
    raw[place.offset + 20] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(raw)
    told: list[Event] = []
    target = new_vault(tmp_path / "target")
    summary = bring(there.place, target, emit=told.append)
    assert (summary.outcome, len(summary.copied), len(summary.problems)) == (Outcome.PARTIAL, 2, 1)
    assert newest.hex()[:8] in summary.problems[0].message
    assert any(isinstance(event, Fact) and event.kind == "damage.found" for event in told)
    there.assert_copied(target, count=2)


def test_what_does_not_come_back_from_the_target_is_never_committed(tmp_path: Path) -> None:
    there = Versions(tmp_path)
    new_vault(tmp_path / "target")

    class Lossy(LocalStorage):
        """A disk that flips a bit of what it was given."""

        def adopt(self, path: str, name: str) -> None:
            raw = bytearray(Path(path).read_bytes())
            raw[100] ^= 1
            Path(path).write_bytes(raw)
            super().adopt(path, name)

    with pytest.raises(Corrupt, match="came back"):
        bring(there.place, Lossy(str(tmp_path / "target")))
    target = open_vault(tmp_path / "target")
    assert target.snapshots() == []
    target.repository.load_index()
    assert len(target.repository.index) == 0


def test_a_cancelled_copy_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.repository.packer.TARGET_SIZE", 100_000)
    monkeypatch.setattr("holdfast.repository.packer.BATCH", 50_000)
    there = Versions(tmp_path)
    new_vault(tmp_path / "target")
    cancel = Cancel()

    def stop(_event: Event) -> None:
        if any((tmp_path / "target" / "data").rglob("*/*")):
            cancel.cancel("enough")

    with pytest.raises(Cancelled):
        bring(there.place, tmp_path / "target", emit=stop, cancel=cancel)
    rest = bring(there.place, tmp_path / "target")
    whole = bring(there.place, new_vault(tmp_path / "other"))
    assert 0 < rest.blobs < whole.blobs
    there.assert_copied(open_vault(tmp_path / "target"))


@pytest.mark.parametrize(("old_source", "old_target"), [(True, False), (False, True)])
def test_between_format_versions(tmp_path: Path, old_source: bool, old_target: bool) -> None:
    there = Versions(tmp_path, versions=1)
    if old_source:
        old = _version_1(tmp_path / "old")
        save(old, there.folder)
        source_place = tmp_path / "old"
    else:
        source_place = there.place
    target = _version_1(tmp_path / "target") if old_target else new_vault(tmp_path / "target")
    assert bring(source_place, target).outcome is Outcome.OK
    target = open_vault(tmp_path / "target")
    target.repository.load_index()
    raw = [blob.raw_length for _, blob in target.repository.index.blobs()]
    assert all(length is None for length in raw) == old_target
    assert files(target, there.folder) == next(iter(there.contents.values()))


def _version_1(place: Path) -> ArchiveVault:
    repository = new_vault(place).repository
    config = RepoConfig(1, repository.config.id, repository.config.polynomial)
    repository.storage.replace("config", seal(repository.master, repository.draw(16), config.encode()))
    return open_vault(place)
