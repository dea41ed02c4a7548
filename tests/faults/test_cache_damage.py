"""Whatever happens to the copies on local disk: commands do the same, and the copies are right again afterwards."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.archivekit import files, new_vault, on_disk, open_vault, save
from tests.faults.faulty import in_child
from tests.remotekit import Far, cached
from tests.restorekit import bring_back

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Unavailable
from holdfast.kernel.events import ignore
from holdfast.repository import layout
from holdfast.vaults.base import CheckOptions, Outcome, Subset


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def lead_away(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def make_folder(path: Path) -> None:
    path.unlink()
    (path / "inner").mkdir(parents=True)


def swap(path: Path) -> None:
    """Another copy of the same kind in its place."""
    other = next((entry for entry in sorted(path.parent.parent.rglob("*")) if entry.is_file() and entry != path), None)
    if other is not None:
        shutil.copyfile(other, path)


DAMAGES = [flip, cut, empty, lengthen, lead_away, make_folder, swap]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for number in range(30):
        (source / f"folder {number}").mkdir(parents=True)
        (source / f"folder {number}" / "file").write_text(f"content {number}")
    return source


@pytest.fixture
def far(tmp_path: Path, source: Path) -> Far:
    """A vault with two snapshots, seen from afar."""
    place = tmp_path / "vault"
    vault = new_vault(place)
    save(vault, source)
    (source / "folder 1" / "file").write_text("changed")
    save(vault, source)
    return Far(place)


def copied(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and len(path.name) == 64)


def warmed(far: Far, root: Path, source: Path) -> dict[Path, bytes]:
    """Fill the cache by reading everything; its files with their content."""
    assert files(open_vault(cached(far, root)), source) == on_disk(source)
    return {path: path.read_bytes() for path in copied(root)}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_copies_are_fetched_again(
    far: Far, tmp_path: Path, source: Path, damage: Callable[[Path], None]
) -> None:
    root = tmp_path / "cache"
    right = warmed(far, root, source)
    kinds = {str(path.relative_to(root)).split("/")[1] for path in right}
    assert kinds == {"data", "index", "keys", "snapshots"}
    for path in right:
        damage(path)
    told: list[str] = []
    assert files(open_vault(cached(far, root, tell=told.append)), source) == on_disk(source)
    bring_back(open_vault(cached(far, root)), tmp_path / "target")
    assert on_disk(tmp_path / "target" / source.relative_to("/")) == on_disk(source)
    if damage is make_folder:
        assert len(told) == 1  # what is no file of ours is not removed
    else:
        assert {path: path.read_bytes() for path in copied(root)} == right
        assert told == []


def test_a_cache_that_vanishes_while_it_is_used(far: Far, tmp_path: Path, source: Path) -> None:
    root = tmp_path / "cache"
    warmed(far, root, source)
    vault = open_vault(cached(far, root))
    vault.repository.load_index()
    shutil.rmtree(root)
    assert files(vault, source) == on_disk(source)
    save(vault, source, force=True)


def test_a_disk_that_is_full_costs_only_time(far: Far, tmp_path: Path, source: Path) -> None:
    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        told: list[str] = []
        storage = cached(far, tmp_path / "cache", tell=told.append)
        assert files(open_vault(storage), source) == on_disk(source)
        assert len(told) == 1

    assert in_child(work) == 0
    assert copied(tmp_path / "cache") == []
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_copy_never_hides_what_happened_to_the_vault(far: Far, tmp_path: Path, source: Path) -> None:
    root = tmp_path / "cache"
    warmed(far, root, source)
    place = tmp_path / "vault"
    repository = open_vault(place).repository
    repository.load_index()
    for pack in repository.index.tree_packs():
        path = place / layout.name_of(layout.DATA, pack)
        path.chmod(0o600)
        flip(path)
    assert files(open_vault(cached(far, root)), source) == on_disk(source)  # the copies are as good as ever
    report = open_vault(far).check(CheckOptions(read_data=Subset(), workers=0), emit=ignore, cancel=Cancel())
    assert report.outcome is Outcome.FAILED
    shutil.rmtree(root)
    with pytest.raises(Corrupt):
        files(open_vault(cached(far, root)), source)
    assert not any("/data/" in str(path) for path in copied(root))


def test_many_processes_fetch_a_pack_once(far: Far, tmp_path: Path, source: Path) -> None:
    root = tmp_path / "cache"
    slow = Far(tmp_path / "vault", delay=0.05)
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            code = 99
            try:
                assert files(open_vault(cached(slow, root)), source) == on_disk(source)
                trees = {path.name for path in copied(root) if "/data/" in str(path)}
                code = sum(method == "read" and name[-64:] in trees for method, name in slow.calls)
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    packs = [path for path in copied(root) if "/data/" in str(path)]
    assert len(packs) == 2
    assert sum(codes) == len(packs)


def test_every_failing_call_leaves_a_cache_that_serves(far: Far, tmp_path: Path, source: Path) -> None:
    place, root = tmp_path / "vault", tmp_path / "cache"
    counted = Far(place)
    files(open_vault(cached(counted, root)), source)
    for number in range(1, len(counted.calls) + 1):
        shutil.rmtree(root)
        failing = Far(place)
        failing._fail_at = number
        with pytest.raises(Unavailable):
            files(open_vault(cached(failing, root)), source)
        assert files(open_vault(cached(far, root)), source) == on_disk(source)
