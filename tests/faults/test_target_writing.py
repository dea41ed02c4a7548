"""Restored entries of every kind, awkward names and depths, replacing, and what is left after an error."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.faulty import in_child

from holdfast.files.safepath import Directories
from holdfast.files.target import Target
from holdfast.kernel.errors import Denied, HoldfastError, Invalid, NotFound

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="making devices and mounts needs root")
user_only = pytest.mark.skipif(os.geteuid() == 0, reason="root is refused nothing")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "new" / "target"


@pytest.fixture
def target(root: Path) -> Iterator[Target]:
    with Target(os.fsencode(root)) as target:
        yield target


@pytest.fixture
def replacing(root: Path) -> Iterator[Target]:
    with Target(os.fsencode(root), replace=True) as target:
        yield target


def create(target: Target, path: bytes, data: bytes = b"data") -> None:
    with target.create_file(path, len(data)) as file:
        os.pwrite(file.fd, data, 0)
        file.commit()


def leftovers(root: Path) -> list[Path]:
    return list(root.rglob(".holdfast-tmp-*"))


def test_a_missing_root_is_made_and_is_private_at_first(root: Path, target: Target) -> None:
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    target.directory(b"a/b")
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o700


def test_a_file_appears_whole_and_only_when_it_is_committed(root: Path, target: Target) -> None:
    with target.create_file(b"d/f", 10) as file:
        os.pwrite(file.fd, b"tail", 6)
        assert file.path == b"d/f"
        assert not (root / "d/f").exists()
        file.commit(fsync=True)
    assert (root / "d/f").read_bytes() == bytes(6) + b"tail"
    assert leftovers(root) == []
    target.sync()


def test_an_abandoned_file_leaves_nothing(root: Path, target: Target) -> None:
    with target.create_file(b"f", 1):
        pass
    with pytest.raises(RuntimeError), target.create_file(b"g", 1):
        raise RuntimeError
    assert list(root.iterdir()) == []


def test_what_exists_is_kept_without_replace(root: Path, target: Target) -> None:
    create(target, b"f", b"old")
    target.directory(b"d")
    for name in (b"f", b"d"):
        with pytest.raises(Invalid):
            create(target, name)
        with pytest.raises(Invalid):
            target.symlink(name, b"x")
        with pytest.raises(Invalid):
            target.mkfifo(name)
    with pytest.raises(Invalid):
        target.directory(b"f/x")
    assert (root / "f").read_bytes() == b"old"
    assert leftovers(root) == []


def test_a_file_becomes_a_directory_and_back(root: Path, replacing: Target) -> None:
    create(replacing, b"x", b"file")
    create(replacing, b"x/inner", b"inner")
    assert (root / "x/inner").read_bytes() == b"inner"
    with pytest.raises(Invalid):
        create(replacing, b"x", b"file again")
    assert (root / "x/inner").exists() and leftovers(root) == []
    replacing.remove(b"x/inner")
    create(replacing, b"x", b"file again")
    assert (root / "x").read_bytes() == b"file again"
    create(replacing, b"x/y/z", b"deep")
    replacing.remove(b"x")
    create(replacing, b"x/y/z", b"deep again")
    assert (root / "x/y/z").read_bytes() == b"deep again"
    assert leftovers(root) == []


def test_every_kind_replaces_every_other(root: Path, replacing: Target) -> None:
    create(replacing, b"source")
    makers = {
        "file": lambda: create(replacing, b"x"),
        "symlink": lambda: replacing.symlink(b"x", b"anywhere"),
        "fifo": lambda: replacing.mkfifo(b"x"),
        "hardlink": lambda: replacing.hardlink(b"x", b"source"),
        "dir": lambda: replacing.directory(b"x"),
    }
    for first in makers.values():
        for second in makers.values():
            replacing.remove(b"x")
            first()
            second()
            assert replacing.exists(b"x")
            assert leftovers(root) == []
    assert (root / "source").read_bytes() == b"data"


def test_links_point_where_they_pointed(root: Path, target: Target) -> None:
    create(target, b"a/f")
    target.symlink(b"b/s", b"../raw\xff/\n")
    target.hardlink(b"b/h", b"a/f")
    assert os.readlink(os.fsencode(root) + b"/b/s") == b"../raw\xff/\n"
    assert (root / "b/h").stat().st_ino == (root / "a/f").stat().st_ino
    with pytest.raises(NotFound):
        target.hardlink(b"b/i", b"a/missing")
    with pytest.raises(NotFound):
        target.hardlink(b"b/i", b"missing/f")
    with pytest.raises(HoldfastError):
        target.symlink(b"empty", b"")
    with pytest.raises(HoldfastError):
        target.symlink(b"nul", b"a\0b")


@root_only
def test_devices_come_back(root: Path, target: Target) -> None:
    try:
        target.mknod(b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except Denied:
        pytest.skip("this container may not make devices")
    target.mknod(b"block", stat.S_IFBLK | 0o660, os.makedev(7, 200))
    st = (root / "null").lstat()
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE(st.st_mode) == 0o600
    assert stat.S_ISBLK((root / "block").lstat().st_mode)


@user_only
def test_a_device_is_denied_to_a_user(target: Target) -> None:
    with pytest.raises(Denied) as caught:
        target.mknod(b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert caught.value.hint


@pytest.mark.parametrize("name", [b"x" * 255, b"raw\xff\xfe", b"new\nline", b" ", b"-rf", b"...", b"\\", b"*"])
def test_awkward_names_come_back(root: Path, target: Target, name: bytes) -> None:
    try:
        create(target, name + b"/" + name)
    except HoldfastError as error:
        pytest.skip(f"this file system cannot hold the name: {error}")
    create(target, name + b"/second")
    assert sorted(os.listdir(os.fsencode(root) + b"/" + name)) == sorted([name, b"second"])


def test_paths_longer_than_the_system_takes_at_once(root: Path, target: Target) -> None:
    path = b"/".join([b"%03d" % level + b"n" * 247 for level in range(24)])  # 6,000 bytes; PATH_MAX is 4,096
    create(target, path + b"/f")
    target.symlink(path + b"/s", b"f")
    target.hardlink(path + b"/h", path + b"/f")
    found = target.stat(path + b"/f")
    assert found is not None and found.st_size == 4 and found.st_nlink == 2
    target.remove(path.split(b"/")[0])
    assert list(root.iterdir()) == []


def test_a_thousand_levels_and_more_directories_than_stay_open(root: Path, target: Target) -> None:
    path = b"/".join([b"d"] * 1200)
    create(target, path + b"/f")
    for number in range(300):
        create(target, b"wide/%d/f" % number)
    create(target, b"wide/0/g")
    assert (root / "wide/0/g").exists()
    assert target.exists(path + b"/f")
    target.remove(b"d")
    assert [item.name for item in root.iterdir()] == ["wide"]


def test_open_files_outlive_the_directories_that_were_kept(root: Path, target: Target) -> None:
    handles = [target.create_file(b"d%d/f" % number, 1) for number in range(150)]
    for number, handle in enumerate(handles):
        os.pwrite(handle.fd, b"%d" % (number % 10), 0)
        handle.commit()
    assert [(root / f"d{number}/f").read_bytes() for number in (0, 99)] == [b"0", b"9"]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def count() -> int:
        return len(os.listdir("/dev/fd"))

    def work() -> None:
        before = count()
        with Target(os.fsencode(tmp_path / "t"), replace=True) as target:
            for number in range(200):
                create(target, b"d%d/e/f" % number)
            target.remove(b"d0")
            with pytest.raises(HoldfastError):
                create(target, b"d1")
            # A tmpfs takes even this: then it is given up.
            with contextlib.suppress(HoldfastError), target.create_file(b"big", 2**63 - 1):
                pass
        assert count() <= before

    assert in_child(work) == 0  # in this process threads of other tests may open and close something meanwhile


def test_a_removed_directory_is_not_written_into_through_what_was_kept(root: Path) -> None:
    root.mkdir(parents=True)
    directories = Directories(os.open(root, os.O_RDONLY), replace=False, capacity=2)
    try:
        directories.get(b"a/b/c", make=True)
        (root / "a/b/c").rmdir()
        directories.forget(b"a/b/c")
        fd = directories.get(b"a/b/c", make=True)
        os.close(os.open(b"f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        assert (root / "a/b/c/f").exists()
    finally:
        directories.close()
        directories.close()


@user_only
def test_own_read_only_directories_are_opened_up(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/old").write_bytes(b"")
    (root / "a/b").chmod(0o000)
    (root / "a").chmod(0o555)
    with Target(os.fsencode(root), replace=True) as target:
        create(target, b"a/b/f")
        assert (root / "a/b/f").exists()
        (root / "a/b").chmod(0o000)
        (root / "a").chmod(0o555)
        target.remove(b"a")
        assert list(root.iterdir()) == []


@user_only
def test_a_place_where_one_may_not_write_is_denied_with_a_hint(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    with Target(os.fsencode(closed)) as target, pytest.raises(Denied) as caught:
        create(target, b"f")
    assert "f" in str(caught.value) and caught.value.hint


def test_a_file_where_the_root_should_be(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(Invalid):
        Target(os.fsencode(tmp_path / "f"))


def test_a_crash_before_the_commit_leaves_the_old_file(root: Path, replacing: Target) -> None:
    create(replacing, b"f", b"old")
    child = os.fork()
    if child == 0:
        handle = replacing.create_file(b"f", 3)
        os.pwrite(handle.fd, b"new", 0)
        os._exit(0)
    os.waitpid(child, 0)
    assert (root / "f").read_bytes() == b"old"
    assert len(leftovers(root)) == 1
