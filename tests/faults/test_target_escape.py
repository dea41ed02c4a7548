"""Whatever a snapshot says, and whoever swaps directories for links: nothing outside of the target changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from holdfast.files.metadata import apply_metadata
from holdfast.files.target import Target
from holdfast.kernel.errors import Corrupt, HoldfastError, Invalid, NotFound

HOSTILE = [
    *(b"../../etc/passwd", b"..", b".", b"", b"/etc/passwd", b"a/../../x", b"a/..", b"./x", b"a//b", b"a/", b"//x"),
    *(b"a\0b", b"d/a\0b", b"/", b"x" * 256, b"d/" + b"x" * 256),
]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    return outside


@pytest.fixture(params=[False, True], ids=["keep", "replace"])
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Target]:
    with Target(os.fsencode(tmp_path / "target"), replace=request.param) as target:
        yield target


def tree(path: Path) -> list[tuple[str, int, int, bytes]]:
    """All that could have been changed below ``path``."""
    found = []
    for item in sorted(path.rglob("*")):
        st = item.lstat()
        found.append((str(item), st.st_mode, st.st_nlink, item.read_bytes() if item.is_file() else b""))
    return found


def create(target: Target, path: bytes) -> None:
    with target.create_file(path, 3) as file:
        os.pwrite(file.fd, b"new", 0)
        file.commit()


VERBS: dict[str, Callable[[Target, bytes], object]] = {
    "file": create,
    "directory": lambda target, path: target.directory(path),
    "symlink": lambda target, path: target.symlink(path, b"anything"),
    "fifo": lambda target, path: target.mkfifo(path),
    "hardlink": lambda target, path: target.hardlink(path, b"inside"),
    "remove": lambda target, path: target.remove(path),
}


@pytest.mark.parametrize("verb", VERBS)
def test_impossible_paths_are_refused(target: Target, outside: Path, verb: str) -> None:
    create(target, b"inside")
    target.directory(b"d")
    target.directory(b"a")
    before = tree(outside.parent)
    for path in HOSTILE:
        if path or verb != "directory":  # the empty path is the root
            with pytest.raises(Corrupt):
                VERBS[verb](target, path)
        with pytest.raises(Corrupt):
            target.hardlink(b"link", path)
    assert tree(outside.parent) == before


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "remove"])
def test_a_link_in_the_snapshot_leads_nowhere(target: Target, outside: Path, verb: str) -> None:
    create(target, b"inside")
    target.symlink(b"a", os.fsencode(outside))
    before = tree(outside)
    if target.replace:
        VERBS[verb](target, b"a/precious")
        assert target.stat(b"a/precious") is not None
    else:
        with pytest.raises(Invalid) as caught:
            VERBS[verb](target, b"a/precious")
        assert caught.value.hint
    assert tree(outside) == before


@pytest.mark.parametrize("verb", ["file", "symlink", "fifo", "hardlink"])
def test_a_link_at_the_final_name_is_replaced_or_refused_never_written_through(
    target: Target, outside: Path, verb: str
) -> None:
    create(target, b"inside")
    for name, leads_to in ((b"existing", outside / "precious"), (b"dangling", outside / "new")):
        os.symlink(os.fsencode(leads_to), os.path.join(target.root, name))
        before = tree(outside)
        if target.replace:
            VERBS[verb](target, name)
            assert target.exists(name)
        else:
            with pytest.raises(Invalid):
                VERBS[verb](target, name)
        assert tree(outside) == before
    assert not [name for name in os.listdir(target.root) if name.startswith(b".holdfast-tmp-")]


def test_nothing_is_seen_or_removed_through_a_link(target: Target, outside: Path) -> None:
    os.symlink(os.fsencode(outside), os.path.join(target.root, b"a"))
    before = tree(outside)
    assert target.stat(b"a/precious") is None
    assert not target.exists(b"a/precious")
    target.remove(b"a/precious")
    assert tree(outside) == before
    target.remove(b"a")
    assert not target.exists(b"a")
    assert tree(outside) == before


def test_removing_a_tree_removes_links_not_what_they_point_to(target: Target, outside: Path) -> None:
    target.directory(b"d/e")
    target.symlink(b"d/e/dir", os.fsencode(outside))
    target.symlink(b"d/file", os.fsencode(outside / "precious"))
    before = tree(outside)
    target.remove(b"d")
    assert not target.exists(b"d")
    assert tree(outside) == before


def test_a_hard_link_cannot_reach_outside(target: Target, outside: Path) -> None:
    os.symlink(os.fsencode(outside), os.path.join(target.root, b"a"))
    with pytest.raises((Invalid, NotFound)):
        target.hardlink(b"stolen", b"a/precious")
    os.symlink(os.fsencode(outside / "precious"), os.path.join(target.root, b"link"))
    target.hardlink(b"second", b"link")
    assert os.readlink(os.path.join(target.root, b"second")) == os.fsencode(outside / "precious")
    assert (outside / "precious").stat().st_nlink == 1


def test_an_existing_file_with_another_name_outside_is_not_written_into(tmp_path: Path, outside: Path) -> None:
    with Target(os.fsencode(tmp_path / "target"), replace=True) as target:
        os.link(outside / "precious", tmp_path / "target/f")
        create(target, b"f")
    assert (outside / "precious").read_bytes() == b"precious"


def test_the_root_itself_may_lie_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Target(os.fsencode(tmp_path / "link")) as target:
        create(target, b"f")
    assert (tmp_path / "real/f").read_bytes() == b"new"


@pytest.mark.parametrize("replace", [False, True])
def test_a_directory_swapped_for_a_link_during_the_restore(tmp_path: Path, outside: Path, replace: bool) -> None:
    """Another thread turns ``a`` from a directory into a link to outside and back, as fast as it can."""
    root = tmp_path / "target"
    with Target(os.fsencode(root), replace=replace) as setup:
        create(setup, b"existing")
    before, outside_before = tree(outside), outside.stat()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            with suppress(OSError):
                os.rename(root / "a", root / "moved")
            with suppress(OSError):
                os.symlink(outside, root / "a")
            with suppress(OSError):
                os.unlink(root / "a")
            with suppress(OSError):
                os.rename(root / "moved", root / "a")

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        for turn in range(150):
            with Target(os.fsencode(root), replace=replace) as target:
                for verb in (create, VERBS["symlink"], VERBS["fifo"]):
                    with suppress(HoldfastError):
                        verb(target, b"a/b/n%d" % turn)
                with suppress(HoldfastError):
                    target.hardlink(b"a/h%d" % turn, b"existing")
                with suppress(HoldfastError):
                    target.hardlink(b"stolen", b"a/precious")
                with suppress(HoldfastError):
                    target.remove(b"a/precious")
                with suppress(HoldfastError):
                    apply_metadata(
                        target.directory(b""), b"a", kind="dir", st_mode=0o777, uid=0, gid=0,
                        mtime_ns=0, atime_ns=0, owner=False,
                    )  # fmt: skip
                with suppress(HoldfastError):
                    target.remove(b"a/b")
    finally:
        stop.set()
        attacker.join()
    assert tree(outside) == before
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns) == (outside_before.st_mode, outside_before.st_mtime_ns)
