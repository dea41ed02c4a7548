"""``stats`` over real vaults: sizes, ratios, growth."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.archivekit import new_vault, save
from tests.browsekit import looking

from holdfast.format.chunker import native_available
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled
from holdfast.kernel.events import ignore
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.stats import stats
from holdfast.vaults.stats import VaultStats

KIB = 1024


def _stats(vault: ArchiveVault, chosen: slice = slice(None)) -> VaultStats:
    with looking(vault) as (snapshots, _):
        return stats(vault.repository, snapshots[chosen], emit=ignore, cancel=Cancel())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "random").write_bytes(os.urandom(100 * KIB))
    (root / "twin").write_bytes((root / "random").read_bytes())
    (root / "sub" / "text").write_bytes(b"all work and no play\n" * 5000)
    (root / "link").symlink_to("random")
    return root


def test_an_empty_vault(tmp_path: Path) -> None:
    found = _stats(new_vault(tmp_path / "vault"))
    assert {part.kind: part.files for part in found.stored} == {
        "config": 1, "keys": 1, "locks": 1, "snapshots": 0, "index": 0, "packs": 0,
    }  # fmt: skip
    assert (found.deduplication, found.compression, found.saving, found.growth) == (1.0, 1.0, 1.0, [])


def test_raw_sizes_are_those_of_the_files(tmp_path: Path, root: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, root)
    found = _stats(vault)
    locks = next(part.bytes for part in found.stored if part.kind == "locks")  # ours, gone by now
    on_disk = sum(path.stat().st_size for path in (tmp_path / "vault").rglob("*") if path.is_file())
    assert found.stored_bytes - locks == on_disk
    assert found.exact_chunker is native_available()
    assert found.format_version == 2


def test_growth_counts_only_what_is_new(tmp_path: Path, root: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    first = save(vault, root)
    (root / "sub" / "more").write_bytes(os.urandom(50 * KIB))
    second = save(vault, root)
    third = save(vault, root)
    found = _stats(vault)
    text = 5000 * 21
    assert [grown.files for grown in found.growth] == [3, 4, 4]
    assert [grown.others for grown in found.growth] == [1, 1, 1]
    assert [grown.restore_bytes for grown in found.growth] == [200 * KIB + text, *[250 * KIB + text] * 2]
    for grown, summary in zip(found.growth, (first, second, third), strict=True):
        assert grown.new_bytes == summary.data_added
        assert grown.new_blobs == summary.data_blobs + summary.tree_blobs
        assert grown.new_stored == summary.data_added_packed
    assert found.blobs == sum(grown.new_blobs for grown in found.growth)
    assert found.blob_bytes == found.used_bytes and found.blob_stored == found.used_stored
    assert (found.duplicate_stored, found.missing) == (0, 0)
    assert found.deduplication == found.restore_bytes / found.used_bytes > 2
    assert found.compression > 1.5
    assert found.saving == pytest.approx(found.deduplication * found.compression)


def test_one_snapshot_alone(tmp_path: Path, root: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, root)
    (root / "random").unlink()
    save(vault, root)
    both, last = _stats(vault), _stats(vault, slice(1, 2))
    assert last.growth[0].restore_bytes == both.growth[1].restore_bytes
    assert last.growth[0].new_bytes > both.growth[1].new_bytes
    assert last.blobs == both.blobs


def test_hard_links_are_restored_once(tmp_path: Path, root: Path) -> None:
    os.link(root / "random", root / "sub" / "hard")
    (root / "sub" / "deeper").mkdir()
    os.link(root / "random", root / "sub" / "deeper" / "hard")
    vault = new_vault(tmp_path / "vault")
    save(vault, root)
    (grown,) = _stats(vault).growth
    assert grown.files == 5
    assert grown.restore_bytes == 200 * KIB + 5000 * 21


def test_blobs_that_no_index_knows_are_counted(tmp_path: Path, root: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, root)
    (root / "new").write_text("new")
    save(vault, root)
    indexes = sorted((tmp_path / "vault" / "index").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    indexes[-1].unlink()
    told: list[bytes] = []
    again = ArchiveVault(type(vault.repository).open(vault.repository.storage, _secret(), username="t"))
    with looking(again) as (snapshots, _):
        found = stats(
            again.repository, snapshots, emit=ignore, cancel=Cancel(), on_damage=lambda path, _e: told.append(path)
        )
    assert told == [b""]  # the newer snapshot's root
    assert found.missing == 1
    assert found.growth[0].files == 3 and found.growth[1].files == 0


def _secret():  # type: ignore[no-untyped-def]
    from tests.archivekit import SECRET

    return SECRET


def test_gathering_can_be_cancelled(tmp_path: Path, root: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, root)
    cancel = Cancel()
    cancel.cancel()
    with looking(vault) as (snapshots, _), pytest.raises(Cancelled):
        stats(vault.repository, snapshots, emit=ignore, cancel=cancel)
