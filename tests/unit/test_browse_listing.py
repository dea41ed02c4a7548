"""``ls`` over real vaults: levels, order, single files, hostile names, great depth, damage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.archivekit import new_vault, save
from tests.browsekit import HOSTILE_NAMES, looking, make_hostile

from holdfast.files.entry import Entry
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, NotFound
from holdfast.kernel.events import ignore
from holdfast.repository import layout
from holdfast.vaults.archive.stats import stats
from holdfast.vaults.find import Criteria, find
from holdfast.vaults.listing import list_items, mode_text, owner_text

DEPTH = 1200


def test_one_level_and_everything_beneath_in_byte_order(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "b" / "deep").mkdir(parents=True)
    (root / "b" / "deep" / "file").write_text("x")
    (root / "b.txt").write_text("y")  # "." sorts before "/": depth first by names, not by whole paths
    (root / "a").symlink_to("b.txt")
    vault = new_vault(tmp_path / "vault")
    save(vault, root)
    at = os.fsencode(root)
    with looking(vault) as (snapshots, browser):
        level = [item.path for item in list_items(browser, snapshots[0], at)]
        assert level == [at + b"/a", at + b"/b", at + b"/b.txt"]
        deep = [item.path for item in list_items(browser, snapshots[0], at, recursive=True)]
        assert deep == [at + end for end in (b"/a", b"/b", b"/b/deep", b"/b/deep/file", b"/b.txt")]
        assert [item.kind for item in list_items(browser, snapshots[0], at)] == ["symlink", "dir", "file"]
        (alone,) = list_items(browser, snapshots[0], at + b"/b.txt", recursive=True)
        assert (alone.path, alone.size) == (at + b"/b.txt", 1)
        top = [item.path for item in list_items(browser, snapshots[0])]
        assert top == [b"/" + at.split(b"/")[1]]


def test_a_missing_path_names_the_nearest_folder(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    vault = new_vault(tmp_path / "vault")
    save(vault, tmp_path / "root")
    with looking(vault) as (snapshots, browser), pytest.raises(NotFound) as failure:
        list(list_items(browser, snapshots[0], os.fsencode(tmp_path / "root" / "not" / "there")))
    assert str(tmp_path / "root") in failure.value.hint


def test_every_byte_in_names(tmp_path: Path) -> None:
    make_hostile(tmp_path / "root")
    vault = new_vault(tmp_path / "vault")
    save(vault, tmp_path / "root")
    with looking(vault) as (snapshots, browser):
        listed = [item.name for item in list_items(browser, snapshots[0], os.fsencode(tmp_path / "root"))]
    assert listed == sorted(set(HOSTILE_NAMES))


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """Folders nested deeper than the interpreter recurses; taken away by hand, as ``shutil.rmtree`` does recurse."""
    root = tmp_path / "deep"
    root.mkdir()
    fds = [os.open(root, os.O_RDONLY)]
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=fds[-1])
        deeper = os.open("d", os.O_RDONLY, dir_fd=fds[-1])
        os.close(fds.pop())
        fds.append(deeper)
    yield root
    for _ in range(DEPTH):
        above = os.open("..", os.O_RDONLY, dir_fd=fds[-1])
        os.close(fds.pop())
        fds.append(above)
        os.rmdir("d", dir_fd=above)
    os.close(fds.pop())


def test_folders_nested_deeper_than_the_interpreter_recurses(deep: Path, tmp_path: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, deep)
    with looking(vault) as (snapshots, browser):
        assert sum(1 for _ in list_items(browser, snapshots[0], os.fsencode(deep), recursive=True)) == DEPTH
        ((_, found),) = find(browser, snapshots, Criteria((b"d",)))
        assert len(found) == DEPTH
        assert stats(vault.repository, snapshots, emit=ignore, cancel=Cancel()).growth[0].dirs > DEPTH


def test_a_damaged_folder_is_told_and_the_rest_is_listed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "broken").mkdir(parents=True)
    (root / "broken" / "lost").write_text("x")
    vault = new_vault(tmp_path / "vault")
    save(vault, root)
    (root / "whole").mkdir()
    (root / "whole" / "kept").write_text("y")
    with looking(vault) as (snapshots, browser):
        broken = browser.find(snapshots[0], os.fsencode(root / "broken"))
        place = vault.repository.index.place(broken.node.subtree)
        assert place is not None
    save(vault, root)
    pack = tmp_path / "vault" / layout.name_of(layout.DATA, place.pack)
    data = bytearray(pack.read_bytes())
    data[place.offset + 20] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    told: list[bytes] = []
    with looking(vault, lambda path, _error: told.append(path)) as (snapshots, browser):
        # The folder above is in the same pack, but intact.
        names = [item.name for item in list_items(browser, snapshots[1], os.fsencode(root), recursive=True)]
    assert names == [b"broken", b"whole", b"kept"]
    assert told == [os.fsencode(root / "broken")]
    with looking(vault) as (snapshots, browser), pytest.raises(Corrupt, match="broken"):
        list(list_items(browser, snapshots[1], os.fsencode(root), recursive=True))


@pytest.mark.parametrize(
    ("mode", "kind", "shown"),
    [
        (0o100644, "file", "-rw-r--r--"),
        (0o104755, "file", "-rwsr-xr-x"),
        (0o041777, "dir", "drwxrwxrwt"),
        (0o120777, "symlink", "lrwxrwxrwx"),
        (0o020600, "chardev", "crw-------"),
        (0o010600, "fifo", "prw-------"),
        (0o600, "irregular", "?rw-------"),
    ],
)
def test_modes_as_ls_shows_them(mode: int, kind: str, shown: str) -> None:
    assert mode_text(Entry(b"x", kind, mode)) == shown  # type: ignore[arg-type]


def test_owners_are_names_where_there_are_some() -> None:
    assert owner_text(Entry(b"x", "file", 0o100644, st_uid=7, st_gid=8, user="me")) == ("me", "8")
