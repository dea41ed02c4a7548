"""The mirror: copies only what changed, removes what vanished, keeps what it must, and tells exactly what it did."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.mirrorkit import assert_mirrors, check, copy_of, new_mirror, save, told, tree

from holdfast.files.rules import Rules
from holdfast.files.xattrs import write_xattrs
from holdfast.kernel.errors import Corrupt, Invalid, Locked, NotFound, Unsupported
from holdfast.vaults.base import Outcome
from holdfast.vaults.marker import FOLDER
from holdfast.vaults.mirror import make_mirror, open_mirror

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
AS_USER = pytest.mark.skipif(os.geteuid() == 0, reason="root is not bound by permissions")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "inner" / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "a").write_text("a\n")
    (folder / "b").write_text("b\n")
    (folder / "inner" / "c").write_text("c\n")
    (folder / "inner" / "deep" / "d").write_bytes(os.urandom(150_000))
    return folder


def settle() -> None:
    """Changes of the last moments are looked at twice; wait until they are not."""
    time.sleep(0.03)


# -- what is copied, and what is left alone --------------------------------------------------------------------------


def test_unchanged_files_are_not_touched(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    settle()
    save(vault, source)
    before = {path: path.lstat() for path in copy_of(vault, source).rglob("*")}
    summary = save(vault, source)
    assert summary.files_unmodified == 4 and summary.data_added == 0
    assert {path: path.lstat() for path in copy_of(vault, source).rglob("*")} == before


def test_only_the_changed_file_is_written_again(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    inodes = {path: path.lstat().st_ino for path in copy_of(vault, source).rglob("*")}
    (source / "inner" / "c").write_text("changed\n")
    summary = save(vault, source)
    assert (summary.files_changed, summary.files_unmodified, summary.data_added) == (1, 3, 8)
    after = {path: path.lstat().st_ino for path in copy_of(vault, source).rglob("*")}
    changed = copy_of(vault, source) / "inner" / "c"
    assert {path for path in after if after[path] != inodes[path]} == {changed}
    assert_mirrors(vault, source)


def test_permissions_and_times_alone_copy_no_content(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    inode = (copy_of(vault, source) / "a").stat().st_ino
    (source / "a").chmod(0o600)
    summary = save(vault, source)
    assert (summary.files_changed, summary.data_added) == (1, 0)
    assert (copy_of(vault, source) / "a").stat().st_ino == inode
    assert_mirrors(vault, source)


def test_what_vanished_or_became_ignored_is_removed_and_told(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    (source / "a").unlink()
    shutil.rmtree(source / "inner" / "deep")
    rules = Rules.compile(["b"], defaults=False)
    top = os.fsencode(source)
    expected = [("removed", top + b"/a"), ("removed", top + b"/b"), ("removed", top + b"/inner/deep"),
                ("removed", top + b"/inner/deep/d")]  # fmt: skip
    assert told(vault, source, rules=rules, dry_run=True) == expected
    summary = save(vault, source, rules=rules)
    assert summary.files_removed == 3
    assert sorted(os.listdir(copy_of(vault, source))) == ["empty", "inner"]
    assert check(vault).outcome is Outcome.OK


def test_an_empty_folder_and_an_excepted_template_stay(tmp_path: Path, source: Path) -> None:
    (source / ".env").write_text("secret")
    (source / ".env.template").write_text("KEY=")
    vault = new_mirror(tmp_path / "m")
    save(vault, source, rules=Rules.compile([".env*", "!.env.template"], defaults=False))
    assert (copy_of(vault, source) / "empty").is_dir()
    assert sorted(name for name in os.listdir(copy_of(vault, source)) if name.startswith(".")) == [".env.template"]


def test_dry_run_tells_one_line_for_everything_that_would_change(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    (source / "a").write_text("other\n")
    (source / "inner" / "new").touch()
    top = os.fsencode(source)
    planned = told(vault, source, dry_run=True)
    assert planned == [("changed", top + b"/a"), ("new", top + b"/inner/new")]
    assert [line for line in told(vault, source, verbose=True) if line[0] != "unchanged"] == planned


# -- the mirror was touched by somebody else -------------------------------------------------------------------------


def test_what_somebody_did_in_the_mirror_is_undone(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    settle()
    save(vault, source)
    copy = copy_of(vault, source)
    (copy / "a").unlink()
    (copy / "b").write_text("spoilt in place\n")
    (copy / "inner" / "c").chmod(0o777)
    (copy / "stranger").write_text("x")
    shutil.rmtree(copy / "empty")
    (copy / "inner" / "deep").chmod(0o700)
    summary = save(vault, source)
    assert summary.files_removed == 1 and summary.files_new == 1
    assert_mirrors(vault, source)


def test_bit_rot_is_found_named_and_healed(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    settle()
    save(vault, source)
    file = copy_of(vault, source) / "inner" / "deep" / "d"
    st, folder = file.stat(), file.parent.stat()
    with open(file, "r+b") as opened:
        opened.seek(70_000)
        opened.write(b"rot")
    os.utime(file, ns=(st.st_atime_ns, st.st_mtime_ns))
    os.utime(file.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))
    report = check(vault)
    assert report.outcome is Outcome.FAILED
    (damage,) = [damage for damage in report.damage if damage.severity == "error"]
    assert damage.kind == "file.corrupt" and damage.files == (f"{source}/inner/deep/d",)
    assert save(vault, source, force=True).files_changed == 1
    assert check(vault).outcome is Outcome.OK
    assert_mirrors(vault, source)


def test_check_names_what_is_missing_or_something_else(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    settle()
    save(vault, source)
    copy = copy_of(vault, source)
    (copy / "a").unlink()
    (copy / "b").unlink()
    (copy / "b").symlink_to("a")
    (copy / "stranger").touch()
    found = {damage.kind: damage.files for damage in check(vault).damage}
    assert found["file.missing"] == (f"{source}/a",) and found["file.type"] == (f"{source}/b",)
    assert found["file.unknown"] == (f"{source}/stranger",)


# -- the state index -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["lost", "garbage", "truncated"])
def test_without_its_index_the_next_backup_knows_again_and_copies_nothing(
    tmp_path: Path, source: Path, trouble: str
) -> None:
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    state = tmp_path / "m" / ".holdfast" / "state.db"
    if trouble == "lost":
        state.unlink()
    elif trouble == "garbage":
        state.write_bytes(os.urandom(5000))
    else:
        state.write_bytes(state.read_bytes()[:3000])
    summary = save(vault, source)
    assert (summary.files_new, summary.files_changed, summary.files_unmodified) == (0, 0, 4)
    assert summary.data_added == 0
    assert check(vault).outcome is Outcome.OK
    assert_mirrors(vault, source)


def test_the_index_is_rebuilt_from_the_mirror_alone(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    (tmp_path / "m" / ".holdfast" / "state.db").unlink()
    assert check(vault).damage[0].kind == "state.missing"
    assert check(vault, rebuild=True).outcome is Outcome.OK
    assert check(vault).files == 4
    assert save(vault, source).files_unmodified == 4
    assert_mirrors(vault, source)


def test_a_damaged_index_is_damage_to_who_reads(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    (tmp_path / "m" / ".holdfast" / "state.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(Corrupt, match="state index"):
        vault.snapshots()


# -- what must never be removed --------------------------------------------------------------------------------------


def test_a_missing_source_removes_nothing(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").touch()
    save(vault, source, other)
    before = tree(copy_of(vault, source))
    shutil.rmtree(source)
    assert save(vault, source, other).outcome is Outcome.PARTIAL
    assert tree(copy_of(vault, source)) == before
    with pytest.raises(NotFound, match="does not exist"):
        save(vault, source)
    assert tree(copy_of(vault, source)) == before


def test_a_source_that_is_suddenly_empty_removes_nothing_unless_told_to(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    before = tree(copy_of(vault, source))
    shutil.rmtree(source)
    source.mkdir()
    summary = save(vault, source)
    assert summary.outcome is Outcome.PARTIAL and "mounted" in summary.problems[0].message
    assert summary.files_removed == 0 and tree(copy_of(vault, source)) == before
    assert save(vault, source, allow_empty=True).files_removed == 4
    assert os.listdir(copy_of(vault, source)) == []


@AS_ROOT
def test_a_disk_that_is_not_mounted_inside_a_source_removes_nothing(tmp_path: Path, source: Path) -> None:
    mount = source / "disk"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", mount], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    vault = new_mirror(tmp_path / "m")
    try:
        (mount / "precious").write_text("x")
        save(vault, source)
    finally:
        subprocess.run(["umount", mount], check=True)
    summary = save(vault, source)
    assert summary.outcome is Outcome.PARTIAL and summary.problems[0].path == os.fsencode(mount)
    assert (copy_of(vault, mount) / "precious").read_text() == "x"


def test_other_sources_of_earlier_runs_stay(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").write_text("x")
    save(vault, source)
    save(vault, other)
    assert_mirrors(vault, source, other)
    assert vault.snapshots()[0].paths == tuple(sorted((str(other), str(source))))
    (inner := source / "inner").mkdir(exist_ok=True)
    save(vault, inner)
    assert_mirrors(vault, source, other)


@AS_USER
def test_what_cannot_be_read_stays_as_it_was(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    (source / "a").write_text("newer\n")
    (source / "a").chmod(0)
    (source / "inner").chmod(0)
    (source / "b").write_text("newer\n")
    try:
        summary = save(vault, source)
    finally:
        (source / "inner").chmod(0o755)
    assert summary.outcome is Outcome.PARTIAL
    assert {problem.path for problem in summary.problems} == {os.fsencode(source / "a"), os.fsencode(source / "inner")}
    copy = copy_of(vault, source)
    assert (copy / "a").read_text() == "a\n" and (copy / "b").read_text() == "newer\n"
    assert (copy / "inner" / "c").read_text() == "c\n"
    (source / "a").chmod(0o600)
    assert save(vault, source).outcome is Outcome.OK
    assert_mirrors(vault, source)


# -- odd things ------------------------------------------------------------------------------------------------------


def test_hard_links_stay_links_in_every_order_of_change(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    os.link(source / "inner" / "c", source / "z")
    os.link(source / "inner" / "c", source / "empty" / "c too")
    save(vault, source)
    assert_mirrors(vault, source)
    settle()
    save(vault, source)
    assert save(vault, source).files_unmodified == 6
    (source / "z").write_text("written through one name\n")
    save(vault, source)
    assert_mirrors(vault, source)
    (source / "inner" / "c").unlink()
    (source / "inner" / "c").write_text("a file of its own now\n")
    save(vault, source)
    assert_mirrors(vault, source)
    (source / "a").unlink()
    os.link(source / "z", source / "a")
    save(vault, source)
    assert_mirrors(vault, source)


def test_attributes_of_files_and_folders(tmp_path: Path, source: Path) -> None:
    if write_xattrs(os.fsencode(source / "a"), ((b"user.colour", b"red"),)):
        pytest.skip("this file system has no user attributes")
    write_xattrs(os.fsencode(source / "inner"), ((b"user.mood", b"\x00good"),))
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    assert_mirrors(vault, source)
    write_xattrs(os.fsencode(source / "a"), ())
    write_xattrs(os.fsencode(source / "inner"), ((b"user.mood", b"better"),))
    save(vault, source)
    assert_mirrors(vault, source)


@AS_ROOT
def test_owners_and_devices_as_root(tmp_path: Path, source: Path) -> None:
    os.chown(source / "a", 1234, 4321)
    os.chown(source / "inner", 77, 88)
    try:
        os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices are not allowed here")
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    assert_mirrors(vault, source)
    (source / "null").unlink()
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    save(vault, source)
    assert_mirrors(vault, source)


def test_a_folder_deeper_than_a_path_may_be_long(tmp_path: Path, source: Path) -> None:
    fd = os.open(source, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("n" * 200, dir_fd=fd)
        deeper = os.open("n" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    file = os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(file, b"deep\n")
    os.close(file)
    os.close(fd)
    vault = new_mirror(tmp_path / "m")
    assert save(vault, source).outcome is Outcome.OK
    settle()
    assert save(vault, source).files_unmodified == 5
    assert check(vault).files == 5
    subprocess.run(["rm", "-rf", source / ("n" * 200)], check=True)
    assert save(vault, source).files_removed == 1
    assert_mirrors(vault, source)


def test_a_link_to_a_folder_is_a_link_in_the_mirror_and_nothing_is_written_through_it(
    tmp_path: Path, source: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    inner = copy_of(vault, source) / "inner"
    shutil.rmtree(inner)
    inner.symlink_to(outside)  # somebody wants our next run to write elsewhere
    save(vault, source)
    assert os.listdir(outside) == []
    assert_mirrors(vault, source)


def test_a_mirror_inside_its_own_source_does_not_hold_itself(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(source / "mirror")
    save(vault, source)
    assert sorted(os.listdir(copy_of(vault, source))) == ["a", "b", "empty", "inner"]


def test_a_source_that_was_a_file_becomes_a_folder_and_back(tmp_path: Path) -> None:
    lone = tmp_path / "lone"
    vault = new_mirror(tmp_path / "m")
    lone.write_text("file\n")
    save(vault, lone)
    assert copy_of(vault, lone).read_text() == "file\n"
    lone.unlink()
    lone.mkdir()
    (lone / "inside").write_text("x")
    save(vault, lone)
    assert_mirrors(vault, lone)
    shutil.rmtree(lone)
    lone.write_text("file again\n")
    save(vault, lone)
    assert copy_of(vault, lone).read_text() == "file again\n"
    assert check(vault).outcome is Outcome.OK


# -- protected -------------------------------------------------------------------------------------------------------


def test_a_protected_mirror_is_read_only_when_it_is_finished(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m", protect=True)
    save(vault, source)
    assert_mirrors(vault, source)
    for path in (copy_of(vault, source), *copy_of(vault, source).rglob("*")):
        assert stat.S_IMODE(path.lstat().st_mode) & 0o222 == 0, path
    (source / "a").write_text("changed\n")
    (source / "inner" / "c").unlink()
    (source / "inner" / "deep" / "more").mkdir()
    assert save(vault, source).outcome is Outcome.OK
    assert_mirrors(vault, source)
    settle()
    save(vault, source)
    assert save(vault, source).files_unmodified == 3
    with vault.reading() as browser:  # what people get back is what they had
        item = browser.find(vault.snapshots()[0], os.fsencode(source / "a"))
        assert item.entry.st_mode == (source / "a").lstat().st_mode


def test_permissions_that_a_killed_run_left_open_are_repaired(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m", protect=True)
    settle()
    save(vault, source)
    for path in (copy_of(vault, source), *copy_of(vault, source).rglob("*")):
        path.chmod(0o755)
    save(vault, source)
    assert_mirrors(vault, source)


# -- the lock, and what a mirror is ----------------------------------------------------------------------------------


def test_two_runs_at_once_are_refused(tmp_path: Path, source: Path) -> None:
    from holdfast.kernel.clock import SystemClock
    from holdfast.vaults.mirror.lock import hold

    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    with hold(vault.root, exclusive=True, patience=0, clock=SystemClock(), cancel=None):
        with pytest.raises(Locked, match=str(os.getpid())):
            save(vault, source)
        with pytest.raises(Locked):
            check(vault)
    with hold(vault.root, exclusive=False, patience=0, clock=SystemClock(), cancel=None):
        assert check(vault).outcome is Outcome.OK
        with pytest.raises(Locked):
            save(vault, source)
    assert save(vault, source).outcome is Outcome.OK


def test_a_mirror_begins_in_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(Invalid, match="not empty"):
        make_mirror(os.fsencode(tmp_path / "full"), protect=False, identifier=bytes(32))
    with pytest.raises(NotFound, match="no mirror"):
        open_mirror(os.fsencode(tmp_path / "full"))
    with pytest.raises(Invalid):
        make_mirror(os.fsencode(tmp_path / "full" / "thesis.txt"), protect=False, identifier=bytes(32))


def test_a_marker_that_makes_no_sense_is_told(tmp_path: Path) -> None:
    new_mirror(tmp_path / "m")
    marker = tmp_path / "m" / os.fsdecode(FOLDER) / "vault.json"
    text = marker.read_text()
    marker.write_text(text.replace('"version": 1', '"version": 99'))
    with pytest.raises(Unsupported, match="later version"):
        open_mirror(os.fsencode(tmp_path / "m"))
    for wrong in ("", "[]", "{}", text.replace("mirror", "1").replace('"1"', "1")):
        marker.write_text(wrong)
        with pytest.raises(Corrupt, match="what kind"):
            open_mirror(os.fsencode(tmp_path / "m"))


def test_a_file_that_changes_while_it_is_read_is_looked_at_again(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.vaults.mirror import copying

    vault = new_mirror(tmp_path / "m")
    file, turns = source / "inner" / "deep" / "d", []
    read = copying.read_piece

    def busy(fd: int, at: int) -> bytes:
        if os.path.samestat(os.fstat(fd), file.stat()):
            turns.append(at)
            with open(file, "ab") as more:
                more.write(b"x")
        return read(fd, at) if len(turns) < 20 else b""

    monkeypatch.setattr(copying, "read_piece", busy)
    summary = save(vault, source)
    assert any("changed while it was read" in warning.message for warning in summary.warnings)
    monkeypatch.undo()
    save(vault, source)
    assert_mirrors(vault, source)
    assert check(vault).outcome is Outcome.OK


@pytest.mark.skipif(sys.platform != "linux", reason="holes are looked at by blocks")
def test_holes_stay_holes(tmp_path: Path, source: Path) -> None:
    with open(source / "holes", "wb") as file:
        file.truncate(50_000_000)
        file.seek(20_000_000)
        file.write(b"island")
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    assert_mirrors(vault, source)
    assert (copy_of(vault, source) / "holes").stat().st_blocks * 512 < 5_000_000


def test_a_mirror_at_a_place_whose_name_is_not_text(tmp_path: Path, source: Path) -> None:
    place = os.fsencode(tmp_path) + b"/caf\xe9 ?%#"
    make_mirror(place, protect=False, identifier=bytes(32))
    vault = open_mirror(place)
    save(vault, source)
    assert check(vault).files == 4
    assert_mirrors(vault, source)


def test_a_stay_on_one_file_system_keeps_the_folder_of_the_other(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    save(vault, source, one_file_system=True)
    assert_mirrors(vault, source)
