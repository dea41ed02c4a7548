"""A backup that is killed, starved or failed at any step leaves old snapshots whole, and the next backup succeeds."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.archivekit import SECRET, files, new_vault, on_disk, open_vault, save
from tests.faults.faulty import Faulty, Killing, Late, in_child

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Internal, NoSpace, Unavailable
from holdfast.storage import LocalStorage
from holdfast.vaults.archive import ArchiveVault


@pytest.fixture(autouse=True)
def many_small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several packs and interim indexes from little data."""
    monkeypatch.setattr("holdfast.repository.packer.TARGET_SIZE", 200_000)
    monkeypatch.setattr("holdfast.repository.packer.BATCH", 50_000)
    monkeypatch.setattr("holdfast.repository.writer.INTERIM_BLOBS", 8)


def fill(folder: Path, seed: int, count: int = 24) -> None:
    draw = random.Random(seed)
    for number in range(count):
        place = folder / f"d{number % 4}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{seed}-{number}").write_bytes(draw.randbytes(draw.randrange(60_000)))


class Aged:
    """A vault with one snapshot, and a source that has changed since."""

    def __init__(self, tmp_path: Path) -> None:
        self.source, self.place = tmp_path / "source", tmp_path / "vault"
        fill(self.source, 1)
        self.old = save(new_vault(self.place), self.source).snapshot
        self.old_files = on_disk(self.source)
        fill(self.source, 2)

    def assert_sound(self, restic: str | None) -> None:
        """The old snapshot is byte-equal, restic finds nothing wrong, and the next backup saves everything."""
        vault = open_vault(self.place)
        assert files(vault, self.source, self.old) == self.old_files
        for other in vault.snapshots():
            files(vault, self.source, other.id)
        if restic:
            vault.repository.locks.remove_stale()
            checked = check_with_restic(restic, self.place)
            assert checked.returncode == 0, checked.stderr
        save(open_vault(self.place), self.source)
        assert files(open_vault(self.place), self.source) == on_disk(self.source)


def check_with_restic(restic: str, place: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode()}
    command = [restic, "-r", str(place), "--no-cache", "check", "--read-data"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def changes_in_a_backup(tmp_path: Path) -> int:
    """How many storage calls a backup of the aged vault makes that change something."""
    aged = Aged(tmp_path / "count")
    counting = Faulty(LocalStorage(str(aged.place)))
    save(ArchiveVault(open_vault(counting).repository), aged.source)
    return sum(method in ("write", "adopt", "delete") for method, _ in counting.calls)


def test_killed_at_every_durable_step(tmp_path: Path, need: Callable[[str], str]) -> None:
    restic = need("restic")
    steps = changes_in_a_backup(tmp_path)
    assert steps >= 12
    for step in range(1, steps + 1):
        aged = Aged(tmp_path / f"step{step}")

        def work(aged: Aged = aged, step: int = step) -> None:
            save(open_vault(Killing(LocalStorage(str(aged.place)), step, after=step % 2 == 0)), aged.source)

        assert in_child(work) == -signal.SIGKILL
        aged.assert_sound(restic if step % 3 == 0 or step > steps - 4 else None)


@pytest.mark.parametrize("kind", [Faulty, Late])
def test_every_storage_call_fails_in_turn(tmp_path: Path, kind: type[Faulty], need: Callable[[str], str]) -> None:
    restic = need("restic")
    aged = Aged(tmp_path / "count")
    counting = Faulty(LocalStorage(str(aged.place)))
    save(open_vault(counting), aged.source)
    opening = Faulty(LocalStorage(str(aged.place)))
    open_vault(opening)
    calls = len(counting.calls)
    for number in range(len(opening.calls) + 1, calls + 1):
        aged = Aged(tmp_path / f"call{number}")
        vault = open_vault(kind(LocalStorage(str(aged.place)), number, Unavailable("gone for a moment"), lasting=True))
        with contextlib.suppress(Unavailable):
            save(vault, aged.source)
        assert not list(aged.place.rglob("hf-tmp-*")) or number < calls  # a later sweep takes what could not be removed
        for lock in (aged.place / "locks").iterdir():  # this very process could not; that it lives on protects them
            lock.unlink()
        aged.assert_sound(restic)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], check=False).returncode
    ):
        pytest.skip("a tmpfs cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_said_and_harms_nothing(tmp_path: Path, small_disk: Path) -> None:
    source = tmp_path / "source"
    fill(source, 1, count=8)
    old = save(new_vault(small_disk / "vault"), source).snapshot
    before = on_disk(source)
    fill(source, 2, count=300)
    for workers in (0, 2):
        with pytest.raises(NoSpace) as caught:
            save(open_vault(small_disk / "vault"), source, workers=workers)
        assert "Free some space" in caught.value.hint
    vault = open_vault(small_disk / "vault")
    assert files(vault, source, old) == before
    assert not list((small_disk / "vault" / "locks").iterdir())
    assert not list((small_disk / "vault").rglob("hf-tmp-*"))


@pytest.fixture
def parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes from the first moment on, with small tasks."""
    monkeypatch.setattr("holdfast.vaults.archive.backup.run.ALONE_SECONDS", 0.0)
    monkeypatch.setattr("holdfast.vaults.archive.backup.run.FIRST_ALONE_SECONDS", 0.0)
    monkeypatch.setattr("holdfast.vaults.archive.backup.saver.BYTES_PER_TASK", 100_000)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.usefixtures("parallel")
def test_a_killed_worker_is_an_error_and_harms_nothing(tmp_path: Path) -> None:
    aged = Aged(tmp_path)
    fill(aged.source, 3, count=200)
    others = children(os.getpid())  # servers of other tests

    def kill_one(_event: object) -> None:
        for child in [child for child in children(os.getpid()) if child not in others][:1]:
            os.kill(child, signal.SIGKILL)

    with pytest.raises(Internal, match="SIGKILL"):
        save(open_vault(aged.place), aged.source, workers=3, emit=kill_one)
    assert set(children(os.getpid())) <= set(others)
    assert not list(aged.place.rglob("hf-tmp-*"))
    aged.assert_sound(None)


@pytest.mark.usefixtures("parallel")
def test_a_killed_parent_takes_its_workers_along(tmp_path: Path) -> None:
    aged = Aged(tmp_path)
    fill(aged.source, 3, count=400)
    told, tell = os.pipe()

    def work() -> None:
        def report(_event: object) -> None:
            if found := children(os.getpid()):
                os.write(tell, (" ".join(map(str, found)) + "\n").encode())
                os.kill(os.getpid(), signal.SIGKILL)

        save(open_vault(aged.place), aged.source, workers=3, emit=report)

    assert in_child(work) == -signal.SIGKILL
    workers = [int(word) for word in os.read(told, 1000).split()]
    assert len(workers) == 3
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}/stat").exists() and "Z" not in state(worker) for worker in workers):
        assert time.monotonic() < deadline, "workers live on without their parent"
        time.sleep(0.05)
    aged.assert_sound(None)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.usefixtures("parallel")
def test_two_backups_into_one_vault_at_a_time(tmp_path: Path, need: Callable[[str], str]) -> None:
    restic = need("restic")
    place = tmp_path / "vault"
    new_vault(place)
    sources = [tmp_path / "one", tmp_path / "two"]
    for source in sources:
        fill(source, 5, count=120)  # the same content: both store it
    pids = []
    for source in sources:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                save(open_vault(place), source, workers=2)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    vault = open_vault(place)
    by_path = {snapshot.paths[0]: snapshot.id for snapshot in vault.snapshots()}
    for source in sources:
        assert files(vault, source, by_path[str(source)]) == on_disk(source)
    assert check_with_restic(restic, place).returncode == 0


def test_a_killed_first_backup_goes_on_where_it_was(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "vault"
    fill(source, 1, count=60)
    whole = save(new_vault(tmp_path / "other"), source)
    new_vault(place)
    in_child(lambda: save(open_vault(Killing(LocalStorage(str(place)), 14)), source))
    assert not open_vault(place).snapshots()
    rest = save(open_vault(place), source)
    assert rest.data_blobs < whole.data_blobs
    assert files(open_vault(place), source) == on_disk(source)


def test_files_that_change_under_the_reader(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(40):
        (source / f"f{number:02}").write_bytes(b"x" * 700_000)
    vault = new_vault(tmp_path / "vault")
    mischief = [
        lambda: (source / "f30").write_bytes(b"grown" * 200_000),
        lambda: os.truncate(source / "f31", 10),
        lambda: (source / "f32").unlink(),
        lambda: ((source / "f33").unlink(), (source / "f33").mkdir()),
        lambda: ((source / "f34").unlink(), (source / "f34").symlink_to("/etc/passwd")),
        lambda: ((source / "f35").unlink(), os.mkfifo(source / "f35")),
        lambda: None,  # the first look is before the directory is listed
    ]

    class Meddling(Cancel):
        """Looked at after every file: a place to meddle while a directory is being read."""

        def check(self) -> None:
            if mischief:
                mischief.pop()()
            super().check()

    summary = save(vault, source, cancel=Meddling())
    assert not mischief
    saved = files(vault, source)
    assert saved[b"f31"] == b"x" * 10
    assert saved[b"f30"] == b"grown" * 200_000
    assert b"f32" not in saved
    failed = {os.path.basename(problem.path) for problem in summary.problems}
    assert failed == {b"f33", b"f34", b"f35"}
    assert {os.path.basename(warning.path) for warning in summary.warnings} == {b"f30", b"f31", b"f32"}
    again = save(open_vault(tmp_path / "vault"), source)
    assert not again.problems
    assert files(open_vault(tmp_path / "vault"), source) == on_disk(source)


def test_an_empty_folder_in_the_place_of_an_opened_vault_takes_no_snapshot(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "vault"
    fill(source, 1)
    vault = new_vault(place)
    place.rename(tmp_path / "unmounted")
    place.mkdir()
    with pytest.raises(Unavailable, match="has disappeared"):
        save(vault, source)
    assert not [path for path in place.rglob("*") if path.is_file()]
