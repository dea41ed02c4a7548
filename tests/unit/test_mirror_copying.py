"""Copying one file's content: every way gives the same bytes and the same hash."""

from __future__ import annotations

import errno
import fcntl
import os
from hashlib import sha256
from pathlib import Path

import pytest

from holdfast.vaults.mirror.copying import CLONE_FROM, Copier
from holdfast.vaults.mirror.records import NO_HASH, Record, decode, encode, stamp, stamp_here, unstamp

CONTENT = os.urandom(CLONE_FROM) * 40 + b"the end"


def copied(copier: Copier, source: Path, target: Path) -> tuple[bytes, int]:
    reading = os.open(source, os.O_RDONLY)
    writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        return copier.copy(reading, writing, os.fstat(reading), os.fstat(writing).st_dev)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


def test_the_kernel_or_we_copy(tmp_path: Path, source: Path) -> None:
    assert copied(Copier(), source, tmp_path / "t") == (sha256(CONTENT).digest(), len(CONTENT))
    assert (tmp_path / "t").read_bytes() == CONTENT


def test_without_help_of_the_kernel(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(*words: object) -> int:
        tried.append(words)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    copier = Copier()
    for number in range(3):
        assert copied(copier, source, tmp_path / f"t{number}")[0] == sha256(CONTENT).digest()
        assert (tmp_path / f"t{number}").read_bytes() == CONTENT
    assert len(tried) == 1  # what cannot be is not tried again


def test_shared_blocks_are_hashed_as_they_are_in_the_copy(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def share(target: int, _request: int, reading: int) -> int:
        os.write(target, os.pread(reading, len(CONTENT), 0).replace(b"the end", b"changed"))
        return 0

    monkeypatch.setattr(fcntl, "ioctl", share)
    digest, size = copied(Copier(), source, tmp_path / "t")
    assert digest == sha256((tmp_path / "t").read_bytes()).digest() and size == len(CONTENT)
    assert digest != sha256(CONTENT).digest()


def test_holes_at_both_ends(tmp_path: Path) -> None:
    with open(tmp_path / "s", "wb") as file:
        file.seek(5_000_000)
        file.write(b"middle")
        file.truncate(9_000_000)
    digest, size = copied(Copier(), tmp_path / "s", tmp_path / "t")
    assert size == 9_000_000 and digest == sha256((tmp_path / "s").read_bytes()).digest()
    assert (tmp_path / "t").read_bytes() == (tmp_path / "s").read_bytes()
    assert (tmp_path / "t").stat().st_blocks * 512 < 1_000_000


def test_records_come_back_as_they_were(tmp_path: Path, source: Path) -> None:
    st, folder = source.lstat(), tmp_path.lstat()
    records = {
        b"source": Record(stamp(st), stamp_here(st), sha256(CONTENT).digest()),
        b"caf\xe9\n": Record(stamp(folder), stamp_here(folder), NO_HASH),
        b"x" * 255: Record(stamp(st), stamp(st), NO_HASH),
    }
    assert decode(encode(records)) == records
    found = unstamp(records[b"source"].source)
    assert (found.st_size, found.st_mtime_ns, found.st_ino, found.kind) == (
        *(st.st_size, st.st_mtime_ns, st.st_ino),
        "file",
    )
    for cut in range(1, len(encode(records)), 37):
        try:
            assert decode(encode(records)[:cut]).items() <= records.items()
        except ValueError:
            continue
