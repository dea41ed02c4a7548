"""What this vault has lost comes back from a second one: a byte copy, or another vault that has the same blobs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.archivekit import SECRET, files, on_disk, open_vault, save
from tests.repairkit import WHOLE, Patient, contents, flip, healthy_vault, patient_vault, rewrite_file  # noqa: F401
from tests.restorekit import bring_back, look

from holdfast.format.pack import BlobType
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Event, Fact, ignore
from holdfast.kernel.secret import Secret
from holdfast.repository import Repository
from holdfast.storage import LocalStorage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.copy import CopyOptions, copy
from holdfast.vaults.base import Outcome


@pytest.fixture
def twin(healthy: Patient, tmp_path: Path) -> Path:
    """A byte copy of the vault."""
    shutil.copytree(healthy.folder, tmp_path / "twin")
    return tmp_path / "twin"


@pytest.fixture
def stranger(healthy: Patient, tmp_path: Path) -> Path:
    """Another vault, with other keys and packs, that holds the same snapshots."""
    place = tmp_path / "stranger"
    source = Repository.open(LocalStorage(str(healthy.folder)), SECRET)
    target = Repository.init(LocalStorage(str(place)), [SECRET], polynomial=source.config.polynomial)
    pairs = source.snapshots()
    source.load_index()
    copy(source, target, pairs, CopyOptions(workers=0), emit=ignore, cancel=Cancel())
    return place


def ruin(patient: Patient) -> None:
    """Three packs gone, two with a flipped bit, one cut off."""
    data, trees = patient.packs(BlobType.DATA), patient.packs(BlobType.TREE)
    for path in (data[0], data[3], trees[0]):
        path.unlink()
    for path in (data[1], trees[1]):
        rewrite_file(path, flip(20))
    rewrite_file(data[2], WHOLE["truncated"])


def assert_healed(patient: Patient, whole: object, restic: str, tmp_path: Path) -> None:
    assert patient.restorable() == whole
    assert patient.errors() == []
    checked = patient.restic(restic, "check", "--read-data")
    assert checked.returncode == 0, checked.stderr
    bring_back(open_vault(patient.folder), tmp_path / "restored", patient.source)
    assert look(tmp_path / "restored") == look(patient.source)


def test_destroyed_packs_come_back_from_a_copy(
    patient: Patient,
    twin: Path,
    need: Callable[[str], str],
    tmp_path: Path,
) -> None:
    whole = patient.restorable()
    before = contents(twin)
    ruin(patient)
    planned = patient.mend_packs(other=twin, dry_run=True)
    done = patient.mend_packs(other=twin)
    assert done.outcome is planned.outcome is Outcome.OK
    assert (done.fetched, planned.fetched) == (3, 3)
    assert (len(done.damaged), done.gone, done.lost) == (3, 0, set())
    assert done.healed >= 3
    assert_healed(patient, whole, need("restic"), tmp_path)
    assert contents(twin) == before, "the second vault is only read"
    assert not patient.mend_packs(other=twin).changes


def test_single_blobs_come_back_from_a_stranger(
    patient: Patient,
    stranger: Path,
    need: Callable[[str], str],
    tmp_path: Path,
) -> None:
    whole = patient.restorable()
    ruin(patient)
    done = patient.mend_packs(other=stranger)
    assert (done.outcome, done.fetched, done.gone, done.lost) == (Outcome.OK, 0, 3, set())
    assert done.healed >= 6
    assert_healed(patient, whole, need("restic"), tmp_path)


def test_what_the_index_has_forgotten_comes_back_too(
    patient: Patient,
    stranger: Path,
    need: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """After 'repair index' nothing but the snapshots tells what is missing: folders in folders, and their files."""
    whole = patient.restorable()
    for path in [*patient.packs(BlobType.TREE), *patient.packs(BlobType.DATA)[:2]]:
        path.unlink()
    assert patient.mend_index().outcome is Outcome.FAILED
    done = patient.mend_packs(other=stranger)
    assert (done.outcome, done.needed, done.damaged, done.gone) == (Outcome.OK, set(), [], 0)
    assert_healed(patient, whole, need("restic"), tmp_path)


def test_named_packs_are_healed_without_reading_the_others(patient: Patient, twin: Path) -> None:
    whole = patient.restorable()
    path = patient.packs(BlobType.DATA)[0]
    rewrite_file(path, WHOLE["zeros"])
    done = patient.mend_packs(path.name[:10], other=twin)
    assert (done.healed, done.outcome) == (1, Outcome.OK)
    assert patient.restorable() == whole
    assert patient.errors() == []


def test_what_the_second_vault_has_damaged_is_not_taken(patient: Patient, twin: Path) -> None:
    """The same pack is gone here and bad there; of another one each has what the other lacks."""
    both, here, there = patient.packs(BlobType.DATA)[:3]
    both.unlink()
    here.unlink()
    for path in (both, there):
        rewrite_file(twin / path.relative_to(patient.folder), flip(30))
    before = patient.restorable()
    events: list[Event] = []
    done = patient.mend_packs(other=twin, emit=events.append)
    assert (done.fetched, done.gone, done.outcome) == (1, 1, Outcome.FAILED)
    assert len(done.needed) == 1
    told = [event for event in events if isinstance(event, Fact) and event.kind == "damage.found"]
    assert [fact.data["blob"] for fact in told] == [identifier.hex() for identifier in done.needed]
    patient.assert_no_worse_than(before)
    # What nobody has is given up, and then the vault is sound.
    mended = patient.mend_snapshots(forget=True)
    assert mended.outcome is Outcome.OK
    assert patient.errors() == []


def test_a_backup_heals_what_the_source_still_has(patient: Patient) -> None:
    """Once the index has forgotten the packs that are gone, a backup reads those files again by itself."""
    packs = patient.packs(BlobType.DATA)
    for path in packs[:4]:
        path.unlink()
    # Before that, it trusts the index: nothing is read, and the loss stays.
    assert save(open_vault(patient.folder), patient.source).data_blobs == 0
    patient.mend_index()
    assert save(open_vault(patient.folder), patient.source).data_blobs >= 3
    vault = open_vault(patient.folder)
    assert files(vault, patient.source) == on_disk(patient.source)


def test_a_stranger_with_nothing_in_common_changes_nothing(patient: Patient, tmp_path: Path) -> None:
    place = tmp_path / "empty"
    Repository.init(LocalStorage(str(place)), [SECRET, Secret(b"x", random=True)])
    assert not patient.mend_packs(other=place).changes
    path = patient.packs(BlobType.DATA)[0]
    rewrite_file(path, flip(9))
    before = patient.restorable()
    done = patient.mend_packs(other=place)
    assert (done.healed, len(done.lost), done.outcome) == (0, 1, Outcome.FAILED)
    patient.assert_no_worse_than(before)


def test_version_1_gets_no_compressed_blobs(tmp_path: Path, need: Callable[[str], str]) -> None:
    restic = need("restic")
    import subprocess

    environment = {**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode()}
    place = tmp_path / "old"
    made = subprocess.run(
        [restic, "init", "-q", "-r", place, "--repository-version", "1"], env=environment, check=False
    )
    if made.returncode:
        pytest.skip("this restic makes no version 1 any more")
    source = tmp_path / "source"
    source.mkdir()
    (source / "text").write_text("all work and no play\n" * 5000)
    save(ArchiveVault(Repository.open(LocalStorage(str(place)), SECRET)), source)
    old = Patient(place, source, tmp_path / "aside")
    pack = old.packs(BlobType.DATA)[0]
    rewrite_file(pack, WHOLE["garbage behind"])
    assert old.mend_packs().saved == 1
    repository = old.open()
    repository.load_index()
    assert all(blob.raw_length is None for _, blob in repository.index.blobs())
    assert old.errors() == []


def test_a_person_is_not_flooded_and_a_program_hears_all(patient: Patient) -> None:
    packs = patient.packs(BlobType.DATA) + patient.packs(BlobType.TREE)
    for path in packs:
        path.unlink()
    events: list[Event] = []
    patient.mend_index(emit=events.append)
    facts = [event for event in events if isinstance(event, Fact)]
    assert {fact.data["pack"] for fact in facts} == {path.name for path in packs}
    assert [fact.level for fact in facts] == ["warning"] * min(20, len(facts)) + ["info"] * (len(facts) - 20)
