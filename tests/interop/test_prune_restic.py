"""Pruning beside restic: the same figures, repositories that either tool goes on with, both format versions."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.restickit import Restic, bring_back, check, ours, save

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import ignore
from holdfast.repository import Repository
from holdfast.vaults.archive.prune import PruneOptions, PruneSummary, Tolerance, prune
from holdfast.vaults.base import Outcome

NO_WASTE = PruneOptions(max_unused=Tolerance(percent=0), workers=0)


@pytest.fixture
def restic(tmp_path: Path, need: Callable[[str], str]) -> Restic:
    """An empty repository."""
    ours(tmp_path / "repository", make=True)
    return Restic(need("restic"), tmp_path / "repository")


def days(source: Path, count: int, seed: int = 5) -> Iterator[int]:
    """Changes some files of ``source`` between one day and the next."""
    draw = random.Random(seed)
    for day in range(count):
        for number in range(20):
            path = source / f"d{number % 3}" / f"f{number}"
            if day == 0 or draw.random() < 0.3:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(draw.randbytes(draw.randrange(80_000)) + b"text " * draw.randrange(4000))
        yield day


def pruned(place: Path, options: PruneOptions = NO_WASTE) -> PruneSummary:
    return prune(ours(place).repository, options, emit=ignore, cancel=Cancel())


def forget(restic: Restic, keep: int) -> None:
    restic.run("forget", "--keep-last", str(keep))


def assert_restored(restic: Restic, source: Path, target: Path) -> None:
    """Both bring back what the newest snapshot holds, and neither finds damage."""
    restic.run("check", "--read-data")
    assert check(ours(restic.place)).outcome is Outcome.OK
    restic.run("restore", "latest", "--target", str(target / "restic"))
    bring_back(ours(restic.place), target / "ours")
    for name in ("restic", "ours"):
        subprocess.run(["diff", "-r", source, target / name / source.name], check=True)


@pytest.mark.parametrize("writer", ["restic", "holdfast"])
@pytest.mark.parametrize("waste", ["0", "5%", "unlimited"])
def test_the_figures_are_those_of_restic(restic: Restic, tmp_path: Path, writer: str, waste: str) -> None:
    source = tmp_path / "source"
    for _ in days(source, 6):
        if writer == "restic":
            restic.back_up(tmp_path, "source")
        else:
            save(ours(restic.place), tmp_path, "source", workers=0)
    forget(restic, 2)
    theirs = restic.run("prune", "--dry-run", "--max-unused", waste)
    limits = {"0": Tolerance(percent=0), "5%": Tolerance(percent=5), "unlimited": Tolerance()}
    ours_ = pruned(restic.place, replace(NO_WASTE, max_unused=limits[waste], dry_run=True)).figures

    def blobs(label: str) -> int:
        found = re.search(rf"{label}:\s+(\d+) blobs", theirs)
        assert found, theirs
        return int(found[1])

    everything = ours_.used_blobs + ours_.unused_blobs + ours_.duplicate_blobs
    assert blobs("remaining") + blobs("total prune") == everything
    if waste == "0":
        assert blobs("remaining") == ours_.used_blobs
    done = pruned(restic.place, replace(NO_WASTE, max_unused=limits[waste]))
    after = pruned(restic.place, replace(NO_WASTE, dry_run=True)).figures
    # restic also merges some small packs of data, whatever waste may stay.
    assert after.used_blobs + after.unused_blobs >= blobs("remaining")
    assert waste != "0" or after.unused_blobs == 0
    assert done.removed_packs == ours_.remove_packs + ours_.repack_packs
    assert_restored(restic, source, tmp_path / "restored")


def test_restic_goes_on_after_our_prune_and_we_after_its(restic: Restic, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for day in days(source, 8):
        if day % 2:
            restic.back_up(tmp_path, "source")
        else:
            save(ours(restic.place), tmp_path, "source", workers=0)
        if day > 2:
            forget(restic, 1)
            if day % 2:
                pruned(restic.place, replace(NO_WASTE, repack_small=day == 7))
                shown = restic.run("prune", "--dry-run", "--max-unused", "0")
                assert re.search(r"total prune:\s+0 blobs", shown), shown
            else:
                restic.run("prune", "--max-unused", "0")
                figures = pruned(restic.place, replace(NO_WASTE, dry_run=True)).figures
                assert figures.unused_blobs == figures.duplicate_blobs == figures.orphans == 0
    assert_restored(restic, source, tmp_path / "restored")


def test_format_version_1_and_its_upgrade(tmp_path: Path, need: Callable[[str], str]) -> None:
    place, source = tmp_path / "repository", tmp_path / "source"
    theirs = Restic(need("restic"), place)
    theirs.run("init", "--repository-version", "1")
    for _ in days(source, 4):
        theirs.back_up(tmp_path, "source")
    forget(theirs, 1)
    assert pruned(place, replace(NO_WASTE, repack_uncompressed=True)).removed_packs > 0
    assert raw_blobs(place) == len(loaded(place).index), "readers of version 1 know no compressed blobs"
    assert_restored(theirs, source, tmp_path / "restored 1")
    theirs.run("migrate", "upgrade_repo_v2")
    before = size_of(place)
    assert pruned(place, replace(NO_WASTE, repack_uncompressed=True)).new_packs > 0
    assert size_of(place) < before * 0.95
    assert raw_blobs(place) < len(loaded(place).index)
    assert_restored(theirs, source, tmp_path / "restored 2")


def loaded(place: Path) -> Repository:
    repository = ours(place).repository
    repository.load_index()
    return repository


def raw_blobs(place: Path) -> int:
    """Blobs that are stored uncompressed."""
    return sum(blob.raw_length is None for _, blob in loaded(place).index.blobs())


def size_of(place: Path) -> int:
    """Bytes of all packs."""
    return sum(path.stat().st_size for path in (place / "data").rglob("*") if path.is_file())
