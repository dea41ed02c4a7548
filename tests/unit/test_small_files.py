"""Small files in one call: they are what the long way makes, and what is not ordinary is left to it."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tests.mirrorkit import tree

from holdfast.files import small
from holdfast.files.small import File, copy_small, to_copy, write_small
from holdfast.files.xattrs import write_xattrs
from holdfast.format.accelerated import hashes_here
from holdfast.kernel.threads import Workers
from holdfast.vaults.batches import Batches

needs_extension = pytest.mark.skipif(not small.has_extension(), reason="the C extension was not built")
needs_sha = pytest.mark.skipif(
    not (small.has_extension() and hashes_here()), reason="the C extension or SHA instructions are missing"
)
CONTENT = b"some text\n"


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, int, Path, int]]:
    """Two folders, and descriptors of them."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    opened = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target)]
    yield source, opened[0], target, opened[1]
    for fd in opened:
        os.close(fd)


def put(fd: int, name: bytes, data: bytes = CONTENT, **changes: object) -> int:
    fields = {"st_mode": 0o100640, "uid": os.getuid(), "gid": os.getgid(), "mtime_ns": -5, "atime_ns": 7, **changes}
    return write_small(fd, b"temporary", name, data, **fields)  # type: ignore[arg-type]


def of(source: Path, name: str, **changes: object) -> File:
    st = (source / name).stat()
    fields = {
        "size": st.st_size, "st_mode": st.st_mode, "uid": st.st_uid, "gid": st.st_gid, "mtime_ns": st.st_mtime_ns,
        "atime_ns": st.st_mtime_ns, "ctime_ns": st.st_ctime_ns, "inode": st.st_ino, **changes,
    }  # fmt: skip
    file = to_copy(os.fsencode(name), b"tmp " + os.fsencode(name), os.fsencode(name), **fields)  # type: ignore[arg-type]
    assert file is not None
    return file


@needs_extension
def test_a_file_is_there_with_all_that_belongs_to_it(folders: tuple[Path, int, Path, int]) -> None:
    _, _, target, fd = folders
    (target / "name").write_text("was there before")
    inode = put(fd, b"name")
    st = (target / "name").stat()
    assert (st.st_ino, st.st_mode, st.st_mtime_ns) == (inode, 0o100640, -5)
    assert (target / "name").read_bytes() == CONTENT and os.listdir(target) == ["name"]
    assert put(fd, b"") and (target / "temporary").read_bytes() == CONTENT


@needs_extension
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_permissions_are_the_given_ones_whatever_new_files_usually_get(
    folders: tuple[Path, int, Path, int], umask: int
) -> None:
    _, _, target, fd = folders
    before = os.umask(umask)
    try:
        for mode in range(0o1000):
            assert put(fd, b"name", st_mode=0o100000 | mode)
            assert (target / "name").stat().st_mode == 0o100000 | mode
    finally:
        os.umask(before)


@needs_extension
@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (bytes(5000), {}),
        (CONTENT, {"st_mode": 0o104755}),
        (CONTENT, {"uid": -1}),
        (CONTENT, {"gid": 1 << 32}),
        (CONTENT, {"mtime_ns": 1 << 63}),
        (CONTENT, {"atime_ns": -(1 << 63)}),
        (b"x" * (small.LARGEST + 1), {}),
    ],
)
def test_what_is_not_ordinary_is_left_to_the_long_way(
    folders: tuple[Path, int, Path, int], data: bytes, changes: dict[str, object]
) -> None:
    _, _, target, fd = folders
    assert put(fd, b"name", data, **changes) == 0 and not os.listdir(target)


@needs_extension
def test_what_does_not_work_leaves_nothing(folders: tuple[Path, int, Path, int]) -> None:
    _, _, target, fd = folders
    (target / "taken").mkdir()
    (target / "taken" / "inside").touch()
    assert put(fd, b"taken") == 0 and os.listdir(target) == ["taken"]
    assert put(fd, b"n" * 300) == 0 and os.listdir(target) == ["taken"]
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))  # as a full disk: some bytes are taken, the rest not
    try:
        assert put(fd, b"long", b"x" * 3000) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert os.listdir(target) == ["taken"]
    if os.geteuid() != 0:
        assert put(fd, b"foreign", uid=0, owner=True) == 0 and os.listdir(target) == ["taken"]


@needs_sha
def test_copies_are_what_their_sources_are(folders: tuple[Path, int, Path, int]) -> None:
    source, from_fd, target, to_fd = folders
    for number in range(9):
        path = source / f"file {number}"
        path.write_bytes(b"%d" % number * number * 700)
        path.chmod(0o600 + number)
        os.utime(path, ns=(0, 1_500_000_000_000_000_000 + number))
    names = sorted(os.listdir(source))
    results = copy_small(from_fd, to_fd, [of(source, name) for name in names])
    os.utime(target, ns=(0, source.stat().st_mtime_ns))
    assert tree(target) == tree(source)
    for name, result in zip(names, results, strict=True):
        assert result == (sha256((source / name).read_bytes()).digest(), (target / name).stat().st_ino)


@needs_sha
def test_only_what_is_as_it_was_said_to_be_is_copied(folders: tuple[Path, int, Path, int]) -> None:
    source, from_fd, target, to_fd = folders
    for name in ("good", "changed", "grown", "gone", "link", "attributes", "holes", "other content", "same content"):
        (source / name).write_bytes(CONTENT)
    (source / "holes").write_bytes(CONTENT + bytes(9000))
    wrong, right = sha256(b"").digest(), sha256(CONTENT).digest()
    files = [of(source, name) for name in ("good", "changed", "grown", "gone", "link", "holes")]
    files += [of(source, "other content", inode=0, digest=wrong), of(source, "same content", inode=0, digest=right)]
    has_attributes = not write_xattrs(os.fsencode(source / "attributes"), ((b"user.colour", b"red"),))
    files.append(of(source, "attributes"))
    os.utime(source / "changed", ns=(0, 5))
    (source / "grown").write_bytes(CONTENT * 2)
    (source / "gone").unlink()
    (source / "link").unlink()
    (source / "link").symlink_to("good")
    results = copy_small(from_fd, to_fd, files)
    done = {os.fsdecode(file[2]) for file, result in zip(files, results, strict=True) if result is not None}
    assert done == set(os.listdir(target)) == {"good", "same content"} | (set() if has_attributes else {"attributes"})


@needs_sha
def test_batches_are_told_of_in_this_thread_and_leave_nothing_open(folders: tuple[Path, int, Path, int]) -> None:
    source, _, target, _ = folders
    for number in range(100):
        (source / f"{number}").write_bytes(CONTENT)
    told: list[object] = []
    before = len(os.listdir("/proc/self/fd"))
    with Batches() as batches:
        for number in range(100):
            opened = [os.open(path, os.O_RDONLY) for path in (source, target)]
            batches.submit(opened[0], opened[1], [of(source, f"{number}")], told.append)
        batches.drain()
        assert len(told) == 100 and None not in [result for (result,) in told]  # type: ignore[misc]
    assert len(os.listdir("/proc/self/fd")) == before


def test_workers_answer_everything_however_it_is_asked_for() -> None:
    for count in (1, 3):
        workers = Workers(lambda: lambda task: task * 2, count)
        found: list[int] = []
        for number in range(200):
            workers.submit(number)
            found += workers.take(wait=number % 3 == 0)
        while workers.waiting:
            found += workers.take(wait=True)
        workers.close()
        assert sorted(found) == [2 * number for number in range(200)]


def test_what_a_worker_raises_reaches_who_asked() -> None:
    def fail(number: int) -> int:
        if number == 5:
            raise OSError(errno.EIO, "broken")
        return number

    workers = Workers(lambda: fail, 2)
    try:
        with pytest.raises(OSError, match="broken"):
            for number in range(50):
                workers.submit(number)
                workers.take(wait=True)
    finally:
        workers.close()
