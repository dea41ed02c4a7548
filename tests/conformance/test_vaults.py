"""What every kind of vault promises: the same backups, listings, contents, restores and checks, whatever it stores."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests import archivekit, mirrorkit, versionedkit

from holdfast.files.rules import Rules
from holdfast.files.xattrs import write_xattrs
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Invalid, NotFound
from holdfast.kernel.events import Event, Fact, ignore
from holdfast.vaults.base import (
    BackupOptions,
    BackupSummary,
    CheckOptions,
    Outcome,
    Overwrite,
    RestoreOptions,
    SnapshotInfo,
    Subset,
    Vault,
)
from holdfast.vaults.diff import Change, compare
from holdfast.vaults.disk import Disk, pairs_with_disk, same_as_disk
from holdfast.vaults.items import Browsable

ALL = Rules.compile([], defaults=False)


@dataclass(frozen=True)
class Kind:
    """One kind of vault. ``browse(vault)`` gives what can be looked into; ``content_of`` finds the stored file that
    holds a source's content, to damage it."""

    name: str
    make: Callable[[Path], Vault]
    open: Callable[[Path], Vault]
    browse: Callable[[Any], contextlib.AbstractContextManager[Browsable]]
    content_of: Callable[[Path, Path], Path]


@contextlib.contextmanager
def _browse_archive(vault: Any) -> Iterator[Browsable]:
    from holdfast.vaults.archive.browser import ArchiveBrowser

    with vault.reading():
        yield ArchiveBrowser(vault.repository)


def _largest_pack(place: Path, _source: Path) -> Path:
    return max((path for path in (place / "data").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def _open_mirror(place: Path) -> Vault:
    from holdfast.vaults.mirror import open_mirror

    return open_mirror(os.fsencode(place))


def _browse_mirror(vault: Any) -> contextlib.AbstractContextManager[Browsable]:
    browser: contextlib.AbstractContextManager[Browsable] = vault.reading()
    return browser


def _copy_in_mirror(place: Path, source: Path) -> Path:
    return Path(f"{place}{source}")


KINDS = (
    Kind("archive", archivekit.new_vault, archivekit.open_vault, _browse_archive, _largest_pack),
    Kind("mirror", mirrorkit.new_mirror, _open_mirror, _browse_mirror, _copy_in_mirror),
    Kind("versioned", versionedkit.new_vault, versionedkit.open_vault, _browse_mirror, _copy_in_mirror),
)
"""A static list, so that no kind drops out unseen. A new kind is one line here."""


class Case:
    """A vault of one kind, and a folder worth saving."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.place = folder / "vault"
        self.source = folder / "source"
        self.target = folder / "target"
        self.source.mkdir()
        self.vault = kind.make(self.place)

    def save(self, *paths: Path, emit: Callable[[Event], None] = ignore, **changes: object) -> BackupSummary:
        named = tuple(os.fsencode(path) for path in paths or (self.source,))
        options = BackupOptions(paths=named, rules=ALL, hostname="here", username="tester", workers=0)
        return self.vault.backup(replace(options, **changes), emit=emit, cancel=Cancel())

    @property
    def latest(self) -> SnapshotInfo:
        return self.vault.snapshots()[-1]

    def restore(self, *, path: Path | None = None, **changes: object) -> Any:
        options = RestoreOptions(
            target=os.fsencode(self.target), path=os.fsencode(path or self.source), workers=0, owner=None
        )
        return self.vault.restore(self.latest, replace(options, **changes), emit=ignore, cancel=Cancel())

    def check(self) -> Any:
        return self.vault.check(CheckOptions(read_data=Subset(), workers=0), emit=ignore, cancel=Cancel())


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(request.param, tmp_path)


def fill(folder: Path) -> None:
    """Something of every kind that a normal user can make."""
    (folder / "letters" / "old").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("first\n")
    (folder / "letters" / "ada").write_text("Dear Ada\n")
    (folder / "letters" / "old" / "bob").write_bytes(os.urandom(200_000))
    (folder / "nothing").touch()
    (folder / "link").symlink_to("notes.txt")
    (folder / "dangling").symlink_to("nowhere/at all")
    os.link(folder / "notes.txt", folder / "letters" / "same notes")
    os.mkfifo(folder / "pipe", 0o640)
    (folder / "notes.txt").chmod(0o640)
    (folder / "letters").chmod(0o750)
    with open(folder / "holes", "wb") as file:
        file.truncate(3_000_000)
        file.seek(1_000_000)
        file.write(b"x")
    for path in (folder / "letters" / "ada", folder / "letters" / "old", folder / "empty"):
        os.utime(path, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))


def names_below(root: bytes) -> list[bytes]:
    found = []
    for folder, dirs, files in os.walk(root):
        found += [os.path.join(folder, name) for name in (*dirs, *files)]
    return sorted(found)


def test_what_was_saved_comes_back_in_every_detail(case: Case) -> None:
    fill(case.source)
    summary = case.save()
    assert summary.outcome is Outcome.OK
    assert (summary.files_new, summary.files_changed, summary.files_unmodified) == (6, 0, 0)
    assert summary.total_files == 6 and summary.snapshot is not None
    done = case.restore(verify=True)
    assert done.outcome is Outcome.OK, done.problems
    assert mirrorkit.tree(case.target) == mirrorkit.tree(case.source)
    assert (case.target / "holes").stat().st_blocks * 512 < 1_000_000
    assert case.check().outcome is Outcome.OK


def test_many_small_files_with_odd_ones_among_them(case: Case) -> None:
    for number in range(3):
        folder = case.source / f"folder {number}"
        folder.mkdir()
        for each in range(30):
            (folder / f"file {each:02}").write_bytes(b"%d %d\n" % (number, each) * each * each)
            os.utime(folder / f"file {each:02}", ns=(0, 1_400_000_000_000_000_000 + each))
        (folder / "read only").write_text("do not touch\n")
        (folder / "read only").chmod(0o440)
        (folder / "with set-id").write_text("#!/bin/sh\n")
        (folder / "with set-id").chmod(0o2750)
        write_xattrs(os.fsencode(folder / "file 07"), ((b"user.colour", b"red"),))
        (folder / "small hole").write_bytes(b"x" * 4096 + bytes(9000) + b"y")
        os.link(folder / "file 03", folder / "zz link")
    summary = case.save()
    assert (summary.outcome, summary.files_new) == (Outcome.OK, 3 * 34), summary.problems
    for number in range(3):
        (case.source / f"folder {number}" / "file 11").write_text("changed\n")
        (case.source / f"folder {number}" / "file 12").unlink()
    summary = case.save()
    assert (summary.outcome, summary.files_changed, summary.files_new) == (Outcome.OK, 3, 0), summary.problems
    done = case.restore()
    assert done.outcome is Outcome.OK, done.problems
    assert mirrorkit.tree(case.target) == mirrorkit.tree(case.source)
    assert case.check().outcome is Outcome.OK


def test_nothing_changed_means_nothing_is_new(case: Case) -> None:
    fill(case.source)
    first = case.save()
    for _ in range(2):
        again = case.save()
        assert (again.files_new, again.files_changed, again.files_unmodified) == (0, 0, 6)
        assert (again.dirs_new, again.data_added) == (0, 0)
        assert again.total_files == first.total_files and again.total_bytes == first.total_bytes
    assert again.parent is not None


def test_changes_of_every_kind_arrive(case: Case) -> None:
    fill(case.source)
    case.save()
    source = case.source
    (source / "notes.txt").write_text("second version\n")
    (source / "letters" / "ada").unlink()
    (source / "letters" / "ada").mkdir()
    (source / "letters" / "ada" / "inside").write_text("a file became a folder\n")
    (source / "letters" / "old" / "bob").unlink()
    (source / "letters" / "old").rmdir()
    (source / "letters" / "old").write_text("a folder became a file\n")
    (source / "nothing").write_text("now something\n")
    os.utime(source / "nothing", ns=(0, 1_000_000_000))  # older than what it replaces
    (source / "link").unlink()
    (source / "link").symlink_to("letters")
    (source / "dangling").unlink()
    (source / "pipe").chmod(0o600)
    summary = case.save()
    assert summary.outcome is Outcome.OK
    case.restore()
    assert mirrorkit.tree(case.target) == mirrorkit.tree(source)


def test_the_same_size_and_time_but_other_content_is_found_when_asked(case: Case) -> None:
    file = case.source / "ledger"
    file.write_text("1000")
    os.utime(file, ns=(0, 1_000_000_000))
    case.save()
    file.write_text("9999")
    os.utime(file, ns=(0, 1_000_000_000))
    case.save(force=True)
    case.restore()
    assert (case.target / "ledger").read_text() == "9999"


def test_names_that_are_not_text(case: Case) -> None:
    names = [b"caf\xe9", b"new\nline", b" ", b"-rf", b"\x01", b"a\\b", b"x" * 255]
    for name in names:
        with open(os.path.join(os.fsencode(case.source), name), "wb") as file:
            file.write(name)
    case.save()
    case.restore()
    assert sorted(os.listdir(os.fsencode(case.target))) == sorted(names)
    assert mirrorkit.tree(case.target) == mirrorkit.tree(case.source)


def test_a_dry_run_counts_the_same_and_changes_nothing(case: Case) -> None:
    fill(case.source)
    before = names_below(os.fsencode(case.place))
    planned = case.save(dry_run=True)
    assert planned.snapshot is None and names_below(os.fsencode(case.place)) == before
    done = case.save()
    for name in ("files_new", "files_changed", "files_unmodified", "files_removed", "total_files", "total_bytes"):
        assert getattr(planned, name) == getattr(done, name), name
    (case.source / "notes.txt").write_text("changed\n")
    (case.source / "letters" / "ada").unlink()
    stored = mirrorkit.tree(case.place)
    planned = case.save(dry_run=True)
    assert mirrorkit.tree(case.place) == stored
    done = case.save()
    for name in ("files_new", "files_changed", "files_unmodified", "files_removed", "total_files", "total_bytes"):
        assert getattr(planned, name) == getattr(done, name), name


def test_rules_leave_out_and_are_told(case: Case) -> None:
    fill(case.source)
    told: list[object] = []

    def emit(event: Event) -> None:
        if isinstance(event, Fact) and event.kind == "item.excluded":
            told.append(event.data["path"])

    (case.source / ".holdfastignore").write_text("old/\n")
    summary = case.save(rules=Rules.compile(["*.txt"], defaults=False), verbose=True, emit=emit)
    assert summary.excluded == 2
    assert sorted(told) == [os.fsencode(case.source / "letters" / "old"), os.fsencode(case.source / "notes.txt")]
    case.restore()
    assert not (case.target / "notes.txt").exists() and not (case.target / "letters" / "old").exists()
    assert (case.target / "letters" / "same notes").read_text() == "first\n"


def test_one_snapshot_describes_the_run(case: Case) -> None:
    fill(case.source)
    assert not case.vault.snapshots()
    summary = case.save(note="before the holidays", tags=("a", "b"))
    snapshot = case.latest
    assert snapshot.id == summary.snapshot
    assert (snapshot.hostname, snapshot.username, snapshot.note) == ("here", "tester", "before the holidays")
    assert snapshot.paths == (str(case.source),) and set(snapshot.tags) == {"a", "b"}
    assert snapshot.summary is not None and snapshot.summary["total_files_processed"] == 6


def test_it_can_be_looked_into(case: Case) -> None:
    fill(case.source)
    case.save()
    top = os.fsencode(case.source)
    with case.kind.browse(case.vault) as browser:
        children = browser.children(browser.find(case.latest, top))
        assert [item.name for item in children] == sorted(map(os.fsencode, os.listdir(case.source)))
        item = browser.find(case.latest, top + b"/letters/old/bob")
        content = (case.source / "letters" / "old" / "bob").read_bytes()
        assert b"".join(browser.content(item)) == content and item.size == len(content)
        entry = browser.find(case.latest, top + b"/notes.txt").entry
        st = (case.source / "notes.txt").lstat()
        assert (entry.st_mode, entry.st_mtime_ns, entry.st_uid) == (st.st_mode, st.st_mtime_ns, st.st_uid)
        assert browser.find(case.latest, top + b"/dangling").entry.linktarget == b"nowhere/at all"
        with pytest.raises(NotFound):
            browser.find(case.latest, top + b"/not there")
        with pytest.raises(Invalid):
            list(browser.content(browser.find(case.latest, top)))
        same = browser.find(case.latest, top + b"/letters/same notes")
        assert browser.same(browser.find(case.latest, top + b"/notes.txt"), same)


def test_it_can_be_compared_with_the_disk(case: Case) -> None:
    fill(case.source)
    case.save()
    (case.source / "notes.txt").write_text("other\n")
    (case.source / "letters" / "ada").unlink()
    (case.source / "added").touch()
    (case.source / "nothing").chmod(0o600)

    def fail(_path: bytes, error: OSError) -> None:
        raise error

    disk = Disk(ALL, fail)
    found = {}
    with case.kind.browse(case.vault) as browser:
        for old, new in pairs_with_disk(browser, case.latest, os.fsencode(case.source), disk):
            for difference in compare(browser, old, disk, new, same_as_disk(browser)):
                found[difference.path[len(os.fsencode(case.source)) + 1 :]] = difference.change
    assert found == {
        b"added": Change.ADDED,
        b"letters/ada": Change.REMOVED,
        b"letters/same notes": Change.MODIFIED,
        b"notes.txt": Change.MODIFIED,
        b"nothing": Change.METADATA,
    }


def test_a_part_comes_back_alone(case: Case) -> None:
    fill(case.source)
    case.save()
    done = case.restore(path=case.source / "letters" / "ada")
    assert done.files_restored == 1 and os.listdir(case.target) == ["ada"]
    with pytest.raises(NotFound):
        case.restore(path=case.source / "no such thing")


def test_a_restore_in_place_repairs_and_deletes(case: Case) -> None:
    fill(case.source)
    case.save()
    before = mirrorkit.tree(case.source)
    (case.source / "notes.txt").write_text("spoilt\n")
    (case.source / "letters" / "ada").unlink()
    (case.source / "intruder").write_text("x")
    done = case.restore(in_place=True, delete=True, target=b"")
    assert done.files_deleted == 1
    after = mirrorkit.tree(case.source)
    assert after == before


def test_a_restore_leaves_files_that_are_there_if_asked(case: Case) -> None:
    fill(case.source)
    case.save()
    case.target.mkdir()
    (case.target / "notes.txt").write_text("mine\n")
    done = case.restore(overwrite=Overwrite.NEVER)
    assert (case.target / "notes.txt").read_text() == "mine\n" and done.files_skipped == 1
    case.restore(overwrite=Overwrite.ALWAYS)
    assert (case.target / "notes.txt").read_text() == "first\n"


def test_a_restore_of_some_files_only(case: Case) -> None:
    fill(case.source)
    case.save()
    some = Rules.compile(["ada"], defaults=False, ignore_file=b"", cachedir_tag=False)
    case.restore(include=some)
    assert names_below(os.fsencode(case.target)) == [
        os.fsencode(case.target / "letters"),
        os.fsencode(case.target / "letters" / "ada"),
    ]


def test_a_dry_restore_writes_nothing(case: Case) -> None:
    fill(case.source)
    case.save()
    done = case.restore(dry_run=True)
    assert not case.target.exists()
    assert ("restore", os.fsencode(case.target / "letters" / "ada")) in done.actions


def test_damage_is_found_named_and_never_restored(case: Case) -> None:
    (case.source / "big").write_bytes(os.urandom(300_000))
    (case.source / "small").write_text("small\n")
    case.save()
    stored = case.kind.content_of(case.place, case.source / "big")
    times = stored.stat()
    stored.chmod(0o600)
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 1
    stored.write_bytes(data)
    os.utime(stored, ns=(times.st_atime_ns, times.st_mtime_ns))
    report = case.check()
    assert report.outcome is Outcome.FAILED
    assert any("big" in file for damage in report.damage for file in damage.files)
    done = case.restore()
    assert done.outcome is Outcome.PARTIAL
    assert not (case.target / "big").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_what_cannot_be_read_is_a_problem_and_the_rest_is_saved(case: Case) -> None:
    fill(case.source)
    (case.source / "letters" / "ada").chmod(0)
    summary = case.save()
    assert summary.outcome is Outcome.PARTIAL
    assert [problem.path for problem in summary.problems] == [os.fsencode(case.source / "letters" / "ada")]
    assert summary.total_files == 5


def test_a_missing_path_is_a_problem_an_optional_one_is_not(case: Case) -> None:
    fill(case.source)
    missing = case.source.parent / "missing"
    assert case.save(case.source, missing).outcome is Outcome.PARTIAL
    assert case.save(case.source, missing, optional=frozenset({os.fsencode(missing)})).outcome is Outcome.OK
    with pytest.raises(NotFound):
        case.save(missing)


def test_a_cancelled_run_ends_and_the_next_one_finishes(case: Case) -> None:
    fill(case.source)
    cancel = Cancel()
    cancel.cancel("enough")
    options = BackupOptions(paths=(os.fsencode(case.source),), rules=ALL, hostname="here", workers=0)
    with pytest.raises(Cancelled):
        case.vault.backup(options, emit=ignore, cancel=cancel)
    assert case.save().outcome is Outcome.OK
    case.restore()
    assert mirrorkit.tree(case.target) == mirrorkit.tree(case.source)


def test_it_can_be_opened_again(case: Case) -> None:
    fill(case.source)
    case.save()
    again = case.kind.open(case.place)
    assert again.kind == case.kind.name and [s.id for s in again.snapshots()] == [case.latest.id]


def test_single_files_and_several_sources_stand_side_by_side(case: Case) -> None:
    fill(case.source)
    other = case.source.parent / "other"
    other.mkdir()
    (other / "notes.txt").write_text("of the other\n")
    lone = case.source.parent / "lone file"
    lone.write_text("alone\n")
    summary = case.save(case.source, other, lone)
    assert summary.total_files == 8
    with case.kind.browse(case.vault) as browser:
        for path, text in ((case.source / "notes.txt", b"first\n"), (other / "notes.txt", b"of the other\n"),
                           (lone, b"alone\n")):  # fmt: skip
            assert b"".join(browser.content(browser.find(case.latest, os.fsencode(path)))) == text
    assert stat.S_ISREG(lone.lstat().st_mode)
    again = case.save(case.source, other, lone)
    assert (again.files_new, again.files_changed, again.files_unmodified) == (0, 0, 8)
