"""Dying or failing at any step of a write leaves the file complete or absent, the listing clean, the next try free."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.faults.faulty import in_child

import holdfast
from holdfast.kernel.errors import HoldfastError, NoSpace, Unavailable
from holdfast.storage import LocalStorage

PACK = "data/ab/" + "ab" + "1" * 62
STEPS = ("open", "write", "fchmod", "fsync", "rename", "link", "unlink", "mkdir", "close")
DATA = b"0123456789abcdef" * 4096
TWO_DAYS_NS = 2 * 24 * 3600 * 1_000_000_000


def write_pack(storage: LocalStorage, _source: Path) -> None:
    storage.write(PACK, DATA)


def write_config(storage: LocalStorage, _source: Path) -> None:
    storage.write("config", DATA)


def adopt_pack(storage: LocalStorage, source: Path) -> None:
    storage.adopt(str(source), PACK)


def adopt_config(storage: LocalStorage, source: Path) -> None:
    storage.adopt(str(source), "config")


WORKS = {"config": (write_config, adopt_config), PACK: (write_pack, adopt_pack)}
CASES = [(name, work) for name, works in WORKS.items() for work in works]
every_case = pytest.mark.parametrize(("name", "work"), CASES, ids=[work.__name__ for _, work in CASES])
Work = Callable[[LocalStorage, Path], None]


@contextmanager
def steps_of_the_system(trap: Callable[[int, str, Callable[[], object]], object]) -> Iterator[None]:
    """Send every call of the operating system's file functions through ``trap(number, step, call)``."""
    real = {step: getattr(os, step) for step in STEPS}
    count = 0

    def trapped(step: str) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if step == "write" and trap is not None:
                # Two halves, so that a write can end in the middle as the kernel's may.
                arguments = (arguments[0], memoryview(arguments[1])[: max(1, len(arguments[1]) // 2)])  # type: ignore
            return trap(count, step, lambda: real[step](*arguments, **options))

        return call

    try:
        for step in STEPS:
            setattr(os, step, trapped(step))
        yield
    finally:
        for step, function in real.items():
            setattr(os, step, function)


def steps_needed(folder: Path, work: Work) -> list[str]:
    storage, source = fresh(folder)
    seen: list[str] = []

    def note(_number: int, step: str, call: Callable[[], object]) -> object:
        seen.append(step)
        return call()

    with steps_of_the_system(note):
        work(storage, source)
    return seen


def fresh(folder: Path) -> tuple[LocalStorage, Path]:
    """A prepared storage, and a file in its staging folder."""
    storage = LocalStorage(str(folder))
    storage.prepare(["data"])
    source = Path(storage.staging() or "") / "hf-tmp-source"
    source.write_bytes(DATA)
    return storage, source


def complete_or_absent(folder: Path, name: str) -> bool:
    """Whether the file is there; fails if anything in between is."""
    storage = LocalStorage(str(folder))
    listed = {info.name: info.size for info in storage.list("")}
    assert listed in ({}, {name: len(DATA)})
    if listed:
        assert storage.read(name) == DATA
    return bool(listed)


def the_next_try_succeeds(folder: Path, name: str, work: Work) -> None:
    storage = LocalStorage(str(folder))
    source = folder / "data" / "hf-tmp-source"
    source.unlink(missing_ok=True)
    source.write_bytes(DATA)
    work(storage, source)
    assert complete_or_absent(folder, name)
    storage.sweep(time.time_ns() + TWO_DAYS_NS)
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] == [name]


@every_case
def test_killed_before_and_after_every_step(tmp_path: Path, name: str, work: Work) -> None:
    steps = steps_needed(tmp_path / "count", work)
    assert "fsync" in steps
    present = []
    for number in range(1, len(steps) + 1):
        for after in (False, True):
            folder = tmp_path / f"{number}{after}"
            storage, source = fresh(folder)

            def die(count: int, _step: str, call: Callable[[], object], at=(number, after)) -> object:  # type: ignore
                if at == (count, False):
                    os.kill(os.getpid(), signal.SIGKILL)
                try:
                    return call()
                finally:
                    if at == (count, True):
                        os.kill(os.getpid(), signal.SIGKILL)

            def child(storage=storage, source=source, die=die) -> None:  # type: ignore[no-untyped-def]
                with steps_of_the_system(die):
                    work(storage, source)

            assert in_child(child) == -signal.SIGKILL
            present.append(complete_or_absent(folder, name))
            the_next_try_succeeds(folder, name, work)
    assert sorted(present) == present, "a file that was there was gone after a later step"
    assert {True, False} == set(present)


@every_case
@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, NoSpace), (errno.EIO, Unavailable)])
def test_every_step_fails_in_turn(tmp_path: Path, name: str, work: Work, code: int, kind: type[HoldfastError]) -> None:
    steps = steps_needed(tmp_path / "count", work)
    for number, failing in enumerate(steps, 1):
        folder = tmp_path / str(number)
        storage, source = fresh(folder)

        def fail(count: int, _step: str, call: Callable[[], object], at: int = number) -> object:
            if count == at:
                raise OSError(code, os.strerror(code))
            return call()

        raised: list[HoldfastError] = []
        with steps_of_the_system(fail):
            try:
                work(storage, source)
            except HoldfastError as error:
                raised.append(error)
        present = complete_or_absent(folder, name)
        if failing == "close":  # the number leaked here, but nothing may be lost in silence
            assert raised or present
        else:
            assert [type(error) for error in raised] == [kind], f"step {number}: {failing}"
            assert raised[0].hint
            assert not list(folder.rglob("*-tmp-[0-9a-f]*")) or failing in ("unlink", "link")
        the_next_try_succeeds(folder, name, work)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS flushes through fcntl, which is not counted here")
@every_case
def test_power_loss_order(tmp_path: Path, name: str, work: Work) -> None:
    """The content is flushed before the name appears, and the name, and every new folder, before the call returns."""
    storage, source = fresh(tmp_path / "vault")
    final = tmp_path / "vault" / name
    log: list[str] = []

    def note(_number: int, step: str, call: Callable[[], object]) -> object:
        result = call()
        log.append(step)
        return result

    real_fsync = os.fsync

    def fsync(file: int) -> None:
        real_fsync(file)
        inode = os.fstat(file).st_ino
        folders = {"data": tmp_path / "vault/data", "folder": final.parent}
        kinds = [kind for kind, path in folders.items() if path.exists() and path.stat().st_ino == inode]
        log.append(f"flush {(kinds or ['content'])[0]} named={final.exists()}")

    with steps_of_the_system(note):
        os.fsync = fsync
        work(storage, source)
    flushes = [entry for entry in log if entry.startswith("flush")]
    assert "flush content named=False" in flushes
    assert flushes[-1] == "flush folder named=True"
    if name == PACK:
        assert any(entry.startswith("flush data") for entry in flushes), "the new folder could be lost"


def strace_works() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


CHILD = """
import sys
from holdfast.storage import LocalStorage
storage = LocalStorage(sys.argv[1])
data = b"0123456789abcdef" * 4096
storage.write(sys.argv[2], data) if sys.argv[3] == "write" else storage.adopt(sys.argv[3], sys.argv[2])
"""


@pytest.mark.parametrize("calls", ["fsync", "?rename,?renameat,?renameat2,?link,?linkat", "?fchmod,?fchmodat", "write"])
@pytest.mark.parametrize("name", ["config", PACK])
def test_killed_by_the_kernel_at_a_system_call(tmp_path: Path, calls: str, name: str) -> None:
    if not strace_works():
        pytest.skip("needs strace and the permission to trace")
    if not os.access(sys.executable, os.X_OK):
        pytest.skip("this user may not start the interpreter a second time")
    sources = {**os.environ, "PYTHONPATH": str(Path(holdfast.__file__).parents[1])}
    for kind in ("write", "adopt"):
        if (kind, calls) == ("adopt", "write"):
            continue  # a rename moves no bytes
        folder = tmp_path / kind
        _storage, source = fresh(folder)
        how = "write" if kind == "write" else str(source)
        strace = ["strace", "-f", "-o", "/dev/null", "-e", f"inject={calls}:signal=KILL:when=1"]
        done = subprocess.run(
            [*strace, sys.executable, "-c", CHILD, str(folder), name, how],
            env=sources,
            capture_output=True,
            check=False,
        )
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
        complete_or_absent(folder, name)
        the_next_try_succeeds(folder, name, dict(zip(("write", "adopt"), WORKS[name], strict=True))[kind])


def test_processes_that_write_one_name_at_once(tmp_path: Path) -> None:
    storage, _source = fresh(tmp_path / "vault")
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            outcome = 1
            try:
                for step in range(10):
                    storage.write(f"data/{step:02x}/{step:064x}", DATA)
                storage.write("config", b"maker %d" % number)
                outcome = 0
            except HoldfastError as error:
                outcome = 2 if error.code == "invalid" else 1
            finally:
                os._exit(outcome)
        children.append(child)
    outcomes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert outcomes == [0, 2, 2, 2]
    assert len(list(storage.list("data"))) == 10
    assert storage.size("config") == len(b"maker 0")
