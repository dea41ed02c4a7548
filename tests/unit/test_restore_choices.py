"""What a restore leaves alone, replaces and removes, and where it puts things: every option, as its user means it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.archivekit import new_vault, open_vault, save
from tests.restorekit import Forge, bring_back, facts, forge, look

from holdfast.files.rules import Rules
from holdfast.format.node import Node
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Invalid, NotFound
from holdfast.kernel.events import Event, Fact
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import Outcome, Overwrite

OLD, NEW = 1_000_000_000_000_000_000, 1_500_000_000_000_000_000


def rules(*lines: str) -> Rules:
    return Rules.compile(lines, defaults=False, ignore_file=b"", cachedir_tag=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Some files of a known time, a folder of two, a link."""
    root = tmp_path / "source"
    (root / "docs/old").mkdir(parents=True)
    for name in ("a.txt", "b.log", "docs/c.txt", "docs/old/d.txt"):
        (root / name).write_bytes(name.encode())
        os.utime(root / name, ns=(NEW, NEW))
    (root / "link").symlink_to("a.txt")
    return root


@pytest.fixture
def vault(tmp_path: Path, source: Path) -> ArchiveVault:
    """It, saved."""
    made = new_vault(tmp_path / "vault")
    save(made, source)
    return made


def contents(root: Path) -> dict[str, bytes]:
    """Every regular file below."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def all_of(source: Path) -> dict[str, bytes]:
    return {name: name.encode() for name in ("a.txt", "b.log", "docs/c.txt", "docs/old/d.txt")}


# -- where things go -----------------------------------------------------------------------------------------------


def test_without_a_path_the_whole_way_from_the_root_is_made(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    bring_back(vault, tmp_path / "back")
    assert look(tmp_path / "back" / str(source)[1:]) == look(source)


def test_a_folder_goes_right_into_the_target(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    done = bring_back(vault, tmp_path / "back", source / "docs")
    assert contents(tmp_path / "back") == {"c.txt": b"docs/c.txt", "old/d.txt": b"docs/old/d.txt"}
    assert look(tmp_path / "back") == look(source / "docs")
    assert (done.files_restored, done.dirs, done.bytes_restored) == (2, 2, 24)


def test_a_file_or_a_link_goes_into_the_target_under_its_name(
    tmp_path: Path, source: Path, vault: ArchiveVault
) -> None:
    bring_back(vault, tmp_path / "back", source / "docs/c.txt")
    bring_back(vault, tmp_path / "back", source / "link")
    assert sorted(os.listdir(tmp_path / "back")) == ["c.txt", "link"]
    assert os.readlink(tmp_path / "back/link") == "a.txt"
    assert os.stat(tmp_path / "back/c.txt").st_mtime_ns == NEW


def test_what_is_not_there_is_told_with_the_nearest_folder(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    with pytest.raises(NotFound) as told:
        bring_back(vault, tmp_path / "back", source / "docs/nothing/here")
    assert f"{source}/docs" in told.value.hint
    assert not (tmp_path / "back").exists()


def test_in_place_puts_everything_back_where_it_was(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    before = look(source)
    (source / "a.txt").write_bytes(b"spoilt")
    (source / "docs/c.txt").unlink()
    os.chmod(source / "docs/old", 0o711)
    above = os.stat(tmp_path)
    assert bring_back(vault, b"", in_place=True).outcome is Outcome.OK
    assert look(source) == before
    assert os.stat(tmp_path).st_mtime_ns == above.st_mtime_ns, "what was not saved is not touched"


def test_in_place_of_a_part_touches_only_that(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    (source / "a.txt").write_bytes(b"mine")
    (source / "docs/c.txt").write_bytes(b"spoilt")
    (source / "docs/old/stranger").write_bytes(b"?")
    (source / "stranger").write_bytes(b"?")
    bring_back(vault, b"", source / "docs", in_place=True, delete=True)
    assert (source / "a.txt").read_bytes() == b"mine" and (source / "stranger").exists()
    assert (source / "docs/c.txt").read_bytes() == b"docs/c.txt" and not (source / "docs/old/stranger").exists()
    for name in ("docs/old/d.txt", "docs/old"):
        (source / name).unlink() if name.endswith("txt") else (source / name).rmdir()
    bring_back(vault, b"", source / "docs/old/d.txt", in_place=True)
    assert (source / "docs/old/d.txt").read_bytes() == b"docs/old/d.txt"


def test_in_place_needs_absolute_paths(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = new_vault(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    save(vault, Path("source"))
    with pytest.raises(Invalid, match="relative"):
        bring_back(vault, b"", in_place=True)
    bring_back(vault, tmp_path / "back")
    assert contents(tmp_path / "back/source") == all_of(source)


# -- what is there already -----------------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder with an older, a newer, an equal-looking and a strange file where the snapshot has some."""
    root = tmp_path / "target"
    (root / "docs/old").mkdir(parents=True)
    for name, content, time in (
        ("a.txt", b"older", OLD),
        ("b.log", b"newer than that", NEW + 1),
        ("docs/c.txt", b"SAME/c.txt", NEW),
        ("stranger", b"?", NEW),
    ):
        (root / name).write_bytes(content)
        os.utime(root / name, ns=(time, time))
    os.chmod(root / "docs/c.txt", 0o600)
    (root / "link").symlink_to("elsewhere")
    return root


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("transient", [False, True])
@pytest.mark.parametrize(
    ("overwrite", "kept"),
    [
        (Overwrite.ALWAYS, {}),
        (Overwrite.IF_CHANGED, {"docs/c.txt": b"SAME/c.txt"}),
        (Overwrite.IF_NEWER, {"docs/c.txt": b"SAME/c.txt", "b.log": b"newer than that"}),
        (Overwrite.NEVER, {"docs/c.txt": b"SAME/c.txt", "b.log": b"newer than that", "a.txt": b"older"}),
    ],
)
def test_overwriting(
    target: Path, source: Path, vault: ArchiveVault, overwrite: Overwrite, kept: dict[str, bytes], workers: int,
    transient: bool,
) -> None:  # fmt: skip
    done = bring_back(vault, target, source, overwrite=overwrite, workers=workers, transient=transient)
    assert done.outcome is Outcome.OK
    assert contents(target) == all_of(source) | {"stranger": b"?"} | kept
    links_kept = overwrite is Overwrite.NEVER
    assert os.readlink(target / "link") == ("elsewhere" if links_kept else "a.txt")
    assert done.files_skipped == len(kept) + links_kept
    assert done.files_restored == 4 - len(kept)


def test_an_unchanged_file_still_gets_its_metadata_back(target: Path, source: Path, vault: ArchiveVault) -> None:
    bring_back(vault, target, source, overwrite=Overwrite.IF_CHANGED)
    assert os.stat(target / "docs/c.txt").st_mode == os.stat(source / "docs/c.txt").st_mode


def test_never_leaves_the_metadata_of_what_exists(target: Path, source: Path, vault: ArchiveVault) -> None:
    os.chmod(target / "docs", 0o711)
    bring_back(vault, target, source, overwrite=Overwrite.NEVER)
    assert os.stat(target / "docs").st_mode & 0o777 == 0o711
    assert os.stat(target / "docs/c.txt").st_mode & 0o777 == 0o600


def test_other_kinds_in_the_way_are_replaced(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    target = tmp_path / "target"
    (target / "a.txt").mkdir(parents=True)  # an empty folder where a file belongs
    (target / "b.log").symlink_to(tmp_path / "outside")
    (target / "docs").write_bytes(b"a file where a folder belongs")
    (tmp_path / "outside").write_bytes(b"untouched")
    assert bring_back(vault, target, source).outcome is Outcome.OK
    assert look(target).keys() == look(source).keys() and contents(target) == all_of(source)
    assert (tmp_path / "outside").read_bytes() == b"untouched"


def test_a_link_in_place_of_a_folder_is_replaced_and_not_followed(
    tmp_path: Path, source: Path, vault: ArchiveVault
) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "docs").symlink_to(outside)
    assert bring_back(vault, target, source).outcome is Outcome.OK
    assert contents(target) == all_of(source) and not list(outside.iterdir())
    (target / "docs" / "old" / "d.txt").unlink()


def test_a_full_folder_in_the_way_is_a_problem_unless_deleting(
    tmp_path: Path, source: Path, vault: ArchiveVault
) -> None:
    target = tmp_path / "target"
    (target / "a.txt").mkdir(parents=True)
    (target / "a.txt/precious").write_bytes(b"!")
    done = bring_back(vault, target, source)
    assert done.outcome is Outcome.PARTIAL
    assert [problem.path for problem in done.problems] == [os.fsencode(source / "a.txt")]
    assert (target / "a.txt/precious").exists() and (target / "docs/c.txt").exists()
    assert bring_back(vault, target, source, delete=True).outcome is Outcome.OK
    assert contents(target) == all_of(source)


def test_hard_links_to_what_is_there_already(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").write_bytes(b"content")
    os.utime(source / "one", ns=(NEW, NEW))
    os.link(source / "one", source / "two")
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    bring_back(vault, tmp_path / "back", source)
    (tmp_path / "back/two").unlink()
    bring_back(vault, tmp_path / "back", source, overwrite=Overwrite.IF_CHANGED)
    assert os.path.samefile(tmp_path / "back/one", tmp_path / "back/two")
    (tmp_path / "back/one").unlink()
    (tmp_path / "back/one").write_bytes(b"something else")
    (tmp_path / "back/two").unlink()
    bring_back(vault, tmp_path / "back", source, overwrite=Overwrite.NEVER)
    assert (tmp_path / "back/two").read_bytes() == b"content"
    bring_back(vault, tmp_path / "back", source)
    assert look(tmp_path / "back").keys() == look(source).keys()
    assert os.path.samefile(tmp_path / "back/one", tmp_path / "back/two")
    assert (tmp_path / "back/one").read_bytes() == b"content"


# -- deleting ------------------------------------------------------------------------------------------------------


def test_delete_removes_what_the_snapshot_does_not_hold(target: Path, source: Path, vault: ArchiveVault) -> None:
    (target / "docs/old/more").mkdir()
    (target / "docs/old/more/x").write_bytes(b"x")
    done = bring_back(vault, target, source, delete=True)
    assert look(target).keys() == look(source).keys() and contents(target) == all_of(source)
    assert done.files_deleted == 2


def test_delete_spares_what_is_excluded_or_not_included(target: Path, source: Path, vault: ArchiveVault) -> None:
    bring_back(vault, target, source, delete=True, exclude=rules("stranger", "docs/"))
    assert (target / "stranger").exists() and (target / "docs/c.txt").read_bytes() == b"SAME/c.txt"
    bring_back(vault, target, source, delete=True, include=rules("*.txt"))
    assert (target / "stranger").exists()


def test_delete_never_reaches_above_what_was_saved(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    (tmp_path / "neighbour").write_bytes(b"precious")
    (source / "stranger").write_bytes(b"?")
    bring_back(vault, b"", in_place=True, delete=True)
    assert (tmp_path / "neighbour").exists() and (tmp_path / "vault/config").exists()
    assert not (source / "stranger").exists()
    back = tmp_path / "back"
    (back / str(tmp_path)[1:]).mkdir(parents=True)
    (back / "top").write_bytes(b"precious")
    bring_back(vault, back, delete=True)
    bring_back(vault, back / str(tmp_path)[1:], tmp_path, delete=True)
    assert (back / "top").exists()


def test_delete_spares_the_vault(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"x")
    vault = new_vault(source / "deep" / "vault")
    save(vault, source)
    empty = forge(vault, lambda smith: [smith.folder(b"source")], str(source))
    done = bring_back(vault, source, b"source", snapshot=empty, delete=True)
    assert (source / "deep/vault/config").exists()
    assert not (source / "file").exists() and done.files_deleted == 1
    assert open_vault(source / "deep" / "vault").snapshots()


def test_delete_does_nothing_in_a_folder_whose_tree_is_damaged(tmp_path: Path) -> None:
    vault = new_vault(tmp_path / "vault")

    def make(smith: Forge) -> list[Node]:
        return [smith.folder(b"saved", smith.folder(b"lost", subtree=bytes(31) + b"x"), smith.file(b"good", b"good"))]

    snapshot = forge(vault, make, "/saved")
    target = tmp_path / "target"
    (target / "saved/lost").mkdir(parents=True)
    (target / "saved/lost/precious").write_bytes(b"!")
    (target / "saved/stranger").write_bytes(b"?")
    events: list[Event] = []
    done = bring_back(vault, target, snapshot=snapshot, delete=True, emit=events.append)
    assert done.outcome is Outcome.PARTIAL and [problem.path for problem in done.problems] == [b"/saved/lost"]
    assert len(facts(events, "damage.found")) == 1
    assert (target / "saved/lost/precious").exists() and not (target / "saved/stranger").exists()


# -- choosing ------------------------------------------------------------------------------------------------------


def test_exclude(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    bring_back(vault, tmp_path / "back", source, exclude=rules("*.log", "/docs/old/"))
    assert contents(tmp_path / "back") == {"a.txt": b"a.txt", "docs/c.txt": b"docs/c.txt"}
    assert not (tmp_path / "back/docs/old").exists()


def test_include_makes_only_the_folders_that_are_needed(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    (source / "void").mkdir()
    save(vault, source)
    bring_back(vault, tmp_path / "back", source, include=rules("c.txt", "old/"), exclude=rules("link"))
    assert contents(tmp_path / "back") == {"docs/c.txt": b"docs/c.txt", "docs/old/d.txt": b"docs/old/d.txt"}
    assert sorted(os.listdir(tmp_path / "back")) == ["docs"]
    assert os.stat(tmp_path / "back/docs").st_mtime_ns == os.stat(source / "docs").st_mtime_ns


def test_patterns_may_begin_with_the_path_in_the_snapshot(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    bring_back(vault, tmp_path / "back", include=rules(f"{source}/docs/"))
    assert contents(tmp_path / "back" / str(source)[1:]) == {
        "docs/c.txt": b"docs/c.txt",
        "docs/old/d.txt": b"docs/old/d.txt",
    }


# -- looking first -------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_everything_and_does_nothing(target: Path, source: Path, vault: ArchiveVault) -> None:
    (target / "docs/old").rmdir()
    before = look(target)
    done = bring_back(vault, target, source, dry_run=True, delete=True, overwrite=Overwrite.IF_NEWER)
    assert look(target) == before
    named = {(verb, str(Path(os.fsdecode(path)).relative_to(target))) for verb, path in done.actions}
    assert named >= {
        ("replace", "a.txt"), ("keep", "b.log"), ("keep", "docs/c.txt"), ("restore", "docs/old/d.txt"),
        ("folder", "docs/old"), ("delete", "stranger"),
    }  # fmt: skip
    really = bring_back(vault, target, source, delete=True, overwrite=Overwrite.IF_NEWER)
    for count in ("files_restored", "files_skipped", "files_deleted", "dirs", "links", "others", "bytes_restored"):
        assert getattr(done, count) == getattr(really, count), count


def test_a_dry_run_makes_no_target(tmp_path: Path, source: Path, vault: ArchiveVault) -> None:
    done = bring_back(vault, tmp_path / "back", source, dry_run=True)
    assert not (tmp_path / "back").exists() and done.files_restored == 4


def test_too_little_space_is_told_before_it_begins(tmp_path: Path) -> None:
    there = os.statvfs(tmp_path)
    blobs = there.f_bavail * there.f_frsize // 8_000_000 + 1
    if blobs > 200_000:
        pytest.skip("this disk has more than 1.6 TB free")
    vault = new_vault(tmp_path / "vault")

    def make(smith: Forge) -> list[Node]:
        return [smith.file(b"huge", content=(smith.blob(bytes(8_000_000)),) * blobs, size=blobs * 8_000_000)]

    events: list[Event] = []
    cancel = Cancel()

    def stop_when_warned(event: Event) -> None:
        events.append(event)
        if isinstance(event, Fact) and "free" in event.message:
            cancel.cancel("seen")

    with pytest.raises(Cancelled):
        bring_back(vault, tmp_path / "back", snapshot=forge(vault, make), emit=stop_when_warned, cancel=cancel)
    assert len(facts(events, "item.warning")) == 1
    assert not list((tmp_path / "back").iterdir())
