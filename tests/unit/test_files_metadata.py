"""Metadata given back: order, links, set-id bits, attributes, and what an ordinary user may do."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.files.metadata import apply_metadata
from holdfast.files.xattrs import read_xattrs, write_xattrs

TIME = 1_234_567_890_123_456_789
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="changing owners needs root")
user_only = pytest.mark.skipif(os.geteuid() == 0, reason="root is refused nothing")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def give(directory: int, name: bytes | None, **changed: object) -> list[str]:
    wanted = {
        "kind": "file",
        "st_mode": 0o640,
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "mtime_ns": TIME,
        "atime_ns": TIME + 1,
        **changed,
    }
    return apply_metadata(directory, name, **wanted)  # type: ignore[arg-type]


def supports_xattrs(path: Path) -> bool:
    try:
        os.setxattr(path, "user.probe", b"")
        os.removexattr(path, "user.probe")
    except (OSError, AttributeError):
        return False
    return True


def need_xattrs(path: Path) -> None:
    if not supports_xattrs(path):
        pytest.skip("no user attributes on this file system")


def test_permissions_and_nanosecond_times_come_back(tmp_path: Path, directory: int) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "d").mkdir()
    assert give(directory, b"f") == []
    assert give(directory, b"d", kind="dir", st_mode=0o1751) == []
    for name, mode in (("f", 0o640), ("d", 0o1751)):
        st = (tmp_path / name).stat()
        assert stat.S_IMODE(st.st_mode) == mode
        assert abs(st.st_mtime_ns - TIME) < 1000  # some file systems keep microseconds


def test_an_open_directory_gets_its_own(tmp_path: Path, directory: int) -> None:
    assert give(directory, None, kind="dir", st_mode=0o711) == []
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711


def test_a_link_gets_times_and_what_it_points_to_is_not_touched(tmp_path: Path, directory: int) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    outside.chmod(0o604)
    before = outside.stat()
    (tmp_path / "link").symlink_to("outside")
    assert give(directory, b"link", kind="symlink", st_mode=0o777, xattrs=()) == []
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert abs((tmp_path / "link").lstat().st_mtime_ns - TIME) < 1000


@pytest.mark.parametrize("kind", ["file", "dir", "fifo", "chardev"])
def test_a_link_that_took_the_place_of_an_entry_is_not_followed(tmp_path: Path, directory: int, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700) if kind == "dir" else outside.write_bytes(b"")
    outside.chmod(0o700)
    mtime = outside.stat().st_mtime_ns
    (tmp_path / "name").symlink_to("outside")
    assert give(directory, b"name", kind=kind, st_mode=0o777) != []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700
    assert outside.stat().st_mtime_ns == mtime


def test_a_pipe_is_not_opened(tmp_path: Path, directory: int) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert give(directory, b"pipe", kind="fifo", st_mode=0o622) == []
    assert stat.S_IMODE((tmp_path / "pipe").stat().st_mode) == 0o622


def test_numbers_that_no_system_has_are_problems_not_crashes(tmp_path: Path, directory: int) -> None:
    (tmp_path / "f").write_bytes(b"")
    problems = give(directory, b"f", uid=2**64, gid=2**64, mtime_ns=2**100, owner=True)
    assert [problem.split()[0] for problem in problems] == ["owner", "times"]
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_a_missing_entry_is_a_problem(directory: int) -> None:
    for kind in ("file", "dir", "symlink", "fifo"):
        assert give(directory, b"none", kind=kind)


def test_own_set_id_bits_survive(tmp_path: Path, directory: int) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert give(directory, b"f", st_mode=0o6755) == []
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o6755


def test_set_id_bits_are_withheld_from_another_owner(tmp_path: Path, directory: int) -> None:
    (tmp_path / "f").write_bytes(b"")
    problems = give(directory, b"f", st_mode=0o6755, uid=12345, gid=54321, owner=False)
    assert len(problems) == 1 and "withheld" in problems[0]
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o755


@root_only
def test_root_restores_owner_and_set_id_bits(tmp_path: Path, directory: int) -> None:
    (tmp_path / "f").write_bytes(b"")
    (tmp_path / "l").symlink_to("nowhere")
    assert give(directory, b"f", st_mode=0o6755, uid=12345, gid=54321) == []
    assert give(directory, b"l", kind="symlink", uid=12345, gid=54321) == []
    for name in ("f", "l"):
        st = (tmp_path / name).lstat()
        assert (st.st_uid, st.st_gid) == (12345, 54321)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o6755


@user_only
def test_a_user_hears_of_the_owner_only_when_it_was_asked_for(tmp_path: Path, directory: int) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert give(directory, b"f", uid=0, gid=0) == []
    assert "owner" in give(directory, b"f", uid=0, gid=0, owner=True)[0]


def test_attributes_become_exactly_the_saved_ones_even_on_a_read_only_file(tmp_path: Path, directory: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"")
    need_xattrs(path)
    os.setxattr(path, "user.old", b"1")
    wanted = ((b"user.kept", b"a\0b"), (b"user.\xff", b""))
    assert give(directory, b"f", st_mode=0o400, xattrs=wanted) == []
    assert sorted(read_xattrs(os.fsencode(path))) == sorted(wanted)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert give(directory, b"f", st_mode=0o400, xattrs=None) == []
    assert sorted(read_xattrs(os.fsencode(path))) == sorted(wanted)


def test_reading_attributes_by_descriptor_and_by_path_agree(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"")
    need_xattrs(path)
    assert read_xattrs(os.fsencode(path)) == ()
    os.setxattr(path, "user.b", b"2")
    os.setxattr(path, "user.a", b"1")
    (tmp_path / "l").symlink_to("f")
    with path.open("rb") as file:
        assert read_xattrs(file.fileno()) == read_xattrs(os.fsencode(path))
    assert [os.fsencode(name) for name in os.listxattr(path)] == [name for name, _ in read_xattrs(os.fsencode(path))]
    assert read_xattrs(os.fsencode(tmp_path / "l")) == ()
    assert len(read_xattrs(os.fsencode(tmp_path / "l"), follow=True)) == 2


def test_attributes_that_cannot_be_set_are_told_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"")
    need_xattrs(path)
    problems = write_xattrs(os.fsencode(path), ((b"nonsense", b""), (b"user.x\0y", b""), (b"user.good", b"1")))
    assert len(problems) == 2
    assert read_xattrs(os.fsencode(path)) == ((b"user.good", b"1"),)


@pytest.mark.skipif(sys.platform != "linux", reason="access control lists are attributes on Linux only")
def test_an_access_control_list_comes_back_and_an_inherited_one_goes(tmp_path: Path) -> None:
    # version 2; user::rwx, user:1234:r--, group::r-x, mask::rwx, other::--- (linux/posix_acl_xattr.h)
    entries = ((1, 7, 0xFFFFFFFF), (2, 4, 1234), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
    acl = b"\2\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, rights, who in entries
    )
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", acl)
    except OSError:
        pytest.skip("no access control lists on this file system")
    (tmp_path / "plain").write_bytes(b"")
    (tmp_path / "listed").write_bytes(b"")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert give(directory, b"plain", st_mode=0o640) == []
        assert give(directory, b"listed", st_mode=0o670, xattrs=((b"system.posix_acl_access", acl),)) == []
    finally:
        os.close(directory)
    assert read_xattrs(os.fsencode(tmp_path / "plain")) == ()
    assert dict(read_xattrs(os.fsencode(tmp_path / "listed")))[b"system.posix_acl_access"] != b""
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "listed").stat().st_mode) == 0o670
