"""A mirror of so many files that several processes copy them: the same result, the same words, the same care."""

from __future__ import annotations

import errno
import os
import signal
import stat
from pathlib import Path

import pytest
from tests.mirrorkit import assert_mirrors, check, copy_of, new_mirror, save, told, tree

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Internal, NoSpace
from holdfast.kernel.events import Event, Tick
from holdfast.vaults.base import Outcome
from holdfast.vaults.mirror.hands import COPIES_ALONE
from holdfast.vaults.mirror.here import Here
from holdfast.vaults.mirror.writing import Writer, Written

FOLDERS, EACH = 12, 40


@pytest.fixture
def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes, and files made in several calls, as where no compiler was."""
    monkeypatch.setattr("holdfast.files.small._native", None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """More files than one process copies alone, in several folders, with a few that are not ordinary."""
    folder = tmp_path / "source"
    for number in range(FOLDERS):
        inner = folder / f"folder {number:02}"
        inner.mkdir(parents=True)
        for each in range(EACH):
            (inner / f"file {each}").write_bytes(b"%d %d\n" % (number, each) * (each + 1))
    os.link(folder / "folder 00" / "file 0", folder / "folder 11" / "zz link")
    (folder / "folder 05" / "large").write_bytes(os.urandom(300_000))
    (folder / "folder 06" / "zz dangling").symlink_to("nowhere")
    assert FOLDERS * EACH > 2 * COPIES_ALONE
    return folder


@pytest.mark.parametrize("protect", [False, True], ids=["open", "protected"])
@pytest.mark.parametrize("extension", [False, True], ids=["processes", "threads"])
def test_workers_make_the_same_mirror_as_one(
    tmp_path: Path, source: Path, protect: bool, extension: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not extension:
        monkeypatch.setattr("holdfast.files.small._native", None)
    alone, together = new_mirror(tmp_path / "alone", protect=protect), new_mirror(tmp_path / "m", protect=protect)
    one = save(alone, source, workers=0)
    two = save(together, source, workers=2)
    for name in ("files_new", "dirs_new", "total_files", "total_bytes", "data_added", "outcome"):
        assert getattr(one, name) == getattr(two, name), name
    assert two.files_new == FOLDERS * EACH + 2
    assert_mirrors(together, source)
    assert tree(copy_of(alone, source)) == tree(copy_of(together, source))
    assert check(together).outcome is Outcome.OK
    again = save(together, source, workers=2)
    assert (again.files_unmodified, again.data_added) == (FOLDERS * EACH + 2, 0)
    for path in source.rglob("file *"):
        path.write_text("changed\n")
    changed = told(together, source, workers=2, verbose=True)
    assert sum(word == "changed" for word, _ in changed) >= FOLDERS * EACH
    assert_mirrors(together, source)


@pytest.mark.usefixtures("step_by_step")
def test_what_one_process_cannot_copy_is_told_and_the_rest_goes_on(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = new_mirror(tmp_path / "m")
    settle = Here.settle

    def refuse(here: Here, directory: int, temporary: bytes, path: bytes, before: object) -> None:
        if path.endswith(b"folder 10/file 7"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        settle(here, directory, temporary, path, before)  # type: ignore[arg-type]

    monkeypatch.setattr(Here, "settle", refuse)
    summary = save(vault, source, workers=2)
    assert summary.outcome is Outcome.PARTIAL
    assert [problem.path for problem in summary.problems] == [os.fsencode(source / "folder 10" / "file 7")]
    assert summary.files_new == FOLDERS * EACH + 1
    monkeypatch.undo()
    assert save(vault, source, workers=2).files_new == 1
    assert_mirrors(vault, source)


@pytest.mark.usefixtures("step_by_step")
def test_a_full_disk_in_a_worker_ends_the_run(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = new_mirror(tmp_path / "m")
    create, parent = Here.create, os.getpid()

    def full(here: Here, directory: int) -> tuple[int, bytes]:
        if os.getpid() != parent:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return create(here, directory)

    monkeypatch.setattr(Here, "create", full)
    with pytest.raises(NoSpace):
        save(vault, source, workers=2)
    monkeypatch.undo()
    assert save(vault, source, workers=2).outcome is Outcome.OK
    assert_mirrors(vault, source)


@pytest.mark.usefixtures("step_by_step")
def test_a_worker_that_dies_is_our_fault_and_the_next_run_finishes(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = new_mirror(tmp_path / "m", protect=True)
    write, parent = Writer.write, os.getpid()

    def die(writer: Writer, frame: object, fd: int, item: object, before: object) -> Written:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(writer, frame, fd, item, before)  # type: ignore[arg-type]

    monkeypatch.setattr(Writer, "write", die)
    with pytest.raises(Internal, match="SIGKILL"):
        save(vault, source, workers=2)
    for path in copy_of(vault, source).rglob("file *"):
        assert path.read_bytes() == Path(str(path)[len(os.fsdecode(vault.root)) :]).read_bytes()
    monkeypatch.undo()
    assert save(vault, source, workers=2).outcome is Outcome.OK
    assert_mirrors(vault, source)


def test_a_stop_lets_the_workers_end_what_they_began(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m", protect=True)
    cancel = Cancel()

    def stop(event: Event) -> None:
        if isinstance(event, Tick) and event.items_done >= COPIES_ALONE:
            cancel.cancel("enough")

    class Fast:
        """Every tick is told, not ten a second."""

        moments = iter(range(10**9))
        now_ns, sleep, utc_offset = vault._clock.now_ns, vault._clock.sleep, vault._clock.utc_offset

        def monotonic(self) -> float:
            return float(next(self.moments))

    clock, vault._clock = vault._clock, Fast()
    with pytest.raises(Cancelled):
        save(vault, source, emit=stop, cancel=cancel, workers=2)
    vault._clock = clock
    assert not list((tmp_path / "m").rglob(".holdfast-tmp-*"))
    for path in copy_of(vault, source).glob("folder *"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0 or not any(path.iterdir())
    assert save(vault, source, workers=2).outcome is Outcome.OK
    assert_mirrors(vault, source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_worker_keeps_the_old_copy_of_what_it_cannot_read(tmp_path: Path, source: Path) -> None:
    vault = new_mirror(tmp_path / "m")
    save(vault, source, workers=2)
    for path in source.rglob("file *"):
        path.write_text("changed\n")
    secret = source / "folder 11" / "file 39"
    secret.chmod(0)
    summary = save(vault, source, workers=2)
    assert [problem.path for problem in summary.problems] == [os.fsencode(secret)]
    assert copy_of(vault, secret).read_bytes() == b"11 39\n" * 40
    secret.chmod(0o644)
    assert save(vault, source, workers=2).outcome is Outcome.OK
    assert_mirrors(vault, source)
