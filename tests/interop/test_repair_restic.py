"""Repairs as restic sees them, and as it makes them: the same folders, and nothing that its check objects to."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.restickit import SECRET, Restic, check, ours

from holdfast.files.rules import Rules
from holdfast.format.pack import BlobType
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import ignore
from holdfast.repository import Repository, layout
from holdfast.storage import LocalStorage
from holdfast.vaults.archive.recover import RecoverOptions, recover
from holdfast.vaults.archive.repair import (
    IndexOptions,
    PacksOptions,
    SnapshotsOptions,
    repair_index,
    repair_packs,
    repair_snapshots,
)  # fmt: skip
from holdfast.vaults.archive.repair.aside import Aside
from holdfast.vaults.archive.rewrite import RewriteOptions, rewrite
from holdfast.vaults.base import Outcome


@pytest.fixture
def made(tmp_path: Path, need: Callable[[str], str]) -> Restic:
    """A repository that restic made, with two snapshots."""
    source = tmp_path / "source"
    draw = random.Random(5)
    for number in range(6):
        (source / f"d{number % 2}").mkdir(parents=True, exist_ok=True)
        (source / f"d{number % 2}" / f"f{number}").write_bytes(draw.randbytes(700_000))
    restic = Restic(need("restic"), tmp_path / "repo")
    restic.run("init")
    restic.back_up(tmp_path, "source")
    (source / "d0" / "secret.pem").write_bytes(draw.randbytes(1000))
    restic.back_up(tmp_path, "source")
    return restic


def opened(restic: Restic) -> Repository:
    return Repository.open(LocalStorage(str(restic.place)), SECRET)


def trees(restic: Restic) -> set[str]:
    return {snapshot["tree"] for snapshot in json.loads(restic.run("snapshots", "--json"))}


def one_pack(restic: Restic, kind: BlobType) -> Path:
    """The largest pack with such blobs: both snapshots use what is in it."""
    repository = opened(restic)
    repository.load_index()
    packs = {pack for pack, blob in repository.index.blobs() if blob.type == kind}
    return max(
        (restic.place / layout.name_of(layout.DATA, pack) for pack in packs), key=lambda path: path.stat().st_size
    )


def test_an_index_made_anew_is_what_restic_makes(made: Restic, tmp_path: Path) -> None:
    shutil.rmtree(made.place / "index")
    (made.place / "index").mkdir()
    other = made.copy(tmp_path / "other")
    done = repair_index(
        opened(made), IndexOptions(workers=0), aside=Aside(tmp_path / "aside"), emit=ignore, cancel=Cancel()
    )
    assert done.outcome is Outcome.OK
    other.run("rebuild-index")
    assert made.run("check", "--read-data")
    blobs = []
    for restic in (made, other):
        repository = opened(restic)
        repository.load_index()
        entries = repository.index.blobs()
        blobs.append({(pack, blob.id, blob.offset, blob.length, blob.raw_length) for pack, blob in entries})
    assert blobs[0] == blobs[1]


def test_the_index_is_left_alone_where_restic_made_it(made: Restic, tmp_path: Path) -> None:
    for everything in (False, True):
        options = IndexOptions(read_all=everything, workers=0)
        done = repair_index(opened(made), options, aside=Aside(tmp_path / "aside"), emit=ignore, cancel=Cancel())
        assert not done.changes


def test_salvage_and_repair_satisfy_restic(made: Restic, tmp_path: Path) -> None:
    path = one_pack(made, BlobType.DATA)
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    aside = Aside(tmp_path / "aside")
    packs = repair_packs(
        opened(made), PacksOptions(all_damaged=True, workers=0), aside=aside, emit=ignore, cancel=Cancel()
    )
    assert len(packs.needed) == 1
    snapshots = repair_snapshots(
        opened(made), SnapshotsOptions(forget=True), aside=aside, protected=lambda snapshot: False, emit=ignore,
        cancel=Cancel(),
    )  # fmt: skip
    assert len(snapshots.replaced) == 2
    made.run("check", "--read-data")
    made.run("restore", "latest", "--target", str(tmp_path / "restored"))
    assert check(ours(made.place)).outcome is Outcome.OK
    made.run("prune")
    made.run("check", "--read-data")


def test_rewriting_satisfies_restic(made: Restic) -> None:
    rules = Rules.compile(["*.pem"], defaults=False)
    before = trees(made)
    done = rewrite(
        opened(made), RewriteOptions(rules, forget=True), protected=lambda snapshot: False, emit=ignore, cancel=Cancel()
    )
    assert len(done.replaced) == 1
    made.run("check", "--read-data")
    assert "secret.pem" not in made.run("ls", "latest")
    # d0 has another time since the file was put there; all else is as in the first snapshot.
    assert len(trees(made) & before) == 1
    made.run("prune")
    assert made.run("check", "--read-data")


def test_recovered_folders_as_restic_shows_them(made: Restic, tmp_path: Path) -> None:
    before = trees(made)
    other = made.copy(tmp_path / "other")
    for restic in (made, other):
        for path in (restic.place / "snapshots").iterdir():
            path.unlink()
    done = recover(opened(made), RecoverOptions(hostname="here", workers=0), emit=ignore, cancel=Cancel())
    assert {root.hex() for root in done.roots} == before
    other.run("recover")
    listings = [
        sorted(line for line in restic.run("ls", "latest").splitlines() if line.startswith("/"))
        for restic in (made, other)
    ]
    assert listings[0] == listings[1]
    (snapshot,) = json.loads(made.run("snapshots", "--json"))
    (theirs,) = json.loads(other.run("snapshots", "--json"))
    assert (snapshot["paths"], snapshot["tags"]) == (theirs["paths"], theirs["tags"])
    made.run("check", "--read-data")
