"""Every kind of file, damaged in every way: a repair loses nothing that could be restored, and a dry run is dry."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from tests.archivekit import files, on_disk, open_vault, save
from tests.repairkit import WHOLE, Patient, contents, flip, healthy_vault, in_header, patient_vault, rewrite_file  # noqa: F401

from holdfast.format.index import decode_entries, encode_index
from holdfast.format.pack import BlobType
from holdfast.kernel.errors import Corrupt, HoldfastError, NotFound
from holdfast.kernel.ids import BlobId
from holdfast.repository import layout
from holdfast.vaults.base import Outcome

KINDS = ["index", "snapshots", "data", "trees", "locks"]
WAYS = [*WHOLE, "deleted", "swapped"]


def damage(patient: Patient, kind: str, how: str) -> Path:
    """Damage one file of that kind; its path."""
    if kind == "data":
        first, second = patient.packs(BlobType.DATA)[:2]
    elif kind == "trees":
        first, second = patient.packs(BlobType.TREE)[0], patient.packs(BlobType.DATA)[0]
    elif kind == "locks":
        patient.open().locks._write(False)
        (first,) = (patient.folder / "locks").iterdir()
        second = patient.folder / "config"
    else:
        first, second = sorted((patient.folder / kind).iterdir())[:2]
    if how == "deleted":
        first.unlink()
    elif how == "swapped":
        one, two = first.read_bytes(), second.read_bytes()
        rewrite_file(first, lambda _: two)
        if kind != "locks":
            rewrite_file(second, lambda _: one)
    else:
        rewrite_file(first, WHOLE[how])
    return first


REPAIRS: dict[str, Callable[..., object]] = {
    "index": Patient.mend_index,
    "every header": lambda patient, **options: patient.mend_index(read_all=True, **options),
    "packs": Patient.mend_packs,
    "snapshots": Patient.mend_snapshots,
    "forgetting": lambda patient, **options: patient.mend_snapshots(forget=True, **options),
    "recover": Patient.recover,
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_repair_makes_it_worse(patient: Patient, tmp_path: Path, kind: str, how: str) -> None:
    path = damage(patient, kind, how)
    before = patient.restorable()
    stored = contents(patient.folder)
    for number, (name, mend) in enumerate(REPAIRS.items()):
        treated = patient.copy(tmp_path / f"treated {number}")
        try:
            mend(treated, dry_run=True)
        except HoldfastError as error:
            assert error.hint, name
        assert contents(treated.folder) == stored, f"a dry run of {name} changed something"
        assert not treated.aside.folder.exists()
        try:
            mend(treated)
        except HoldfastError as error:
            assert isinstance(error, Corrupt)
            assert error.hint
            assert contents(treated.folder) == stored, f"{name} gave up, but changed something"
        if kind == "locks":
            (treated.folder / "locks" / path.name).unlink(missing_ok=True)
        treated.assert_no_worse_than(before)
        mend(treated) if name == "index" and kind != "locks" else None
        treated.assert_no_worse_than(before)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", ["index", "snapshots", "data", "trees"])
def test_all_repairs_together_leave_a_sound_vault(
    patient: Patient, need: Callable[[str], str], kind: str, how: str
) -> None:
    restic = need("restic")
    damage(patient, kind, how)
    before = patient.restorable()
    patient.mend_index()
    patient.mend_packs()
    patient.recover()
    patient.mend_snapshots(forget=True)
    patient.assert_no_worse_than(before)
    assert patient.errors() == []
    checked = patient.restic(restic, "check", "--read-data")
    assert checked.returncode == 0, checked.stderr
    for again in (patient.mend_index(), patient.mend_packs(), patient.mend_snapshots()):
        assert again.outcome is Outcome.OK
    save(open_vault(patient.folder), patient.source)
    assert files(open_vault(patient.folder), patient.source) == on_disk(patient.source)


@pytest.mark.parametrize("kind", ["keys", "config"])
def test_what_no_repair_can_mend_is_left_alone(patient: Patient, kind: str) -> None:
    """A key or the configuration: the vault does not open, or the open one is not touched by it."""
    path = patient.folder / "config" if kind == "config" else next((patient.folder / "keys").iterdir())
    rewrite_file(path, flip(20))
    stored = contents(patient.folder)
    for mend in REPAIRS.values():
        with pytest.raises(HoldfastError):
            mend(patient)
    assert contents(patient.folder) == stored


# -- index ----------------------------------------------------------------------------------------------------------


def test_a_sound_vault_is_not_touched(patient: Patient) -> None:
    stored = contents(patient.folder)
    for mend in REPAIRS.values():
        done = mend(patient)
        assert done.outcome is Outcome.OK  # type: ignore[attr-defined]
    assert contents(patient.folder) == stored


def test_the_index_is_made_anew_from_headers_alone(patient: Patient) -> None:
    whole = patient.restorable()
    for path in (patient.folder / "index").iterdir():
        path.unlink()
    done = patient.mend_index()
    packs = sum(1 for path in (patient.folder / "data").rglob("*") if path.is_file())
    assert (done.outcome, done.added, done.headers_read, done.corrected, done.gone) == (Outcome.OK, packs, packs, 0, 0)
    assert patient.restorable() == whole
    assert patient.errors() == []


def test_headers_are_read_by_workers_as_well(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.vaults.archive.repair.survey._ALONE_PACKS", 1)
    for path in (patient.folder / "index").iterdir():
        path.unlink()
    assert patient.mend_index(workers=2).outcome is Outcome.OK
    assert patient.errors() == []


def test_a_damaged_index_file_is_set_aside(patient: Patient) -> None:
    path = damage(patient, "index", "middle")
    damaged = path.read_bytes()
    with pytest.raises(Corrupt) as caught:
        patient.open().load_index()
    assert "holdfast repair index" in caught.value.hint
    done = patient.mend_index()
    assert (done.damaged_files, done.outcome) == (1, Outcome.OK)
    assert done.aside == str(patient.aside.folder)
    assert (patient.aside.folder / f"index-{path.name}").read_bytes() == damaged
    assert not path.exists()


def test_wrong_entries_are_corrected_only_where_somebody_looks(patient: Patient) -> None:
    """Entries that fit the size but name other blobs: found with every header read."""
    repository = patient.open()
    path = next(iter(sorted((patient.folder / "index").iterdir())))
    packs = [
        (pack, entries.blobs())
        for pack, entries in decode_entries(repository.read_unpacked(layout.INDEX, bytes.fromhex(path.name)))
    ]
    _, blobs = next((pack, blobs) for pack, blobs in packs if len(blobs) > 1)
    blobs[0].id, blobs[1].id = BlobId(sha256(b"wrong").digest()), BlobId(sha256(b"also").digest())
    path.unlink()
    repository.write_unpacked(layout.INDEX, encode_index(packs))
    assert patient.mend_index().corrected == 0
    assert patient.errors()
    done = patient.mend_index(read_all=True)
    assert (done.corrected, done.added, done.outcome) == (1, 0, Outcome.OK)
    assert patient.errors() == []


def test_packs_that_are_gone_are_forgotten_and_a_backup_heals(patient: Patient) -> None:
    whole = patient.restorable()
    for path in [*patient.packs(BlobType.DATA)[:3], patient.packs(BlobType.TREE)[0]]:
        path.unlink()
    done = patient.mend_index()
    assert (done.gone, done.outcome) == (4, Outcome.FAILED)
    assert done.lost
    assert patient.mend_index().outcome is Outcome.OK  # nothing more to do for the index
    assert {damage.kind for damage in patient.errors()} <= {"blob.missing", "tree.invalid"}
    summary = save(open_vault(patient.folder), patient.source)
    assert summary.data_blobs
    assert files(open_vault(patient.folder), patient.source) == on_disk(patient.source)
    after = patient.restorable()
    healed = max(whole, key=lambda identifier: len(whole[identifier]))
    assert after[healed].items() >= {k: v for k, v in whole[healed].items() if v}.items()


def test_a_pack_without_readable_header_keeps_its_entries(patient: Patient) -> None:
    path = patient.packs(BlobType.DATA)[-1]
    rewrite_file(path, lambda data: data[: len(data) * 3 // 4])
    before = patient.restorable()
    done = patient.mend_index()
    assert [pack.hex() for pack, _ in done.unreadable] == [path.name]
    assert done.outcome is Outcome.FAILED
    assert not done.changes
    patient.assert_no_worse_than(before)


def test_conflicting_entries_of_a_pack_whose_header_is_gone(patient: Patient) -> None:
    """Two index files say different things: what is true of both stays."""
    whole = patient.restorable()
    repository = patient.open()
    repository.load_index()
    pack = max(repository.index.packs, key=lambda pack: len(repository.index.blobs_of(pack)))
    blobs = repository.index.blobs_of(pack)
    assert len(blobs) > 2
    wrong = [*blobs[:1], *[type(blob)(blob.id, blob.type, blob.offset + 3, blob.length, None) for blob in blobs[1:]]]
    repository.write_unpacked(layout.INDEX, encode_index([(pack, wrong)]))
    rewrite_file(patient.folder / layout.name_of(layout.DATA, pack), in_header)
    with pytest.raises(Corrupt, match="different entries"):
        patient.mend_packs()
    patient.mend_index()
    assert patient.restorable() == whole
    done = patient.mend_packs()
    assert (done.saved, done.lost) == (len(blobs), set())
    assert patient.restorable() == whole
    assert patient.errors() == []


# -- packs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indexed", [True, False])
def test_blobs_behind_a_hole_are_found_by_the_header(patient: Patient, indexed: bool) -> None:
    repository = patient.open()
    repository.load_index()
    pack = max(repository.index.packs, key=lambda pack: len(repository.index.blobs_of(pack)))
    blobs = repository.index.blobs_of(pack)
    path = patient.folder / layout.name_of(layout.DATA, pack)
    lost = blobs[1]
    rewrite_file(path, lambda data: data[: lost.offset + 40] + data[lost.offset + 70 :])
    if not indexed:
        for index in (patient.folder / "index").iterdir():
            index.unlink()
        done = patient.mend_index()
        assert [bytes(pack).hex() for pack, _ in done.unreadable] == [path.name]
    done = patient.mend_packs(path.name[:12])
    assert done.saved == len(blobs) - 1
    assert done.lost == {lost.id}
    assert done.needed == {lost.id}
    assert done.outcome is Outcome.FAILED
    assert not path.exists()
    assert (patient.aside.folder / f"data-{path.name[:2]}-{path.name}").is_file()


def test_a_named_pack_is_found_by_the_front_of_its_id(patient: Patient) -> None:
    whole = patient.restorable()
    pack = patient.packs(BlobType.DATA)[0].name
    with pytest.raises(NotFound, match="No pack has an id"):
        patient.mend_packs("0" * 20)
    with pytest.raises(NotFound):
        patient.mend_packs("")
    done = patient.mend_packs(pack[:8].upper())
    assert (done.outcome, done.packs_deleted) == (Outcome.OK, 1)
    assert patient.restorable() == whole
    assert patient.errors() == []


def test_blobs_with_another_intact_copy_are_not_stored_again(patient: Patient) -> None:
    """As after a repair that was killed before it deleted the old pack."""
    pack = patient.packs(BlobType.DATA)[0]
    old = pack.read_bytes()
    patient.mend_packs(pack.name)
    pack.write_bytes(old)
    done = patient.mend_packs(pack.name)
    assert (done.saved, done.lost, done.packs_written, done.packs_deleted) == (0, set(), 0, 1)
    assert patient.errors() == []


def test_damage_without_lost_blobs_is_no_loss(patient: Patient) -> None:
    whole = patient.restorable()
    rewrite_file(patient.packs(BlobType.TREE)[0], in_header)
    rewrite_file(patient.packs(BlobType.DATA)[0], WHOLE["garbage behind"])
    done = patient.mend_packs()
    assert (len(done.damaged), done.lost, done.outcome) == (2, set(), Outcome.OK)
    assert patient.restorable() == whole
    assert patient.errors() == []


def test_a_full_local_disk_stops_before_anything_is_deleted(patient: Patient, tmp_path: Path) -> None:
    rewrite_file(patient.packs(BlobType.DATA)[0], flip(50))
    stored = contents(patient.folder)
    (tmp_path / "file").touch()
    patient.aside.folder = tmp_path / "file" / "below"
    with pytest.raises(HoldfastError) as caught:
        patient.mend_packs()
    assert "--aside" in caught.value.hint
    assert contents(patient.folder) == stored


def test_entries_are_compared_whatever_their_order(patient: Patient) -> None:
    """restic lists blobs in no order: that is no difference."""
    repository = patient.open()
    for path in sorted((patient.folder / "index").iterdir()):
        packs = list(decode_entries(repository.read_unpacked(layout.INDEX, bytes.fromhex(path.name))))
        turned = [(pack, list(reversed(entries.blobs()))) for pack, entries in packs]
        repository.write_unpacked(layout.INDEX, encode_index(turned))
    assert not patient.mend_index().changes
    assert patient.mend_index(read_all=True).corrected == 0
