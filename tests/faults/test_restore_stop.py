"""A restore that is stopped: by kill -9, by its user, by a full disk. No half file is ever found under a final name."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.archivekit import new_vault, save
from tests.restorekit import bring_back, look

from holdfast.files.placing import TEMPORARY
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, NoSpace
from holdfast.kernel.events import Event, Tick
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import Outcome

KILLED = """
import os, signal, sys
from pathlib import Path
import holdfast.vaults.archive.restore.run as restore
import holdfast.vaults.archive.restore.plan as plan
from tests.archivekit import open_vault
from tests.restorekit import bring_back
from holdfast.kernel.events import Tick
restore.ALONE_FILES, plan.ROWS_PER_TASK, plan.BYTES_PER_TASK, plan.PARTS_PER_TASK = 0, 20, 1 << 20, 2
vault, target, source, workers, files = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
def emit(event):
    if isinstance(event, Tick) and event.phase == "restore" and event.items_done >= files:
        os.killpg(0, signal.SIGKILL)
bring_back(open_vault(vault), Path(target), Path(source), workers=workers, emit=emit)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Enough to be stopped in the middle: 600 small files and some of several blobs."""
    root = tmp_path / "source"
    draw = random.Random(4)
    for folder in range(6):
        (root / f"d{folder}").mkdir(parents=True)
        for number in range(100):
            (root / f"d{folder}/f{number}").write_bytes(draw.randbytes(3_000))
    for number in range(3):
        (root / f"big{number}").write_bytes(draw.randbytes(6_000_000))
    return root


@pytest.fixture
def vault(tmp_path: Path, source: Path) -> ArchiveVault:
    """It, saved."""
    made = new_vault(tmp_path / "vault")
    save(made, source)
    return made


def whole(target: Path, source: Path) -> tuple[int, int]:
    """Assert that every file with a final name is complete; returns their number and that of unfinished ones."""
    unfinished = found = 0
    for folder, _, names in os.walk(os.fsencode(target)):
        for name in names:
            path = os.path.join(folder, name)
            if name.startswith(TEMPORARY):
                unfinished += 1
                continue
            found += 1
            original = os.path.join(os.fsencode(source), os.path.relpath(path, os.fsencode(target)))
            assert Path(os.fsdecode(path)).read_bytes() == Path(os.fsdecode(original)).read_bytes(), path
            st, wanted = os.stat(path), os.stat(original)
            assert (st.st_mode, st.st_mtime_ns) == (wanted.st_mode, wanted.st_mtime_ns), path
    return found, unfinished


@pytest.mark.parametrize(("workers", "files"), [(0, 1), (0, 300), (3, 1), (3, 150), (3, 300)])
def test_kill_9_leaves_no_half_file(
    tmp_path: Path, source: Path, vault: ArchiveVault, workers: int, files: int
) -> None:
    target = tmp_path / "target"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "vault"), str(target), str(source), str(workers), str(files)],
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"},
        start_new_session=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    found, _ = whole(target, source)
    assert files <= found
    again = bring_back(vault, target, source, delete=True)
    assert again.outcome is Outcome.OK
    expected = look(source)
    assert {path: seen for path, seen in look(target).items() if path != b"."} == {
        path: seen for path, seen in expected.items() if path != b"."
    }


@pytest.mark.parametrize("workers", [0, 3])
def test_cancelling_keeps_what_is_complete_and_leaves_nothing_else(
    tmp_path: Path, source: Path, vault: ArchiveVault, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.vaults.archive.restore.run.ALONE_FILES", 0)
    monkeypatch.setattr("holdfast.vaults.archive.restore.plan.ROWS_PER_TASK", 20)
    monkeypatch.setattr("holdfast.vaults.archive.restore.plan.BYTES_PER_TASK", 1 << 20)
    monkeypatch.setattr("holdfast.vaults.archive.restore.plan.PARTS_PER_TASK", 2)
    cancel = Cancel()
    ticks: list[Tick] = []

    def stop_soon(event: Event) -> None:
        if isinstance(event, Tick) and event.phase == "restore":
            ticks.append(event)
            if event.items_done > 10:
                cancel.cancel("the user said so")

    with pytest.raises(Cancelled, match="the user said so"):
        bring_back(vault, tmp_path / "target", source, workers=workers, emit=stop_soon, cancel=cancel)
    found, unfinished = whole(tmp_path / "target", source)
    assert 10 < found < 603 and unfinished == 0
    assert ticks[-1].items_total == 603 and ticks[-1].bytes_total == 600 * 3_000 + 18_000_000
    assert not list((tmp_path / "vault/locks").iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("this container may not mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_full_disk_ends_it_clearly(
    small_disk: Path, source: Path, vault: ArchiveVault, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.vaults.archive.restore.run.ALONE_FILES", 0)
    target = small_disk / "target"
    with pytest.raises(NoSpace) as told:
        bring_back(vault, target, source, workers=workers)
    assert told.value.hint
    _, unfinished = whole(target, source)
    assert unfinished == 0


def test_a_worker_that_dies_is_told(
    tmp_path: Path, source: Path, vault: ArchiveVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged snapshot must not be able to do this, but a machine out of memory is."""
    monkeypatch.setattr("holdfast.vaults.archive.restore.run.ALONE_FILES", 0)
    monkeypatch.setattr("holdfast.vaults.archive.restore.plan.ROWS_PER_TASK", 1)
    family = Path(f"/proc/self/task/{os.getpid()}/children")
    if not family.exists():
        pytest.skip("this system does not tell a process's children")
    spared = set(map(int, family.read_text().split()))  # servers of other tests
    killed: list[int] = []

    def kill_all(event: Event) -> None:  # all, for a worker that has nothing left to do would be missed by nobody
        if isinstance(event, Tick) and event.phase == "restore" and not killed:
            killed.extend(set(map(int, family.read_text().split())) - spared)
            for child in killed:
                os.kill(child, signal.SIGKILL)

    with pytest.raises(Exception, match="worker"):
        bring_back(vault, tmp_path / "target", source, workers=3, emit=kill_all)
    assert whole(tmp_path / "target", source)[1] == 0


def test_without_hard_links_there_are_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on exFAT: the system refuses every link."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").write_bytes(b"content")
    os.chmod(source / "one", 0o640)
    os.link(source / "one", source / "two")
    vault = new_vault(tmp_path / "vault")
    save(vault, source)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    done = bring_back(vault, tmp_path / "back", source)
    assert done.outcome is Outcome.OK
    for name in ("one", "two"):
        st = os.stat(tmp_path / "back" / name)
        assert (st.st_nlink, st.st_mode, st.st_mtime_ns) == (1, 0o100640, os.stat(source / name).st_mtime_ns)
        assert (tmp_path / "back" / name).read_bytes() == b"content"
