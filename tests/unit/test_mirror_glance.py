"""Mirrors that look ahead by threads: nothing that changed on either side is passed over."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG

import pytest
from tests.mirrorkit import assert_mirrors, copy_of, new_mirror, save

from holdfast.files.rules import Rules
from holdfast.files.small import has_extension
from holdfast.format.accelerated import hashes_here
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import Cancelled
from holdfast.kernel.events import ignore
from holdfast.sources.directory import entries, listing_key, survey
from holdfast.vaults.base import BackupSummary, Outcome
from holdfast.vaults.mirror import MirrorVault, glance, here, open_mirror

pytestmark = pytest.mark.skipif(
    not (has_extension() and hashes_here()), reason="the C extension or SHA instructions are missing"
)
FOLDERS = 40  # more than are looked at ahead


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Folders in folders, all of it older than what counts as fresh."""
    top = tmp_path / "source"
    for number in range(FOLDERS):
        folder = top / f"{number % 5}" / f"folder {number}" / "deep"
        folder.mkdir(parents=True)
        (folder / "file").write_text(f"content {number:03}\n")
        (folder.parent / "beside").write_text("b")
    (top / "empty").mkdir()
    for above, folders, files in os.walk(top):
        for name in (*folders, *files):
            os.utime(os.path.join(above, name), (1, 1))
    return top


@pytest.fixture
def settled(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> MirrorVault:
    """A mirror that knows all of the source: nothing in it was fresh."""
    monkeypatch.setattr("holdfast.vaults.mirror.walk._RACE_NS", -1_000_000_000_000)
    vault = new_mirror(tmp_path / "m")
    save(vault, source, workers=2)
    return vault


def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The directories of the mirror that are looked into one entry after the other, from now on."""
    found: list[str] = []
    look = here.Here.look

    def noted(self: here.Here, path: bytes) -> object:
        found.append(os.fsdecode(path).rpartition("source")[2])
        return look(self, path)

    monkeypatch.setattr(here.Here, "look", noted)
    return found


def counts(summary: BackupSummary) -> tuple[int, int, int, int]:
    return summary.files_new, summary.files_changed, summary.files_removed, summary.files_unmodified


def test_a_run_without_a_change_looks_at_no_entry_by_itself(
    settled: MirrorVault, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "SECONDS", 3600.0)  # on however busy a machine
    found = listed(monkeypatch)
    summary = save(settled, source, workers=2)
    assert found == []
    assert counts(summary) == (0, 0, 0, 2 * FOLDERS)
    assert summary.dirs_unmodified == 5 + 2 * FOLDERS + 1
    assert summary.total_bytes == FOLDERS * (len("content 000\n") + 1)
    assert_mirrors(settled, source)


CHANGES: dict[str, tuple[Callable[[Path, Path], object], tuple[int, int, int, int]]] = {
    "content": (lambda deep, _: (deep / "file").write_text("CONTENT 007\n"), (0, 1, 0, -1)),
    "new": (lambda deep, _: (deep / "another").write_text("new"), (1, 0, 0, 0)),
    "removed": (lambda deep, _: (deep / "file").unlink(), (0, 0, 1, -1)),
    "mode": (lambda deep, _: (deep / "file").chmod(0o600), (0, 1, 0, -1)),
    "copy changed": (lambda _, copy: (copy / "file").write_text("damaged"), (0, 1, 0, -1)),
    "copy gone": (lambda _, copy: (copy / "file").unlink(), (1, 0, 0, -1)),
    "copy added": (lambda _, copy: (copy / "stray").write_text("stray"), (0, 0, 1, 0)),
    "link": (lambda deep, _: os.link(deep / "file", deep / "other name"), (1, 0, 0, 0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_found(settled: MirrorVault, source: Path, change: str) -> None:
    act, (new, changed, removed, unmodified) = CHANGES[change]
    deep = source / "2" / "folder 7" / "deep"
    act(deep, copy_of(settled, deep))
    summary = save(settled, source, workers=2)
    assert counts(summary) == (new, changed, removed, 2 * FOLDERS + unmodified)
    assert_mirrors(settled, source)
    assert counts(save(settled, source, workers=2))[:3] == (0, 0, 0)


@pytest.mark.parametrize(
    "rules",
    [
        Rules.compile(["file"], defaults=False),
        Rules.compile(["deep/"], defaults=False),
        Rules.compile([], defaults=False, larger_than=5),
    ],
    ids=["files", "folders", "size"],
)
def test_rules_that_came_after_the_last_run_are_heeded(settled: MirrorVault, source: Path, rules: Rules) -> None:
    summary = save(settled, source, rules=rules, workers=2)
    assert counts(summary) == (0, 0, FOLDERS, FOLDERS)
    assert not list(copy_of(settled, source).rglob("file"))
    assert len(list(copy_of(settled, source).rglob("beside"))) == FOLDERS


def test_an_ignore_file_counts_on(settled: MirrorVault, source: Path) -> None:
    (source / "1" / ".holdfastignore").write_text("beside\n")
    for _ in range(2):
        save(settled, source, workers=2)
        assert not list(copy_of(settled, source / "1").rglob("beside"))
        assert len(list(copy_of(settled, source).rglob("beside"))) == FOLDERS - FOLDERS // 5
    save(settled, source, rules=Rules.compile([], defaults=False, ignore_file=b""), workers=2)
    assert_mirrors(settled, source)


def test_a_glance_that_is_too_old_is_not_believed(
    settled: MirrorVault, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(SystemClock):
        seconds = 0.0

        def monotonic(self) -> float:
            self.seconds += glance.SECONDS + 0.1
            return self.seconds

    vault = open_mirror(settled.root, clock=Slow())
    found = listed(monkeypatch)
    assert counts(save(vault, source, workers=2)) == (0, 0, 0, 2 * FOLDERS)
    assert len(set(found)) == 7 + 2 * FOLDERS  # every one, the source itself among them
    assert_mirrors(vault, source)


def test_a_stopped_run_leaves_no_thread(settled: MirrorVault, source: Path) -> None:
    cancel = Cancel()
    (source / "3" / "folder 8" / "beside").write_text("changed")

    def stop(_event: object) -> None:
        cancel.cancel()

    before = threading.active_count()
    with pytest.raises(Cancelled):
        save(settled, source, emit=stop, cancel=cancel, workers=2)
    assert threading.active_count() == before
    assert save(settled, source, emit=ignore, workers=2).outcome is Outcome.OK
    assert_mirrors(settled, source)


def test_a_survey_hashes_as_a_listing_of_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b", "a", "\udcff raw", "ä", "a b"):
        Path(name).write_text(name.encode(errors="surrogateescape").hex())
    os.symlink("nowhere", "link")
    os.mkfifo("pipe")
    os.mkdir("folder")
    os.utime("a", ns=(0, -1_500_000_001))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        fd = os.open(".", os.O_RDONLY)
        try:
            seen = survey(fd, b"salt")
            assert seen is not None and seen.key == listing_key(entries(fd)[0], b"salt")
            assert (seen.regular, seen.size) == (5, sum(st.st_size for _, st in entries(fd)[0] if S_ISREG(st.st_mode)))
            assert seen.key != blake2b(b"", key=b"salt", digest_size=16).digest()
            assert seen.files == sorted([b"b", b"a", b"\xff raw", "ä".encode(), b"a b", b"link", b"pipe"])
            st = os.stat("folder")
            assert seen.folders == [(b"folder", st.st_dev, st.st_ino)] and not seen.linked
            os.link("a", "c")
            again = survey(fd, b"salt")
            assert again is not None and again.linked
        finally:
            os.close(fd)
