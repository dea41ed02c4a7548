"""Entries, names of users, impossible file names, sparse writing."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.files.entry import UNKNOWN_SIZE, Entry, format_bits, kind_of
from holdfast.files.names import Names
from holdfast.files.safepath import check_name, split
from holdfast.files.sparse import PAGE, write_at, write_sparse
from holdfast.kernel.errors import Corrupt


def test_an_entry_stands_for_the_stat_it_was_made_from(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    found = (tmp_path / "f").lstat()
    entry = Entry.from_stat(b"d/f", found, user="ann")
    assert (entry.name, entry.kind, entry.user) == (b"f", "file", "ann")
    fields = "st_mode st_size st_mtime_ns st_atime_ns st_ctime_ns st_uid st_gid st_ino st_dev st_nlink st_rdev"
    assert all(getattr(entry, name) == getattr(found, name) for name in fields.split())


def test_kinds_and_type_bits_are_inverse() -> None:
    for kind in ("file", "dir", "symlink", "dev", "chardev", "fifo", "socket"):
        assert kind_of(format_bits(kind) | 0o7777) == kind
    assert kind_of(0o150644) == "irregular"
    assert format_bits("nonsense") == 0


def test_a_stream_is_a_private_file_of_unknown_size() -> None:
    entry = Entry.stream(b"dump.sql", now_ns=5, uid=1)
    assert stat.S_ISREG(entry.st_mode) and stat.S_IMODE(entry.st_mode) == 0o600
    assert (entry.kind, entry.st_size, entry.st_mtime_ns) == ("stream", UNKNOWN_SIZE, 5)


def test_names_are_found_both_ways_and_never_raise() -> None:
    names = Names()
    assert names.uid(names.user(0)) == 0
    assert names.gid(names.group(0)) == 0
    for number in (-5, 2**31 + 7, 2**70):
        assert names.user(number) == names.group(number) == ""
    for name in ("", "no such user anywhere", "a\0b", "\udcff"):
        assert names.uid(name) is None and names.gid(name) is None


@pytest.mark.parametrize("name", [b"", b".", b"..", b"/", b"a/b", b"a\0", b"x" * 256, b"../../etc/passwd"])
def test_impossible_names_are_refused(name: bytes) -> None:
    with pytest.raises(Corrupt) as caught:
        check_name(name)
    assert caught.value.hint


@pytest.mark.parametrize("name", [b"x" * 255, b"\xff\xfe", b"...", b" ", b"a\nb", b"-rf", b"\\"])
def test_odd_but_possible_names_are_taken(name: bytes) -> None:
    check_name(name)


def test_paths_are_relative_and_without_detours() -> None:
    assert split(b"") == []
    assert split(b"a/b") == [b"a", b"b"]
    for path in (b"/a", b"a/", b"a//b", b"a/../b", b"./a"):
        with pytest.raises(Corrupt):
            split(path)


runs = st.lists(
    st.tuples(st.sampled_from([b"\0", b"x", b"ab\0"]), st.sampled_from([1, 7, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])),
    max_size=5,
)


@given(pieces=runs, offset=st.sampled_from([0, 1, PAGE - 1, PAGE, 5 * PAGE + 17]))
def test_sparse_writing_reads_back_the_same(pieces: list[tuple[bytes, int]], offset: int) -> None:
    data = b"".join((unit * count)[:count] for unit, count in pieces)
    with tempfile.TemporaryFile() as file:
        fd = file.fileno()
        write_at(fd, 0, b"y" * offset)
        written = write_sparse(fd, offset, memoryview(data))
        os.ftruncate(fd, offset + len(data))
        assert os.pread(fd, offset + len(data) + 1, 0) == b"y" * offset + data
        assert written <= len(data)


def test_only_whole_aligned_zero_pages_are_left_out(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    try:
        assert write_sparse(fd, 0, bytes(8 * PAGE)) == 0
        assert write_sparse(fd, 10, bytes(2 * PAGE)) == PAGE  # one whole page lies in between
        assert write_sparse(fd, 0, b"x" * PAGE + bytes(PAGE) + b"x") == PAGE + 1
        assert write_sparse(fd, 0, b"") == 0
    finally:
        os.close(fd)
