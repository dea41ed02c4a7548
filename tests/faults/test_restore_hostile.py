"""Snapshots that were made to do harm: nothing outside of the target changes, and what is harmless comes back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tests.archivekit import new_vault
from tests.restorekit import Forge, bring_back, forge, look

from holdfast.format.node import Node
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.read import entries
from holdfast.vaults.base import Outcome, RestoreSummary


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What must stay as it is."""
    root = tmp_path / "outside"
    root.mkdir()
    (root / "passwd").write_bytes(b"precious")
    return root


def restored(
    tmp_path: Path, make: Callable[[Forge], Iterable[Node]], **changes: object
) -> tuple[ArchiveVault, RestoreSummary]:
    vault = new_vault(tmp_path / "vault")
    return vault, bring_back(vault, tmp_path / "target", snapshot=forge(vault, make), **changes)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "name", [b"../outside/passwd", b"..", b".", b"", b"/etc/hf", b"a/b", b"a\0b", b"n" * 256, b"../target2"]
)
def test_impossible_names(tmp_path: Path, outside: Path, name: bytes, workers: int) -> None:
    before = look(tmp_path / "outside")

    def make(smith: Forge) -> list[Node]:
        return [
            smith.file(name, b"evil"),
            smith.folder(name, smith.file(b"passwd", b"evil")),
            smith.link(name, b"/etc"),
            smith.folder(b"folder", smith.file(name, b"evil", b"and big"), smith.file(b"good", b"good")),
        ]

    vault, done = restored(tmp_path, make, workers=workers)
    assert done.outcome is Outcome.PARTIAL and len(done.problems) == 4
    assert sorted(look(tmp_path / "target")) == [b".", b"./folder", b"./folder/good"]
    assert look(tmp_path / "outside") == before
    assert sorted(os.listdir(tmp_path)) == ["outside", "target", "vault"]
    told: list[bytes] = []
    seen = entries(vault.repository, vault.snapshots()[-1], b"", lambda path, _: told.append(path))
    assert [entry.path for entry in seen] == [b"/folder", b"/folder/good"] and len(told) == 4


@pytest.mark.parametrize("delete", [False, True])
def test_a_link_and_then_a_folder_of_the_same_name(tmp_path: Path, outside: Path, delete: bool) -> None:
    def make(smith: Forge) -> list[Node]:
        return [
            smith.link(b"door", os.fsencode(outside)),
            smith.folder(b"door", smith.file(b"passwd", b"evil"), smith.file(b"new", b"evil")),
        ]

    _, done = restored(tmp_path, make, delete=delete)
    assert [problem.path for problem in done.problems] == [b"/door"]
    assert os.listdir(outside) == ["passwd"] and (outside / "passwd").read_bytes() == b"precious"
    assert os.readlink(tmp_path / "target/door") == str(outside)


def test_a_folder_and_then_a_link_of_the_same_name(tmp_path: Path, outside: Path) -> None:
    def make(smith: Forge) -> list[Node]:
        inner = smith.folder(b"door", smith.file(b"passwd", b"harmless"))
        return [inner, smith.link(b"door", os.fsencode(outside))]

    _, done = restored(tmp_path, make)
    assert len(done.problems) == 1
    assert (outside / "passwd").read_bytes() == b"precious"
    assert (tmp_path / "target/door/passwd").read_bytes() == b"harmless"


def test_names_that_come_twice_in_any_order(tmp_path: Path) -> None:
    def make(smith: Forge) -> list[Node]:
        return [
            smith.file(name, content)
            for name, content in ((b"b", b"1"), (b"c", b"2"), (b"a", b"3"), (b"b", b"4"), (b"a", b"5"))
        ]

    _, done = restored(tmp_path, make)
    assert sorted(problem.path for problem in done.problems) == [b"/a", b"/b"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "target").iterdir()} == {
        "a": b"3",
        "b": b"1",
        "c": b"2",
    }


def test_links_in_the_target_lead_nowhere(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target/folder").symlink_to(outside)
    (tmp_path / "target/file").symlink_to(outside / "passwd")
    _, done = restored(
        tmp_path, lambda smith: [smith.file(b"file", b"evil"), smith.folder(b"folder", smith.file(b"passwd", b"evil"))]
    )
    assert done.outcome is Outcome.OK
    assert (outside / "passwd").read_bytes() == b"precious"
    assert not (tmp_path / "target/folder").is_symlink() and not (tmp_path / "target/file").is_symlink()


def test_hard_links_join_only_what_is_equal(tmp_path: Path) -> None:
    def make(smith: Forge) -> list[Node]:
        return [
            smith.file(b"a", b"first", links=3, inode=9),
            smith.file(b"b", b"second", links=3, inode=9),
            smith.file(b"c", b"first", links=3, inode=9),
            smith.file(b"d", b"unnumbered", links=2),
            smith.file(b"e", b"unnumbered", links=2),
        ]

    _, done = restored(tmp_path, make)
    assert done.outcome is Outcome.OK and done.links == 1
    target = tmp_path / "target"
    assert os.path.samefile(target / "a", target / "c") and not os.path.samefile(target / "a", target / "b")
    assert (target / "b").read_bytes() == b"second" and not os.path.samefile(target / "d", target / "e")


def test_numbers_that_no_system_takes(tmp_path: Path) -> None:
    huge = 1 << 63

    def make(smith: Forge) -> list[Node]:
        device = smith.link(b"device", b"")
        device.type, device.linktarget, device.device = "chardev", None, (1 << 64) - 1
        return [
            smith.file(b"a", b"small", uid=huge, gid=huge, mtime=huge * 1000, atime=-huge * 1000),
            smith.file(b"b", b"two", b"blobs", uid=huge, gid=huge, mtime=huge * 1000),
            device,
            smith.folder(b"folder", smith.file(b"good", b"good"), uid=huge, mtime=huge * 1000),
        ]

    vault = new_vault(tmp_path / "vault")
    try:
        snapshot = forge(vault, make)
    except Exception:
        pytest.skip("such times cannot even be written")
    done = bring_back(vault, tmp_path / "target", snapshot=snapshot)
    assert done.outcome is Outcome.PARTIAL
    assert (tmp_path / "target/a").read_bytes() == b"small"
    assert (tmp_path / "target/b").read_bytes() == b"twoblobs"
    assert (tmp_path / "target/folder/good").read_bytes() == b"good"


def test_unknown_types_and_sockets(tmp_path: Path) -> None:
    def make(smith: Forge) -> list[Node]:
        odd = [smith.link(name, b"x") for name in (b"door", b"irregular", b"socket", b"void")]
        odd[0].type, odd[1].type, odd[2].type = "door", "irregular", "socket"
        odd[3].linktarget = None
        return [*odd, smith.link(b"zero", b"a\0b")]

    _, done = restored(tmp_path, make)
    assert sorted(problem.path for problem in done.problems) == [b"/door", b"/irregular", b"/void", b"/zero"]
    assert not list((tmp_path / "target").iterdir())
