"""Both directions with the real restic: it checks, restores and continues what we wrote, and we what it wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.restickit import (
    ODD_TARGET,
    Restic,
    bring_back,
    check,
    files_of,
    look,
    make_everything,
    ours,
    remove,
    save,
)  # fmt: skip

from holdfast.format.chunker import native_available
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import ignore
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.browser import ArchiveBrowser
from holdfast.vaults.archive.stats import stats
from holdfast.vaults.base import Outcome
from holdfast.vaults.diff import compare
from holdfast.vaults.dump import dump_tar
from holdfast.vaults.find import Criteria, find
from holdfast.vaults.listing import list_items

needs_native = pytest.mark.skipif(not native_available(), reason="needs restic's own chunk boundaries")

Need = Callable[[str], str]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, need: Need) -> Iterator[Path]:
    """The folder that holds the tree ``src``; nobody changes it."""
    folder = tmp_path_factory.mktemp("s")
    make_everything(folder / "src", need)
    yield folder
    remove(folder / "src")


@pytest.fixture(scope="module")
def expected(source: Path) -> dict[bytes, tuple[object, ...]]:
    return look(source / "src")


@pytest.fixture(scope="module")
def made_by_us(tmp_path_factory: pytest.TempPathFactory, source: Path, need: Need) -> Restic:
    """A vault of ours with one snapshot of ``src``."""
    place = tmp_path_factory.mktemp("ours") / "vault"
    restic = Restic(need("restic"), place)
    assert save(ours(place, make=True), source, "src").outcome is Outcome.OK
    return restic


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory, source: Path, need: Need) -> Restic:
    """A repository that restic made, with one snapshot of ``src``; for copying."""
    restic = Restic(need("restic"), tmp_path_factory.mktemp("theirs") / "vault")
    restic.run("init", "--repository-version", "2")
    restic.back_up(source, "src")
    return restic


@pytest.fixture(scope="module")
def made_by_restic(tmp_path_factory: pytest.TempPathFactory, untouched: Restic) -> Restic:
    """The same, to go on with."""
    return untouched.copy(tmp_path_factory.mktemp("continued") / "vault")


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A short path to restore to, that even folders without permissions do not keep from being removed."""
    yield tmp_path
    for entry in tmp_path.iterdir():
        remove(entry)


def _differences(vault: ArchiveVault, first: int, second: int) -> list[str]:
    """Nodes that are not byte-equal in two snapshots: the precise places where our trees are not restic's."""
    lines = []
    snapshots = vault.snapshots()
    with vault.reading():
        repository = vault.repository
        pending = [(b"", snapshots[first].tree, snapshots[second].tree)]
        while pending:
            path, a, b = pending.pop()
            if a == b:
                continue
            old, new = (json.loads(repository.read_blob(tree)) for tree in (a, b))
            for one, two in zip(old["nodes"], new["nodes"], strict=False):
                subtrees = one.pop("subtree", None), two.pop("subtree", None)
                if json.dumps(one) != json.dumps(two):
                    lines.append(f"{path!r}: {json.dumps(one)} != {json.dumps(two)}")
                elif None not in subtrees:
                    name = os.fsencode(one["name"].encode().decode("unicode_escape", "replace"))
                    pending.append((path + b"/" + name, *(bytes.fromhex(tree) for tree in subtrees)))
    return lines


# -- restic reads ours -------------------------------------------------------------------------------------------------


def test_restic_finds_ours_sound_and_restores_it_equal(
    made_by_us: Restic, out: Path, expected: dict[bytes, tuple[object, ...]]
) -> None:
    made_by_us.run("check", "--read-data")
    made_by_us.run("restore", "latest", "--target", os.fspath(out))
    assert look(out / "src") == expected


def test_we_restore_ours_equal(made_by_us: Restic, out: Path, expected: dict[bytes, tuple[object, ...]]) -> None:
    bring_back(ours(made_by_us.place), out)
    assert look(out / "src") == expected


@needs_native
@pytest.mark.parametrize("force", [False, True])
def test_restic_after_us_adds_nothing(made_by_us: Restic, source: Path, force: bool) -> None:
    """First with our snapshot as its parent, then reading everything again."""
    before = len(ours(made_by_us.place).snapshots()) - 1
    summary = made_by_us.back_up(source, "src", force=force)
    found = {key: summary[key] for key in ("data_blobs", "tree_blobs", "data_added")}
    assert found == {"data_blobs": 0, "tree_blobs": 0, "data_added": 0}, _differences(
        ours(made_by_us.place), before, before + 1
    )


def test_restic_lists_what_we_recorded(tmp_path: Path, need: Need) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "f").write_text("x")
    restic = Restic(need("restic"), tmp_path / "vault")
    vault = ours(restic.place, make=True)
    save(vault, tmp_path, "odd", tags=("one", "two"), note="before the upgrade", exclude_texts=("*.tmp",))
    (listed,) = json.loads(restic.run("snapshots", "--json"))
    assert listed["tags"] == ["one", "two"]
    assert listed["paths"] == [os.fspath(tmp_path / "odd")]
    assert (listed["username"], listed["excludes"]) == ("tester", ["*.tmp"])
    assert listed["id"] == vault.snapshots()[0].id.hex()


# -- we go on with restic's --------------------------------------------------------------------------------------------


@needs_native
@pytest.mark.parametrize(("force", "workers"), [(False, 0), (True, 0), (True, 2)])
def test_we_after_restic_add_nothing(made_by_restic: Restic, source: Path, force: bool, workers: int) -> None:
    vault = ours(made_by_restic.place)
    summary = save(vault, source, "src", force=force, workers=workers)
    found = (summary.data_blobs, summary.tree_blobs, summary.data_added)
    assert found == (0, 0, 0), _differences(ours(made_by_restic.place), 0, -1)
    assert summary.files_new == 0 or force


def test_we_find_restics_sound_and_restore_it_equal(
    made_by_restic: Restic, out: Path, expected: dict[bytes, tuple[object, ...]]
) -> None:
    vault = ours(made_by_restic.place)
    report = check(vault)
    assert (report.outcome, report.damage) == (Outcome.OK, [])
    bring_back(vault, out)
    assert look(out / "src") == expected


def _read_everything(vault: ArchiveVault, source: Path, out: Path) -> None:
    snapshots = list(vault.snapshots())
    with vault.reading():
        browser = ArchiveBrowser(vault.repository)
        listed = sum(1 for _ in list_items(browser, snapshots[0], recursive=True))
        assert listed == len(look(source / "src")) + 1
        assert len(next(find(browser, snapshots, Criteria((b"random*",))))[1]) == 11
        top = browser.find(snapshots[0], b"src")
        assert list(compare(browser, top, browser, top, browser.same)) == []
        with (out / "tar").open("wb") as file:
            dump_tar(browser, snapshots[0], b"src/names", file.write, emit=ignore, cancel=Cancel())
        assert stats(vault.repository, snapshots, emit=ignore, cancel=Cancel()).missing == 0
    assert check(vault).outcome is Outcome.OK
    bring_back(vault, out / "back")


@pytest.mark.parametrize("no_lock", [False, True])
def test_looking_at_a_restic_repository_writes_only_a_lock_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, untouched: Restic, source: Path, out: Path, no_lock: bool
) -> None:
    restic = untouched.copy(tmp_path_factory.mktemp("adopted") / "vault")
    before = files_of(restic.place)
    _read_everything(ours(restic.place, no_lock=no_lock), source, out)
    after = files_of(restic.place)
    if not no_lock:  # a lock came and went
        for found in (before, after):
            found.pop(os.fspath(restic.place / "locks"))
            found.pop(os.path.join(restic.place, "locks", "."))
    assert after == before
    remove(restic.place)


# -- leaving and staying -----------------------------------------------------------------------------------------------


def test_restic_prunes_ours_and_both_go_on(tmp_path: Path, need: Need) -> None:
    root = tmp_path / "src"
    root.mkdir()
    for name in ("kept", "gone"):
        (root / name).write_bytes(os.urandom(3 << 20))
    restic = Restic(need("restic"), tmp_path / "vault")
    vault = ours(restic.place, make=True)
    save(vault, tmp_path, "src")
    (root / "gone").unlink()
    save(vault, tmp_path, "src")
    restic.run("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
    restic.run("check", "--read-data")
    vault = ours(restic.place)
    assert check(vault).outcome is Outcome.OK
    assert len(vault.snapshots()) == 1
    summary = save(vault, tmp_path, "src")
    assert (summary.data_blobs, summary.tree_blobs) == (0, 0)
    bring_back(vault, tmp_path / "out")
    assert look(tmp_path / "out" / "src") == look(root)
    restic.run("check", "--read-data")


@needs_native
@pytest.mark.parametrize("compression", ["off", "max"])
def test_every_compression_of_restic_is_read(tmp_path: Path, need: Need, compression: str) -> None:
    root = tmp_path / "src"
    root.mkdir()
    (root / "text").write_bytes(b"all work and no play\n" * 200_000)
    (root / "random").write_bytes(os.urandom(2 << 20))
    restic = Restic(need("restic"), tmp_path / "vault")
    restic.run("init", "--repository-version", "2")
    restic.run("--compression", compression, "backup", "src", cwd=tmp_path)
    vault = ours(restic.place)
    assert check(vault).outcome is Outcome.OK
    assert save(vault, tmp_path, "src", force=True).data_blobs == 0
    bring_back(vault, tmp_path / "out")
    assert look(tmp_path / "out" / "src") == look(root)


def test_a_link_target_that_is_not_utf8_survives_our_restore(tmp_path: Path, need: Need) -> None:
    """restic before 0.16 knows only the readable form, in which bytes that are not UTF-8 became U+FFFD."""
    root = tmp_path / "src"
    root.mkdir()
    os.symlink(ODD_TARGET, root / "link")
    restic = Restic(need("restic"), tmp_path / "vault")
    vault = ours(restic.place, make=True)
    save(vault, tmp_path, "src")
    bring_back(vault, tmp_path / "out")
    assert os.readlink(os.fsencode(tmp_path / "out" / "src" / "link")) == ODD_TARGET
    restic.run("check", "--read-data")
    restic.run("restore", "latest", "--target", os.fspath(tmp_path / "theirs"))
    theirs = os.readlink(os.fsencode(tmp_path / "theirs" / "src" / "link"))
    assert theirs in (ODD_TARGET, ODD_TARGET.decode("utf-8", "replace").encode())
    if theirs == ODD_TARGET:  # then it also writes such a link as we do
        assert restic.back_up(tmp_path, "src", force=True)["tree_blobs"] == 0


def test_absolute_paths_lie_where_restic_puts_them(tmp_path: Path, need: Need) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").write_text("x")
    (tmp_path / "c").write_text("y")
    restic = Restic(need("restic"), tmp_path / "vault")
    vault = ours(restic.place, make=True)
    paths = [os.fspath(tmp_path / "a" / "b"), os.fspath(tmp_path / "c")]
    save(vault, tmp_path, *paths)
    restic.run("backup", *paths)
    first, second = vault.snapshots()
    assert first.paths == second.paths
    with vault.reading():
        browser = ArchiveBrowser(vault.repository)
        names = [[item.path for item in list_items(browser, info, recursive=True)] for info in (first, second)]
        assert names[0] == names[1]
        # The folders above change while tests run beside this one; what was asked for does not.
        inside = os.fsencode(tmp_path / "a" / "b")
        assert browser.find(first, inside).mark == browser.find(second, inside).mark
