"""What a backup saves, recognises, skips and reports."""

from __future__ import annotations

import os
import random
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from tests.archivekit import files, new_vault, nodes, on_disk, open_vault, save, tree_of

from holdfast.files.rules import Rules
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, NotFound
from holdfast.kernel.events import Event, Fact
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import Outcome


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small tree: nested folders, an empty file and folder, sizes around the chunker's limits."""
    root = tmp_path / "source"
    for name in ("a", "a/b", "a/b/c", "empty", "z"):
        (root / name).mkdir(parents=True)
    draw = random.Random(1)
    for number, size in enumerate((0, 1, 100, 4095, 524_287, 524_288, 524_289, 3_000_000)):
        (root / "a" / f"file{number}").write_bytes(draw.randbytes(size))
        (root / "a/b/c" / f"text{number}").write_bytes(b"line of text\n" * (size // 13))
    (root / "z" / "link").symlink_to("../a/file1")
    return root


def only_rules(*lines: str) -> Rules:
    return Rules.compile(lines, defaults=False)


def twin_vaults(tmp_path: Path) -> tuple[ArchiveVault, ArchiveVault]:
    """Two empty vaults with one polynomial, so that equal content makes equal trees."""
    first, second = new_vault(tmp_path / "one"), new_vault(tmp_path / "two")
    second.repository.config = first.repository.config
    return first, second


def test_every_byte_comes_back(tmp_path: Path, folder: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    summary = save(vault, folder)
    assert summary.outcome is Outcome.OK
    assert files(vault, folder) == on_disk(folder)
    assert summary.files_new == summary.total_files == len(on_disk(folder))
    assert summary.total_bytes == sum(map(len, on_disk(folder).values()))


@pytest.mark.parametrize("workers", [0, 3])
def test_processes_make_the_same_tree_as_one(
    tmp_path: Path, folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.vaults.archive.backup.run.FIRST_ALONE_SECONDS", 0.0)
    monkeypatch.setattr("holdfast.vaults.archive.backup.saver.ENTRIES_PER_TASK", 2)
    alone, shared = twin_vaults(tmp_path)
    save(alone, folder)
    save(shared, folder, workers=workers)
    assert tree_of(alone, folder) == tree_of(shared, folder)


def test_a_big_file_shared_by_processes_is_cut_as_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.vaults.archive.backup.run.FIRST_ALONE_SECONDS", 0.0)
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(random.Random(2).randbytes(40_000_000))
    (source / "medium").write_bytes(random.Random(3).randbytes(9_000_000))
    (source / "small").write_bytes(b"x")
    first, second = twin_vaults(tmp_path)
    save(first, source)
    monkeypatch.setattr("holdfast.vaults.archive.backup.assembly.BIG_FILE", 10 << 20)
    monkeypatch.setattr("holdfast.vaults.archive.backup.content.RANGE_BYTES", 5 << 20)
    save(second, source, workers=3)
    assert files(second, source) == on_disk(source)
    assert tree_of(first, source) == tree_of(second, source)


def test_an_unchanged_folder_adds_nothing(tmp_path: Path, folder: Path) -> None:
    for memo_folder in (None, tmp_path / "cache"):
        place = tmp_path / f"vault{memo_folder is None}"
        first = save(new_vault(place, memo_folder), folder)
        second = save(open_vault(place, memo_folder), folder)
        vault = open_vault(place)
        assert second.data_blobs == 0
        assert second.parent == first.snapshot
        assert second.files_unmodified == first.files_new
        assert files(vault, folder, second.snapshot) == on_disk(folder)


def test_changes_are_found_with_and_without_the_memo(tmp_path: Path, folder: Path) -> None:
    for memo_folder in (None, tmp_path / "cache"):
        place = tmp_path / f"vault{memo_folder is None}"
        save(new_vault(place, memo_folder), folder)
        (folder / "a/b/c/text2").write_bytes(f"changed {memo_folder}".encode())
        (folder / "a/new").write_bytes(f"new {memo_folder}".encode())
        (folder / "a/file2").unlink(missing_ok=True)
        (folder / "empty" / "now not").mkdir(exist_ok=True)
        os.utime(folder / "z", (5, 5))
        summary = save(open_vault(place, memo_folder), folder)
        assert files(open_vault(place), folder) == on_disk(folder)
        assert summary.files_changed >= 1
        third = save(open_vault(place, memo_folder), folder)
        assert third.data_blobs == 0


def test_content_changed_behind_an_unchanged_time_is_found_by_ctime(tmp_path: Path, folder: Path) -> None:
    vault = new_vault(tmp_path / "vault", tmp_path / "cache")
    save(vault, folder)
    victim = folder / "a/file3"
    before = victim.stat()
    victim.write_bytes(b"y" * before.st_size)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    save(open_vault(tmp_path / "vault", tmp_path / "cache"), folder)
    assert files(open_vault(tmp_path / "vault"), folder) == on_disk(folder)


def test_force_reads_everything_again(tmp_path: Path, folder: Path) -> None:
    save(new_vault(tmp_path / "vault", tmp_path / "cache"), folder)
    summary = save(open_vault(tmp_path / "vault", tmp_path / "cache"), folder, force=True)
    assert summary.files_unmodified == summary.total_files  # read, and found to be as they were
    assert summary.data_blobs == 0


def test_a_damaged_memo_is_only_slower(tmp_path: Path, folder: Path) -> None:
    save(new_vault(tmp_path / "vault", tmp_path / "cache"), folder)
    (memo,) = (tmp_path / "cache").rglob("*.memo")
    data = bytearray(memo.read_bytes())
    data[len(data) // 2] ^= 1
    memo.write_bytes(data)
    (folder / "a/file1").write_bytes(b"!")
    save(open_vault(tmp_path / "vault", tmp_path / "cache"), folder)
    assert files(open_vault(tmp_path / "vault"), folder) == on_disk(folder)


def test_blobs_that_the_vault_lost_are_stored_again(tmp_path: Path, folder: Path) -> None:
    place = tmp_path / "vault"
    save(new_vault(place, tmp_path / "cache"), folder)
    for index in (place / "index").iterdir():
        index.unlink()
    save(open_vault(place, tmp_path / "cache"), folder)
    assert files(open_vault(place), folder) == on_disk(folder)


def test_unreadable_things_are_listed_and_the_rest_is_saved(tmp_path: Path, folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (folder / "a/file4").chmod(0)
    (folder / "a/b/c").chmod(0)
    try:
        vault = new_vault(tmp_path / "vault")
        summary = save(vault, folder)
    finally:
        (folder / "a/b/c").chmod(0o755)
    assert summary.outcome is Outcome.PARTIAL
    assert {problem.path for problem in summary.problems} == {
        os.fsencode(folder / "a/file4"),
        os.fsencode(folder / "a/b/c"),
    }
    assert b"a/file3" in files(vault, folder)
    assert b"a/file4" not in files(vault, folder)


def test_a_missing_path_is_a_problem_an_optional_one_a_warning(tmp_path: Path, folder: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    gone = os.fsencode(tmp_path / "gone")
    assert save(vault, folder, gone).outcome is Outcome.PARTIAL
    summary = save(vault, folder, gone, optional=frozenset([gone]))
    assert summary.outcome is Outcome.OK
    assert [warning.path for warning in summary.warnings] == [gone]
    with pytest.raises(NotFound, match="does not exist"):
        save(vault, gone)
    assert len(vault.snapshots()) == 2


def test_the_vault_is_never_saved_into_itself(tmp_path: Path, folder: Path) -> None:
    vault = new_vault(folder / "a" / "vault")
    save(vault, folder)
    assert not [path for path, _ in nodes(vault) if b"/vault" in path.removeprefix(os.fsencode(folder))]


def test_rules_leave_out_files_and_whole_folders(tmp_path: Path, folder: Path) -> None:
    (folder / ".holdfastignore").write_text("text*\n!text3\n")
    (folder / "a/b/.holdfastignore").write_text("!text5\n")
    vault = new_vault(tmp_path / "vault")
    summary = save(vault, folder, rules=only_rules("file7", "/empty/"))
    names = {os.path.basename(path) for path in files(vault, folder)}
    assert {b"text3", b"text5", b"file6"} <= names
    assert not {b"text1", b"text4", b"file7"} & names
    assert os.fsencode(folder / "empty") not in dict(nodes(vault))
    assert summary.excluded == 8


def test_one_file_system_stays_on_all_that_were_named(tmp_path: Path) -> None:
    source, mount = tmp_path / "source", tmp_path / "source" / "mount"
    mount.mkdir(parents=True)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mount], check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        (mount / "there").write_text("x")
        (source / "here").write_text("y")
        vault = new_vault(tmp_path / "vault")
        save(vault, source, one_file_system=True)
        assert set(files(vault, source)) == {b"here"}
        assert os.fsencode(mount) in dict(nodes(vault))  # the mount point itself is kept
        save(vault, source, mount, one_file_system=True)
        assert set(files(vault, source)) == {b"here", b"mount/there"}
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def test_sockets_are_skipped_and_pipes_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
        vault = new_vault(tmp_path / "vault")
        assert save(vault, source).outcome is Outcome.OK
    kinds = {path.rpartition(b"/")[2]: node.type for path, node in nodes(vault)}
    assert kinds[b"pipe"] == "fifo"
    assert b"socket" not in kinds


def test_dry_run_writes_nothing_and_counts_the_same(tmp_path: Path, folder: Path) -> None:
    place = tmp_path / "vault"
    vault = new_vault(place)
    before = sorted(place.rglob("*"))
    dry = save(vault, folder, dry_run=True)
    assert sorted(place.rglob("*")) == before
    real = save(open_vault(place), folder)
    assert (dry.files_new, dry.data_blobs, dry.total_bytes) == (real.files_new, real.data_blobs, real.total_bytes)
    assert dry.snapshot is None


def test_relative_paths_keep_only_what_was_given(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = new_vault(tmp_path / "vault")
    monkeypatch.chdir(folder)
    save(vault, b"a/b", b"z")
    assert {path for path, _ in nodes(vault)} >= {b"/a/b/c", b"/z/link"}
    assert b"/a/file1" not in dict(nodes(vault))
    assert vault.snapshots()[0].paths == (str(folder / "a/b"), str(folder / "z"))
    save(vault, b".")
    assert b"/a/file1" in dict(nodes(vault))


def test_single_files_and_nested_targets(tmp_path: Path, folder: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, folder / "a/file2", folder / "a/b", folder / "a/b/c", folder / "z/link")
    found = dict(nodes(vault))
    assert os.fsencode(folder / "a/file2") in found
    assert os.fsencode(folder / "a/b/c/text2") in found
    assert found[os.fsencode(folder / "z/link")].linktarget == b"../a/file1"
    assert os.fsencode(folder / "a/file3") not in found


def test_a_cancelled_backup_keeps_what_was_stored(tmp_path: Path, folder: Path) -> None:
    place = tmp_path / "vault"
    vault = new_vault(place)
    cancel = Cancel()

    def stop(event: Event) -> None:
        if isinstance(event, Fact) and event.data.get("path", b"").endswith(b"file5"):
            cancel.cancel("stopped by the test")

    with pytest.raises(Cancelled):
        save(vault, folder, emit=stop, cancel=cancel, verbose=True, force=True)
    assert not vault.snapshots()
    assert not list(place.rglob("hf-tmp-*"))
    assert not list((place / "locks").iterdir())
    again = save(open_vault(place), folder)
    full = save(new_vault(tmp_path / "other"), folder)
    assert again.data_blobs < full.data_blobs or again.data_blobs == 0


def test_a_cancel_among_small_files_ends_cleanly(tmp_path: Path, folder: Path) -> None:
    class Late(Cancel):
        """Asked for after the first file of a directory that holds several."""

        looks = 0

        @property
        def requested(self) -> bool:
            self.looks += 1
            if self.looks == 4:
                self.cancel("stopped by the test")
            return super().requested

    for number in range(20):
        (folder / f"small{number}").write_bytes(b"%d" % number * 50)
    place = tmp_path / "vault"
    with pytest.raises(Cancelled):
        save(new_vault(place), folder, cancel=Late())
    assert not open_vault(place).snapshots()
    assert not list(place.rglob("hf-tmp-*"))
    assert save(open_vault(place), folder).snapshot is not None


def test_a_directory_with_very_many_entries(tmp_path: Path) -> None:
    source = tmp_path / "many"
    source.mkdir()
    for number in range(20_000):
        os.close(os.open(source / f"f{number}", os.O_CREAT | os.O_WRONLY))
    vault = new_vault(tmp_path / "vault")
    assert save(vault, source).total_files == 20_000
    assert save(open_vault(tmp_path / "vault"), source).files_unmodified == 20_000


def test_paths_of_four_thousand_bytes(tmp_path: Path) -> None:
    source = tmp_path / "deep"
    source.mkdir()
    fd = os.open(source, os.O_RDONLY)
    length = len(os.fsencode(source))
    while length < 4600:
        os.mkdir("d" * 200, dir_fd=fd)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
        length += 201
    file = os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.write(file, b"here")
    os.symlink("target", "link", dir_fd=fd)
    os.close(file)
    os.close(fd)
    vault = new_vault(tmp_path / "vault")
    summary = save(vault, source)
    assert summary.problems == []
    assert list(files(vault, source).values()) == [b"here"]


def test_metadata_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "meta"
    source.mkdir()
    file = source / "file"
    file.write_bytes(b"data")
    file.chmod(0o4751)
    os.utime(file, ns=(1_000_000_001, 1_234_567_890_123_456_789))
    os.link(file, source / "hard")
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    found = dict(nodes(vault))
    node, twin = found[os.fsencode(file)], found[os.fsencode(source / "hard")]
    assert node.st_mode == stat.S_IFREG | 0o4751
    assert node.mtime == 1_234_567_890_123_456_789
    assert node.links == 2
    assert (node.inode, node.device_id) == (twin.inode, twin.device_id)
