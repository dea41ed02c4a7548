"""Directories that a mirror has not seen yet: their files are copied by the batch, whatever else is among them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.mirrorkit import assert_mirrors, check, copy_of, new_mirror, save, told, tree

from holdfast.files import small
from holdfast.files.xattrs import write_xattrs
from holdfast.format.accelerated import hashes_here
from holdfast.sources.records import Seen, _pack
from holdfast.vaults.base import Outcome
from holdfast.vaults.mirror import hands, records
from holdfast.vaults.mirror.records import decode, rows

needs_sha = pytest.mark.skipif(
    not (small.has_extension() and hashes_here()), reason="the C extension or SHA instructions are missing"
)
needs_extension = pytest.mark.skipif(not small.has_extension(), reason="the C extension was not built")

Done = tuple[dict[bytes, tuple[bytes, bytes]], int]


def folder_of(tmp_path: Path, files: int = 150) -> Path:
    """More files than one batch takes, of which none changed a moment ago."""
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    for number in range(files):
        (source / f"file {number}").write_bytes(b"%d\n" % number * (number + 1))
        (source / "inner" / f"file {number}").write_bytes(b"")
    return source


def rest() -> None:
    """Until nothing counts as changed a moment ago."""
    time.sleep(0.05)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, change: object = None) -> Iterator[list[int]]:
    """How many files each batch made in one call; ``change(source descriptor)`` comes before each."""
    made: list[int] = []
    real = small.copy_listed

    def copy(source: int, target: int, packed: bytes, **words: object) -> Done:
        if callable(change):
            change(source)
        done, size = real(source, target, packed, **words)  # type: ignore[arg-type]
        made.append(len(done))
        return done, size

    monkeypatch.setattr(hands, "copy_listed", copy)
    yield made


@needs_sha
@pytest.mark.parametrize("protect", [False, True], ids=["open", "protected"])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_whatever_is_among_them_the_mirror_is_what_its_source_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protect: bool, umask: int
) -> None:
    source = folder_of(tmp_path)
    for mode in (0o777, 0o755, 0o660, 0o640, 0o604, 0o444, 0o400, 0o1644, 0o4755, 0o2755):
        path = source / f"mode {mode:o}"
        path.write_text("x")
        path.chmod(mode)
    (source / os.fsdecode(b"no UTF-8 \xff\n")).write_text("y")
    (source / ("long " + "n" * 250)).write_text("z")
    (source / "large").write_bytes(os.urandom(300_000))
    with (source / "sparse").open("wb") as file:
        file.truncate(40_000)
    os.link(source / "file 1", source / "second name")
    (source / "link").symlink_to("file 2")
    os.mkfifo(source / "pipe")
    (source / "marked").write_text("has attributes")
    write_xattrs(os.fsencode(source / "marked"), [(b"user.mark", b"1")])  # where the file system has them
    os.utime(source / "file 3", ns=(-5, -1_500_000_000))
    rest()
    vault = new_mirror(tmp_path / "m", protect=protect)
    before = os.umask(umask)
    try:
        with watched(monkeypatch) as made:
            summary = save(vault, source, workers=2)
    finally:
        os.umask(before)
    assert summary.outcome is Outcome.OK
    assert sum(made) > 290
    assert summary.files_new == 2 * 150 + 10 + 6
    assert_mirrors(vault, source)
    assert check(vault).outcome is Outcome.OK
    again = save(vault, source, workers=2)
    assert (again.files_unmodified, again.data_added) == (summary.files_new, 0)
    alone = new_mirror(tmp_path / "alone", protect=protect)
    other = save(alone, source, workers=0)
    for name in ("files_new", "dirs_new", "total_files", "total_bytes", "data_added", "data_added_packed"):
        assert getattr(other, name) == getattr(summary, name), name


@needs_sha
def test_a_file_that_changes_or_goes_after_the_listing_is_not_taken_for_what_was_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder_of(tmp_path)
    rest()

    def change(fd: int) -> None:
        if os.path.samestat(os.fstat(fd), source.stat()):
            (source / "file 7").write_text("other words, of another length")
            (source / "file 8").unlink(missing_ok=True)

    vault = new_mirror(tmp_path / "m")
    with watched(monkeypatch, change):
        first = save(vault, source, workers=2)
    assert [problem.path for problem in first.warnings] == [os.fsencode(source / "file 8")]
    assert (copy_of(vault, source) / "file 7").read_text() == "other words, of another length"
    rest()
    monkeypatch.undo()
    second = save(vault, source, workers=2)
    assert second.outcome is Outcome.OK
    assert_mirrors(vault, source)
    assert check(vault).outcome is Outcome.OK


@needs_sha
def test_each_new_file_is_told_where_they_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_of(tmp_path)
    rest()
    with watched(monkeypatch) as made:
        facts = told(new_mirror(tmp_path / "m"), source, workers=2, verbose=True)
    assert not made
    assert sum(word == "new" for word, _ in facts) == 302


@needs_sha
def test_what_cannot_be_made_is_told_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_of(tmp_path)
    rest()
    vault = new_mirror(tmp_path / "m")
    monkeypatch.setattr(hands, "copy_listed", lambda *_, **__: ({}, 0))
    summary = save(vault, source, workers=2)
    assert (summary.files_new, summary.outcome) == (300, Outcome.OK)
    assert_mirrors(vault, source)
    assert tree(copy_of(vault, source)) == tree(source)


NUMBER = st.integers(0, 2**32 - 1)
TIME = st.integers(-(9 * 10**18), 9 * 10**18)  # what a record can hold: the years 1685 to 2255
SEEN = st.builds(
    Seen, st.sampled_from([0o100644, 0o40755, 0o120777, 0o20600]), TIME, TIME, st.integers(0, 2**62),
    st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), NUMBER, NUMBER, st.integers(0, 4), st.integers(0, 2**64 - 1),
)  # fmt: skip
SIDES = st.tuples(st.binary(min_size=56, max_size=56), st.binary(min_size=32, max_size=32))


@needs_extension
@settings(deadline=None)
@given(
    there=st.dictionaries(st.binary(min_size=1, max_size=255), SEEN, max_size=8),
    known=st.dictionaries(st.binary(min_size=1, max_size=3), SIDES, max_size=8),
    shared=st.lists(SIDES, max_size=8),
)
def test_the_extension_remembers_what_python_does(
    there: dict[bytes, Seen], known: dict[bytes, tuple[bytes, bytes]], shared: list[tuple[bytes, bytes]]
) -> None:
    sides = {**known, **dict(zip(there, shared, strict=False))}
    packed = _pack(sorted(there.items()))
    assert packed is not None
    fast = rows(packed, sides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_native", None)
        slow = rows(packed, sides)
    assert fast == slow
    assert decode(fast[0]).keys() == there.keys() & sides.keys()


@needs_extension
@pytest.mark.parametrize(
    "side", [(b"", b""), (bytes(56),), (bytes(56), bytes(31)), (bytes(55), bytes(32)), None, (1, 2)]
)
def test_what_is_no_stamp_and_hash_is_refused(side: object) -> None:
    seen = Seen(0o100644, 1, 2, 3, 4, 5, 6, 7, 1, 0)
    packed = _pack([(b"name", seen)])
    assert packed is not None
    with pytest.raises((ValueError, TypeError)):
        rows(packed, {b"name": side})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="cut off"):
        rows(packed[:-1], {})
