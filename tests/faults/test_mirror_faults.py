"""A mirror whose run is killed at any step, runs out of space, is stopped, or is refused something by the system."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.mirrorkit import assert_mirrors, check, copy_of, new_mirror, save

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, NoSpace, Unavailable
from holdfast.kernel.events import Event, Tick, ignore
from holdfast.vaults.base import Outcome, RestoreOptions
from holdfast.vaults.mirror import MirrorVault
from holdfast.vaults.mirror.here import Here

STEPS = frozenset(
    {"open", "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink",
     "os.truncate", "os.utime", "sqlite3.connect"}
)  # fmt: skip
"""Audit events of everything that a run does to a file system; it is killed before each of them."""

KILLED = 77


@pytest.fixture(autouse=True)
def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extension's calls, which do in one what these tests break into."""
    monkeypatch.setattr("holdfast.files.small._native", None)


def first_state(folder: Path) -> None:
    (folder / "inner" / "deep").mkdir(parents=True)
    (folder / "becomes folder").write_text("old\n")
    (folder / "becomes file").mkdir()
    (folder / "becomes file" / "x").write_text("old\n")
    (folder / "inner" / "kept").write_text("kept\n")
    (folder / "inner" / "changed").write_text("old content\n")
    (folder / "inner" / "removed").write_text("old\n")
    (folder / "inner" / "deep" / "big").write_bytes(b"old" * 50_000)
    (folder / "link").symlink_to("old target")
    os.link(folder / "inner" / "kept", folder / "second name")


def second_state(folder: Path) -> None:
    (folder / "becomes folder").unlink()
    (folder / "becomes folder").mkdir()
    (folder / "becomes folder" / "y").write_text("new\n")
    (folder / "becomes file" / "x").unlink()
    (folder / "becomes file").rmdir()
    (folder / "becomes file").write_text("new\n")
    (folder / "inner" / "changed").write_text("new content, longer\n")
    (folder / "inner" / "removed").unlink()
    (folder / "inner" / "deep" / "big").write_bytes(b"new" * 60_000)
    (folder / "inner" / "added").write_text("new\n")
    (folder / "link").unlink()
    (folder / "link").symlink_to("new target")
    (folder / "inner").chmod(0o750)


def contents(root: Path) -> dict[str, object]:
    """Every file and link beneath ``root``, but for unfinished ones."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        if ".holdfast-tmp-" in str(path):
            continue
        st = path.lstat()
        if stat.S_ISLNK(st.st_mode):
            found[str(path.relative_to(root))] = os.readlink(path)
        elif stat.S_ISREG(st.st_mode):
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Do ``act`` in a child process that dies before its ``step``-th step; whether it got that far."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(event: str, _arguments: object) -> None:
            if event in STEPS:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(KILLED)

        try:
            sys.addaudithook(count)
            act()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED)
    return status == KILLED


@pytest.mark.parametrize("protect", [False, True], ids=["open", "protected"])
def test_killed_at_any_step_each_file_is_old_or_new_and_the_next_run_finishes(tmp_path: Path, protect: bool) -> None:
    source, before, after = tmp_path / "source", tmp_path / "before", tmp_path / "after"
    before.mkdir()
    first_state(before)
    after.mkdir()
    first_state(after)
    second_state(after)
    old, new = contents(before), contents(after)
    step, went_on = 0, True
    while went_on:
        vault = new_mirror(tmp_path / f"m{step}", protect=protect)
        before.rename(source)
        save(vault, source)
        source.rename(before)
        after.rename(source)
        went_on = killed_at(step, lambda vault=vault: save(vault, source))  # type: ignore[misc]
        mixed = contents(copy_of(vault, source))
        for name, content in mixed.items():
            assert content in (old.get(name), new.get(name)), (step, name)
        assert old.keys() & new.keys() <= mixed.keys(), step  # what both states have is never gone
        assert check(vault).outcome is Outcome.OK, step  # what a run had done when it was killed is no damage
        assert save(vault, source).outcome is Outcome.OK
        assert_mirrors(vault, source)
        assert check(vault).outcome is Outcome.OK
        assert not list(Path(os.fsdecode(vault.root)).rglob(".holdfast-tmp-*"))
        source.rename(after)
        step += 3
    assert step > 60


def test_killed_at_any_step_of_the_first_run(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    first_state(source)
    wanted = contents(source)
    number, went_on = 0, True
    while went_on:
        vault = new_mirror(tmp_path / f"m{number}")
        went_on = killed_at(number, lambda vault=vault: save(vault, source))  # type: ignore[misc]
        if copy_of(vault, source).exists():
            assert contents(copy_of(vault, source)).items() <= wanted.items()
        assert check(vault).outcome is Outcome.OK
        save(vault, source)
        assert_mirrors(vault, source)
        number += 4


def test_a_full_disk_ends_the_run_and_what_was_done_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"file {number:02}").write_text(str(number))
    vault = new_mirror(tmp_path / "m")
    create, left = Here.create, [10]

    def full(here: Here, directory: int) -> tuple[int, bytes]:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return create(here, directory)

    monkeypatch.setattr(Here, "create", full)
    with pytest.raises(NoSpace):
        save(vault, source)
    assert len(os.listdir(copy_of(vault, source))) == 10
    monkeypatch.undo()
    summary = save(vault, source)
    assert (summary.files_new, summary.files_unmodified) == (10, 10)  # read and compared, not copied again
    assert_mirrors(vault, source)


def test_what_the_mirror_cannot_hold_is_a_problem_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "good").write_text("good\n")
    (source / "what?").write_text("not on this file system\n")
    vault = new_mirror(tmp_path / "m")
    settle = Here.settle

    def refuse(here: Here, directory: int, temporary: bytes, path: bytes, before: object) -> None:
        if b"?" in path:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        settle(here, directory, temporary, path, before)  # type: ignore[arg-type]

    monkeypatch.setattr(Here, "settle", refuse)
    summary = save(vault, source)
    assert summary.outcome is Outcome.PARTIAL
    assert [problem.path for problem in summary.problems] == [os.fsencode(source / "what?")]
    assert os.listdir(copy_of(vault, source)) == ["good"]
    monkeypatch.undo()
    assert save(vault, source).outcome is Outcome.OK
    assert_mirrors(vault, source)


def test_a_stop_in_the_middle_keeps_what_is_done_and_closes_protected_folders(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(30):
        (source / f"folder {number:02}").mkdir(parents=True)
        (source / f"folder {number:02}" / "file").write_text(str(number))
    vault = new_mirror(tmp_path / "m", protect=True)
    save(vault, source)
    for number in range(30):
        (source / f"folder {number:02}" / "file").write_text(f"changed {number}")
    cancel = Cancel()

    def stop(event: Event) -> None:
        if isinstance(event, Tick) and event.current.endswith("folder 00"):
            cancel.cancel("enough")

    _without_waiting(vault)
    with pytest.raises(Cancelled):
        save(vault, source, emit=stop, cancel=cancel)
    for path in copy_of(vault, source).rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0, path
    assert save(vault, source).outcome is Outcome.OK
    assert_mirrors(vault, source)


def _without_waiting(vault: MirrorVault) -> None:
    """Let every tick be told, not ten a second."""
    clock = vault._clock
    moments = iter(range(10**9))

    class Fast:
        now_ns = staticmethod(clock.now_ns)
        sleep = staticmethod(clock.sleep)
        utc_offset = staticmethod(clock.utc_offset)

        @staticmethod
        def monotonic() -> float:
            return float(next(moments))

    vault._clock = Fast()


def test_a_file_of_the_mirror_that_vanished_shows_as_damage_to_readers_and_comes_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a\n")
    vault = new_mirror(tmp_path / "m")
    save(vault, source)
    (copy_of(vault, source) / "a").unlink()
    assert check(vault).outcome is Outcome.FAILED
    save(vault, source)
    assert check(vault).outcome is Outcome.OK


def test_what_a_killed_run_replaced_is_no_damage_and_what_rotted_is(tmp_path: Path) -> None:
    source, vault = tmp_path / "source", new_mirror(tmp_path / "m")
    source.mkdir()
    for name in ("new", "rotten", "gone"):
        (source / name).write_text("before\n")
    (source / "second name").hardlink_to(source / "rotten")  # the time of the last change does not count then
    save(vault, source)
    copy = copy_of(vault, source)
    before = (copy / "rotten").stat()
    # As a run leaves it that is killed in the middle: files have their new names, the state is not committed.
    (copy / "other").write_text("after the change\n")
    (copy / "other").rename(copy / "new")
    (copy / "gone").unlink()
    lock = Path(os.fsdecode(vault.root), ".holdfast", "lock")
    assert lock.read_bytes() == b""
    lock.write_text('{"pid": 1, "host": "here"}')

    report = check(vault)
    assert report.outcome is Outcome.OK
    assert {damage.kind: damage.files_total for damage in report.damage} == {"file.unfinished": 2}
    options = RestoreOptions(os.fsencode(tmp_path / "out"))
    restored = vault.restore(vault.snapshots()[0], options, emit=ignore, cancel=Cancel())
    assert restored.outcome is Outcome.PARTIAL
    assert sorted(os.path.basename(problem.path) for problem in restored.problems) == [b"gone", b"new"]
    assert all("did not finish" in problem.message for problem in restored.problems)

    (copy / "rotten").write_text("befoXe\n")
    os.utime(copy / "rotten", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert {damage.kind for damage in check(vault).damage} == {"file.unfinished", "file.corrupt"}
    assert save(vault, source).outcome is Outcome.OK
    assert {damage.kind for damage in check(vault).damage} == {"file.corrupt"}  # --checksum heals that
    assert save(vault, source, force=True).outcome is Outcome.OK
    assert check(vault).outcome is Outcome.OK


def test_a_mirror_that_disappears_during_a_run_is_out_of_reach(tmp_path: Path) -> None:
    source, vault = tmp_path / "source", new_mirror(tmp_path / "m")
    source.mkdir()
    first_state(source)

    def unmount(event: Event) -> None:
        if isinstance(event, Tick) and (tmp_path / "m").exists():
            (tmp_path / "m").rename(tmp_path / "unmounted")

    with pytest.raises(Unavailable, match="has disappeared"):
        save(vault, source, emit=unmount)
