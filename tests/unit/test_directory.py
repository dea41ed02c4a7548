"""Listing directories: the C extension and Python must say the same."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.archivekit import ALL, new_vault, save, tree_of

from holdfast.files.rules import Rules
from holdfast.format import node
from holdfast.sources import directory, records
from holdfast.sources.directory import Lister, entries, open_directory, read_small

FIELDS = (
    "st_mode", "st_uid", "st_gid", "st_nlink", "st_ino", "st_dev", "st_rdev", "st_size", "st_mtime_ns", "st_ctime_ns",
)  # fmt: skip
NOT_OF_FOLDERS = ("st_nlink", "st_size")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One of each kind, odd names and odd times."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_bytes(b"content")
    (place / "empty").touch()
    (place / "dir").mkdir()
    (place / "link").symlink_to("nowhere")
    os.mkfifo(place / "pipe")
    with open(os.fsencode(place) + b"/not utf-8 \xff\n", "wb") as file:
        file.write(b"x" * 300_000)
    (place / "mode").touch(mode=0o4711)
    os.utime(place / "file", ns=(0, -1))
    os.utime(place / "mode", ns=(0, 2**62))
    return place


@pytest.fixture
def opened(folder: Path) -> Iterator[int]:
    """The folder as a descriptor."""
    fd = open_directory(os.fsencode(folder))
    yield fd
    os.close(fd)


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (directory, records, node):
        monkeypatch.setattr(module, "_native", None)


@pytest.fixture
def without_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no compiler was."""
    without(monkeypatch)


needs_extension = pytest.mark.skipif(directory._native is None, reason="the C extension was not built")


def listed(fd: int) -> list[tuple[object, ...]]:
    """What entries() says, but for the fields that it does not promise of directories."""
    return [
        (name, *(getattr(st, field) for field in FIELDS if not stat.S_ISDIR(st.st_mode) or field not in NOT_OF_FOLDERS))
        for name, st in entries(fd)[0]
    ]


def asked(fd: int) -> list[tuple[object, ...]]:
    found = [(name, os.lstat(name, dir_fd=fd)) for name in sorted(map(os.fsencode, os.listdir(fd)))]
    return [
        (name, *(getattr(st, field) for field in FIELDS if not stat.S_ISDIR(st.st_mode) or field not in NOT_OF_FOLDERS))
        for name, st in found
        if not stat.S_ISSOCK(st.st_mode)
    ]


@pytest.mark.parametrize("native", [True, False])
def test_entries_are_what_python_says(folder: Path, opened: int, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        without(monkeypatch)
    elif directory._native is None:
        pytest.skip("the C extension was not built")
    monkeypatch.chdir(folder)
    for number in range(600):
        (folder / f"{number}").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert len(os.listdir(opened)) == 608
        assert listed(opened) == asked(opened)
        assert len(entries(opened)[0]) == 607


@pytest.mark.parametrize("native", [True, False])
def test_records_there_and_back(opened: int, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found, packed = entries(opened)
    assert packed is None or packed == records.pack(found)
    if not native:
        without(monkeypatch)
    packed = records.pack(found)
    assert packed is not None and records.pack(records.unpack(packed)) == packed
    assert [name for name, _ in records.unpack(packed)] == [name for name, _ in found]
    with pytest.raises(ValueError, match="cut off"):
        records.unpack(packed + b"x")


@needs_extension
def test_keys_are_the_same_with_and_without(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lister = Lister(ALL, b"salt", frozenset())
    scope = ALL.root(b"/somewhere")
    _, native = lister.look(opened, scope, b"", b"/place")
    without(monkeypatch)
    _, plain = lister.look(opened, scope, b"", b"/place")
    assert native.key == plain.key
    assert [item.name for item in native.items] == [item.name for item in plain.items]


def test_times_that_no_record_holds(tmp_path: Path) -> None:
    (tmp_path / "far").touch()
    try:
        os.utime(tmp_path / "far", (0, 20_000_000_000))
        assert (tmp_path / "far").stat().st_mtime_ns > 2**63
    except (OSError, AssertionError, OverflowError):
        pytest.skip("this file system has no times after the year 2262")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        found, packed = entries(fd)
        assert packed is None and found[0].stat.st_mtime_ns == 20_000_000_000 * 10**9
        before = directory.listing_key(found, b"")
        os.utime(tmp_path / "far", (0, 20_000_000_001))
        assert directory.listing_key(entries(fd)[0], b"") != before
    finally:
        os.close(fd)


@needs_extension
def test_small_files_are_read_whole_or_not_at_all(opened: int, folder: Path) -> None:
    data, after, has_xattrs = read_small(opened, b"file", 7) or (b"", None, True)
    assert (data, has_xattrs) == (b"content", False)
    assert after is not None and stat.S_ISREG(after.st_mode)
    assert (read_small(opened, b"empty", 0) or (None,))[0] == b""
    assert len((read_small(opened, b"not utf-8 \xff\n", 300_000) or (b"",))[0]) == 300_000
    assert read_small(opened, b"file", 3) is None  # it is longer than was said
    assert (read_small(opened, b"file", 3000) or (b"",))[0] == b"content"
    with pytest.raises(FileNotFoundError):
        read_small(opened, b"nothing", 1)
    with pytest.raises(OSError, match="symbolic links"):
        read_small(opened, b"link", 1)
    with pytest.raises(IsADirectoryError):
        read_small(opened, b"dir", 1)
    with pytest.raises(ValueError, match="NUL"):
        read_small(opened, b"a\0b", 1)


def test_attributes_are_noticed(folder: Path, opened: int) -> None:
    if directory._native is None or not hasattr(os, "setxattr"):
        pytest.skip("nothing to compare")
    try:
        os.setxattr(folder / "file", b"user.test", b"value")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    found = read_small(opened, b"file", 7)
    assert found is not None and found[2]


@needs_extension
def test_a_backup_makes_the_same_tree_with_and_without(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = new_vault(tmp_path / "one"), new_vault(tmp_path / "two")
    second.repository.config = first.repository.config
    save(first, folder)
    without(monkeypatch)
    save(second, folder)
    assert tree_of(first, folder) == tree_of(second, folder)
    assert save(second, folder).files_unmodified == 4


@pytest.mark.usefixtures("without_extension")
def test_rules_hold_without_the_extension(opened: int) -> None:
    rules = Rules.compile(["file", "!mode"], defaults=False)
    _, listing = Lister(rules, b"salt", frozenset()).look(opened, rules.root(b"/somewhere"), b"", b"/somewhere")
    assert b"file" not in [item.name for item in listing.items]
    assert listing.excluded == 1
