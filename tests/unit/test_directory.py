"""Listing directories: the C extension and Python must say the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.archivekit import ALL, new_vault, save, tree_of

from holdfast.files.rules import Rules
from holdfast.sources import directory
from holdfast.sources.directory import Lister, open_directory, read_small

FIELDS = (
    "st_mode", "st_uid", "st_gid", "st_nlink", "st_ino", "st_dev", "st_rdev", "st_size", "st_mtime_ns", "st_ctime_ns",
)  # fmt: skip


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


@pytest.fixture
def without_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no compiler was."""
    monkeypatch.setattr(directory, "_native", None)


needs_extension = pytest.mark.skipif(directory._native is None, reason="the C extension was not built")


def names_in(fd: int) -> list[bytes]:
    return sorted(os.fsencode(name) for name in os.listdir(fd))


@needs_extension
def test_stat_is_what_python_says(opened: int) -> None:
    names = names_in(opened)
    for name, found in zip(names, directory._look(opened, names), strict=True):
        expected = os.lstat(name, dir_fd=opened)
        assert [getattr(found, field) for field in FIELDS] == [getattr(expected, field) for field in FIELDS]


@needs_extension
def test_more_names_than_one_batch_and_vanished_ones(tmp_path: Path) -> None:
    place = tmp_path / "many"
    place.mkdir()
    for number in range(600):
        (place / f"{number}").touch()
    fd = os.open(place, os.O_RDONLY)
    names = [b"%d" % number for number in range(700)]
    found = directory._look(fd, names)
    os.close(fd)
    assert [st is None for st in found] == [number >= 600 for number in range(700)]


@needs_extension
def test_keys_are_the_same_with_and_without(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lister = Lister(ALL, b"salt", frozenset())
    scope = ALL.root(b"/somewhere")
    _, native = lister.look(opened, scope, b"", b"/place")
    monkeypatch.setattr(directory, "_native", None)
    _, plain = lister.look(opened, scope, b"", b"/place")
    assert native.key == plain.key
    assert [item.name for item in native.items] == [item.name for item in plain.items]


@needs_extension
def test_times_beyond_the_extension_are_asked_of_python(monkeypatch: pytest.MonkeyPatch, opened: int) -> None:
    class FarFuture:
        """Stands for a file system with times after the year 2262."""

        @staticmethod
        def look(_fd: int, names: list[bytes]) -> list[object]:
            return [NotImplemented for _ in names]

    monkeypatch.setattr(directory, "_native", FarFuture)
    names = names_in(opened)
    found = directory._look(opened, names)
    assert [st.st_ino for st in found if st] == [os.lstat(name, dir_fd=opened).st_ino for name in names]


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
    monkeypatch.setattr(directory, "_native", None)
    save(second, folder)
    assert tree_of(first, folder) == tree_of(second, folder)
    assert save(second, folder).files_unmodified == 4


@pytest.mark.usefixtures("without_extension")
def test_rules_hold_without_the_extension(opened: int) -> None:
    rules = Rules.compile(["file", "!mode"], defaults=False)
    _, listing = Lister(rules, b"salt", frozenset()).look(opened, rules.root(b"/somewhere"), b"", b"/somewhere")
    assert b"file" not in [item.name for item in listing.items]
    assert listing.excluded == 1
