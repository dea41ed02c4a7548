"""Directories that are read once for several backups: when they are given again, when they are not, and how truly."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from stat import S_ISDIR

import pytest
from tests import archivekit, mirrorkit, versionedkit

from holdfast.files.rules import Rules
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.events import ignore
from holdfast.sources import directory, onescan, records
from holdfast.sources.directory import Item, Lister, walk
from holdfast.sources.onescan import OneScan
from holdfast.vaults.base import BackupOptions, RestoreOptions, Vault

RULES = Rules.compile(["*.tmp"], defaults=True)
HOUR_NS = 3_600_000_000_000


class Clock(SystemClock):
    """The machine's clock, ahead by what a test says. An hour from the start, so that nothing is too fresh."""

    def __init__(self) -> None:
        self.ahead_ns = HOUR_NS

    def now_ns(self) -> int:
        return time.time_ns() + self.ahead_ns

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_ns / 1e9


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "inner" / "deep").mkdir(parents=True)
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "lost").touch()
    (folder / "a").write_text("a\n")
    (folder / "b.tmp").write_text("left out\n")
    (folder / "inner" / "c").write_text("c\n")
    (folder / "inner" / ".holdfastignore").write_text("secret\n")
    (folder / "inner" / "deep" / "secret").write_text("left out by a file above\n")
    (folder / "inner" / "deep" / "d").write_bytes(os.urandom(10_000))
    os.link(folder / "a", folder / "inner" / "deep" / "link")
    (folder / "inner" / "cache").mkdir()
    (folder / "inner" / "cache" / "CACHEDIR.TAG").write_bytes(b"Signature: 8a477f597d28d172789f06886806bc55")
    (folder / "inner" / "cache" / "cached").touch()
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The paths of directories that were read by :mod:`directory`, in order."""
    seen: list[bytes] = []
    entries = directory.entries

    def counting(fd: int, packed: bytes | None = None) -> tuple[list[Item], bytes | None]:
        seen.append(os.readlink(b"/proc/self/fd/%d" % fd))
        return entries(fd, packed)

    monkeypatch.setattr(directory, "entries", counting)
    return seen


@pytest.fixture(params=["extension", "python"])
def packing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With the C extension, and as where no compiler was."""
    if request.param == "python":
        monkeypatch.setattr(records, "_native", None)
    elif records._native is None:
        pytest.skip("the C extension was not built")
    return


def looked(lister: Lister, source: Path) -> list[tuple[object, ...]]:
    """Everything that a lister says of a tree; of directories neither size nor links, which records do not have."""
    fields = ("st_mode", "st_uid", "st_gid", "st_ino", "st_dev", "st_rdev", "st_mtime_ns")
    more = ("st_nlink", "st_size")
    return [
        (path, scope.path, listing.key, listing.excluded, listing.reasons,
         [(item.name, *(getattr(item.stat, name) for name in (fields if S_ISDIR(item.stat.st_mode) else fields + more)))
          for item in listing.items])
        for path, scope, listing in walk(lister, [os.fsencode(source)])
    ]  # fmt: skip


@pytest.mark.usefixtures("packing")
@pytest.mark.parametrize("explain", [False, True])
def test_the_second_time_says_the_same_and_reads_nothing(
    source: Path, clock: Clock, reads: list[bytes], explain: bool
) -> None:
    st = (source / "inner" / "deep").stat()
    own = frozenset(((st.st_dev, st.st_ino),))  # as if the second vault lay there
    expected = looked(Lister(RULES, b"one", frozenset(), explain=explain), source)
    others = looked(Lister(RULES, b"two", own, explain=explain), source)
    reads.clear()
    with OneScan(2, None, clock) as scan:
        scan.turn()
        assert looked(Lister(RULES, b"one", frozenset(), explain=explain, scan=scan), source) == expected
        assert len(reads) == len(expected) == 4
        scan.turn()
        assert looked(Lister(RULES, b"two", own, explain=explain, scan=scan), source) == others
    assert len(reads) == len(expected) and len(others) == len(expected) - 1


def test_a_lone_vault_may_take_folders_at_a_glance(source: Path, clock: Clock) -> None:
    """A plan makes a scan also where it has one vault; nothing is kept then, and nothing is slower for it."""
    for backups, allowed in ((1, [True]), (2, [False, False])):
        with OneScan(backups, None, clock) as scan:
            for may in allowed:
                scan.turn()
                assert Lister(RULES, b"one", frozenset(), scan=scan).may_take_all is may
                looked(Lister(RULES, b"one", frozenset(), scan=scan), source)


def test_what_came_or_went_is_seen(source: Path, clock: Clock, reads: list[bytes]) -> None:
    with OneScan(2, None, clock) as scan:
        lister = Lister(RULES, b"", frozenset(), scan=scan)
        scan.turn()
        looked(lister, source)
        reads.clear()
        (source / "inner" / "new").touch()
        os.rename(source / "inner" / "deep" / "d", source / "inner" / "deep" / "e")
        scan.turn()
        top = os.fsencode(source)
        found = {path: {item.name for item in listing.items} for path, _, listing in walk(lister, [top])}
        assert found[top + b"/inner"] == {b".holdfastignore", b"c", b"cache", b"deep", b"new"}
        assert found[top + b"/inner/deep"] == {b"e", b"link"}
        assert reads == [top + b"/inner", top + b"/inner/deep"]


def test_nothing_is_believed_that_is_older_than_a_minute(source: Path, clock: Clock, reads: list[bytes]) -> None:
    with OneScan(3, None, clock) as scan:
        lister = Lister(RULES, b"", frozenset(), scan=scan)
        for age, read in ((0, 4), (int(onescan.SECONDS) + 1, 4), (1, 0)):
            clock.ahead_ns += age * 1_000_000_000
            reads.clear()
            scan.turn()
            looked(lister, source)
            assert len(reads) == read


def test_a_directory_that_changed_just_now_may_do_so_again_unseen(
    source: Path, clock: Clock, reads: list[bytes]
) -> None:
    clock.ahead_ns = (source / "inner").stat().st_ctime_ns - time.time_ns()
    with OneScan(2, None, clock) as scan:
        lister = Lister(RULES, b"", frozenset(), scan=scan)
        scan.turn()
        os.utime(source / "inner")
        looked(lister, source)
        reads.clear()
        scan.turn()
        looked(lister, source)
        assert os.fsencode(source / "inner") in reads


def test_a_full_disk_means_reading_again(
    source: Path, clock: Clock, reads: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """``os`` with a disk that takes ten bytes more."""

        def __getattr__(self, name: str) -> object:
            return (lambda fd, data: os.write(fd, data[:10])) if name == "write" else getattr(os, name)

    monkeypatch.setattr(onescan, "os", Full())
    with OneScan(2, None, clock) as scan:
        lister = Lister(RULES, b"", frozenset(), scan=scan)
        scan.turn()
        expected = looked(lister, source)
        scan.turn()
        assert looked(lister, source) == expected and len(reads) == 8


def test_processes_share_it(source: Path, clock: Clock, reads: list[bytes]) -> None:
    with OneScan(2, None, clock) as scan:
        lister = Lister(RULES, b"", frozenset(), scan=scan)
        scan.turn()
        child = os.fork()
        if not child:
            looked(lister, source)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        scan.turn()
        looked(lister, source)
        assert not reads


def vaults(place: Path) -> list[Vault]:
    return [
        archivekit.new_vault(place / "archive"),
        mirrorkit.new_mirror(place / "mirror"),
        versionedkit.new_vault(place / "versioned"),
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_file_that_changed_between_two_vaults_is_saved_as_it_is(
    tmp_path: Path, source: Path, clock: Clock, reads: list[bytes], order: tuple[int, ...]
) -> None:
    made = vaults(tmp_path)
    options = BackupOptions(paths=(os.fsencode(source),), rules=RULES, hostname="here", username="tester", workers=0)
    times = iter(range(2_000_000_000, 3_000_000_000))
    for turn in range(2):
        reads.clear()
        with OneScan(3, None, clock) as scan:
            for number in order:
                scan.turn()
                summary = made[number].backup(replace(options, scan=scan), emit=ignore, cancel=Cancel())
                assert not summary.problems and not summary.warnings
                target = tmp_path / f"target-{turn}-{number}"
                restoring = RestoreOptions(target=os.fsencode(target), path=os.fsencode(source), workers=0, owner=None)
                snapshot = made[number].snapshots()[-1]
                done = made[number].restore(snapshot, restoring, emit=ignore, cancel=Cancel())
                assert not done.problems
                found, now = target / "inner" / "c", source / "inner" / "c"
                assert found.read_bytes() == now.read_bytes()
                assert found.stat().st_mtime_ns == now.stat().st_mtime_ns
                now.write_bytes(os.urandom(100 + number))  # in place: its directory does not change
                os.utime(now, (0, next(times)))
        mine = [path for path in reads if path.startswith(os.fsencode(source))]
        assert len(mine) == len(set(mine)) == 4
