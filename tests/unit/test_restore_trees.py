"""What was saved comes back: every name, kind, byte and attribute."""

from __future__ import annotations

import os
import random
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.archivekit import new_vault, save
from tests.restorekit import bring_back, forge, look

from holdfast.storage.memory import MemoryStorage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import Outcome

ROOT = os.geteuid() == 0

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name
)
contents = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.integers(0, 20_000)),
)
files = st.tuples(st.just("file"), contents, st.sampled_from((0o644, 0o600, 0o755, 0o400, 0o4755, 0o2750, 0o666)))
links = st.tuples(st.just("link"), st.binary(min_size=1, max_size=40).filter(lambda to: b"\0" not in to))
hard = st.tuples(st.just("hard"))
trees: Any = st.recursive(
    st.one_of(files, links, hard),
    lambda inner: st.tuples(
        st.just("dir"), st.dictionaries(names, inner, max_size=6), st.sampled_from((0o755, 0o500, 0o777))
    ),
    max_leaves=25,
)
times = st.integers(0, 4_000_000_000_000_000_000)


def build(where: bytes, tree: dict[bytes, Any], draw: random.Random) -> None:
    """Make a generated tree on the disk."""
    for name, item in tree.items():
        path = where + b"/" + name
        stamp = draw.randrange(4_000_000_000_000_000_000)
        if item[0] == "dir":
            os.mkdir(path)
            build(path, item[1], draw)
            os.chmod(path, item[2])
        elif item[0] == "link":
            os.symlink(item[1], path)
        elif item[0] == "hard":
            there = [entry.path for entry in os.scandir(where) if entry.is_file(follow_symlinks=False)]
            if not there:
                continue
            os.link(there[0], path)
        else:
            with open(path, "wb") as file:
                file.write(item[1])
            os.chmod(path, item[2])
        os.utime(path, ns=(stamp, stamp), follow_symlinks=False)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=st.dictionaries(names, trees, min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_any_tree_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[bytes, Any], seed: int
) -> None:
    place = tmp_path_factory.mktemp("any")
    source = place / "source"
    source.mkdir()
    build(os.fsencode(source), tree, random.Random(seed))
    try:
        vault = new_vault(MemoryStorage("here"))
        save(vault, source)
        done = bring_back(vault, place / "back", source)
        assert done.outcome is Outcome.OK, done.problems
        assert look(place / "back") == look(source)
    finally:
        for folder, _, _ in os.walk(place):
            os.chmod(folder, 0o700)
        shutil.rmtree(place)


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Every kind of entry that needs no privilege, sizes around all limits."""
    root = tmp_path / "zoo"
    (root / "deep/er").mkdir(parents=True)
    (root / "bare").mkdir()
    draw = random.Random(5)
    for size in (0, 1, 4095, 4096, 4097, 524_287, 524_288, 524_289, 1_500_000):
        (root / f"random{size}").write_bytes(draw.randbytes(size))
        (root / "deep" / f"text{size}").write_bytes((b"a line of text, %d\n" % size * (size // 17 + 1))[:size])
    (root / "deep/er/large").write_bytes(draw.randbytes(9_000_000))
    (root / "deep/copy").write_bytes((root / "random1").read_bytes())
    (root / "dangling").symlink_to("nowhere")
    (root / "upwards").symlink_to("../../..")
    os.symlink(b"bad \xff\xfe utf-8", os.fsencode(root / "strange"))
    os.mkfifo(root / "pipe", 0o640)
    os.link(root / "random4096", root / "deep/er/again")
    os.link(root / "deep/er/large", root / "large too")
    (root / "deep" / "set").write_bytes(b"set")
    os.chmod(root / "deep/set", 0o6711)
    os.chmod(root / "bare", 0o1777)
    os.chmod(root / "deep", 0o550)
    os.utime(root / "bare", ns=(1, 999_999_999))
    os.utime(root / "dangling", ns=(5, 7), follow_symlinks=False)
    return root


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("verify", [False, True])
def test_every_kind_of_entry_comes_back(
    tmp_path: Path, zoo: Path, workers: int, verify: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.vaults.archive.restore.run.ALONE_SECONDS", 0.0)
    monkeypatch.setattr("holdfast.vaults.archive.restore.run.ALONE_FILES", 0)
    monkeypatch.setattr("holdfast.vaults.archive.restore.survey.NODES_PER_TASK", 3)
    monkeypatch.setattr("holdfast.vaults.archive.restore.plan.PARTS_PER_TASK", 3)
    monkeypatch.setattr("holdfast.vaults.archive.restore.plan.ROWS_PER_TASK", 4)
    vault = new_vault(tmp_path / "vault")
    save(vault, zoo)
    done = bring_back(vault, tmp_path / "back", zoo, workers=workers, verify=verify)
    assert done.outcome is Outcome.OK, done.problems
    assert look(tmp_path / "back") == look(zoo)
    assert done.files_restored == 21 and done.links == 5 and done.others == 1
    assert (
        done.bytes_restored
        == sum(os.path.getsize(path) for path in zoo.rglob("*") if path.is_file()) - 9_000_000 - 4096
    )


def test_attributes_come_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content")
    (source / "plain").write_bytes(b"content of another")
    try:
        os.setxattr(source / "file", b"user.holdfast", b"\0\xff value")
        os.setxattr(source, b"user.folder", b"")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    assert bring_back(vault, tmp_path / "back", source).outcome is Outcome.OK
    assert look(tmp_path / "back") == look(source)


@pytest.mark.skipif(not ROOT, reason="only root can make devices and give files away")
def test_owners_and_devices_come_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "theirs").write_bytes(b"x")
    (source / "folder").mkdir()
    try:
        os.mknod(source / "null", stat.S_IFCHR | 0o620, os.makedev(1, 3))
        os.mknod(source / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    except PermissionError:
        pytest.skip("this container may not make devices")
    for name in ("theirs", "folder", "null"):
        os.chown(source / name, 1234, 4321)
    os.chmod(source / "theirs", 0o4755)
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    assert bring_back(vault, tmp_path / "back", source).outcome is Outcome.OK
    assert look(tmp_path / "back") == look(source)
    assert bring_back(vault, tmp_path / "mine", source, owner=False).outcome is Outcome.PARTIAL  # the set-id bit
    st = os.stat(tmp_path / "mine/theirs")
    assert (st.st_uid, st.st_mode & 0o7777) == (0, 0o755)


@pytest.mark.skipif(ROOT, reason="root can make devices")
def test_without_privileges_devices_are_problems_and_the_rest_comes_back(tmp_path: Path) -> None:
    vault = new_vault(tmp_path / "vault")

    def make(smith: Any) -> list[Any]:
        null = smith.link(b"null", b"")
        null.type, null.linktarget, null.device = "chardev", None, os.makedev(1, 3)
        return [smith.file(b"file", b"content", uid=0, gid=0), null]

    done = bring_back(vault, tmp_path / "back", snapshot=forge(vault, make))
    assert done.outcome is Outcome.PARTIAL
    assert [problem.path for problem in done.problems] == [b"/null"]
    assert (tmp_path / "back/file").read_bytes() == b"content"


@pytest.mark.parametrize("sparse", [True, False])
def test_runs_of_zeros_are_holes_if_wanted(tmp_path: Path, sparse: bool) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "holes", "wb") as file:
        file.write(b"begin")
        file.seek(7_000_000)
        file.write(b"middle")
        file.truncate(12_000_000)
    with open(source / "small", "wb") as file:
        file.truncate(400_000)
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    bring_back(vault, tmp_path / "back", source, sparse=sparse)
    assert look(tmp_path / "back") == look(source)
    used = sum(os.stat(tmp_path / "back" / name).st_blocks * 512 for name in ("holes", "small"))
    assert used < 200_000 if sparse else used >= 12_400_000


def test_paths_of_four_thousand_bytes(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    here = os.open(source, os.O_RDONLY)
    for _ in range((3_900 - len(os.fsencode(source))) // 241):
        os.mkdir(b"d" * 240, dir_fd=here)
        inner = os.open(b"d" * 240, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    fd = os.open(b"f" * 60, os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(fd, b"down here")
    os.close(fd)
    os.close(here)
    vault = new_vault(tmp_path / "vault")
    assert save(vault, source).outcome is Outcome.OK
    target = tmp_path / ("a longer name than the source has " * 6)
    assert bring_back(vault, target, source).outcome is Outcome.OK
    assert look(target) == look(source)
    assert max(map(len, look(target))) > 3_500


def test_a_folder_of_many_files_by_several_processes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(40):
        (source / f"d{number}").mkdir(parents=True)
        for file in range(60):
            (source / f"d{number}/f{file}").write_bytes(b"%d of %d" % (file, number % 5))
    vault: ArchiveVault = new_vault(tmp_path / "vault")
    save(vault, source)
    done = bring_back(vault, tmp_path / "back", source, workers=3)
    assert done.files_restored == 2400 and done.dirs == 41
    assert look(tmp_path / "back") == look(source)
