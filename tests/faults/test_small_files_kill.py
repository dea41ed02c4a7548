"""Runs that are killed, or refused room, in the middle of copying many small files: the next run does the rest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.mirrorkit import tree

SOURCE = Path(__file__).parents[2] / "src"
FILES = 60
"""In each folder: as many as go into one call, so that one thread makes at least so many of each system call."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(3):
        folder = tmp_path / "source" / f"folder {number}"
        folder.mkdir(parents=True)
        for each in range(FILES):
            file = folder / f"file {each}"
            file.write_bytes(b"%d %d\n" % (number, each) * (each + 1))
            file.chmod(0o640)  # a copy is given these at the end, not when it is made
    return tmp_path / "source"


@pytest.fixture
def holdfast(tmp_path: Path, need: Callable[[str], str]) -> Callable[..., int]:
    """``holdfast("backup", ..., inject="renameat:...")`` runs it, with strace interfering."""
    (tmp_path / "home").mkdir()
    environ = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(SOURCE), "PATH": os.defpath, "LANG": "C.UTF-8"}

    def run(*words: object, inject: str = "") -> int:
        traced = [need("strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"inject={inject}"] if inject else []
        command = [*traced, sys.executable, "-m", "holdfast", "-q", *map(str, words)]
        done = subprocess.run(command, env=environ, capture_output=True, timeout=120, check=False)
        if b"ptrace" in done.stderr or b"invalid" in done.stderr:
            pytest.skip("strace may not interfere here")
        assert b"Traceback" not in done.stderr, done.stderr
        return done.returncode

    return run


@pytest.mark.parametrize("kind", ["mirror", "versioned"])
@pytest.mark.parametrize("call", ["renameat", "futimesat,utimensat", "fchmod"])
def test_the_run_after_a_killed_one_does_the_rest(
    tmp_path: Path, source: Path, holdfast: Callable[..., int], kind: str, call: str
) -> None:
    place = tmp_path / "vault"
    assert holdfast("init", "--kind", kind, place) == 0
    backup = ("backup", source, "--to", place)
    assert holdfast(*backup, inject=f"{call}:signal=KILL:when=30") != 0
    for path in (place / str(source)[1:]).rglob("file *"):
        assert path.read_bytes() == Path("/", path.relative_to(place)).read_bytes()
    assert holdfast(*backup) == 0
    assert holdfast("check", "--read-data", "--vault", place) == 0
    target = tmp_path / "target"
    restore = ("restore", f"latest:{source}", "--vault", place, "--target", target)
    assert holdfast(*restore, inject=f"{call}:signal=KILL:when=30") != 0
    for path in target.rglob("file *"):
        assert path.read_bytes() == (source / path.relative_to(target)).read_bytes()
    assert holdfast(*restore, "--delete") == 0
    assert tree(target) == tree(source)


@pytest.mark.parametrize("kind", ["mirror", "versioned"])
def test_a_full_disk_is_told_and_the_next_run_does_the_rest(
    tmp_path: Path, source: Path, holdfast: Callable[..., int], kind: str
) -> None:
    place = tmp_path / "vault"
    assert holdfast("init", "--kind", kind, place) == 0
    backup = ("backup", source, "--to", place)
    assert holdfast(*backup, inject="renameat:error=ENOSPC:when=20+") not in (0, 3)
    assert holdfast(*backup) == 0
    target = tmp_path / "target"
    assert holdfast("restore", f"latest:{source}", "--vault", place, "--target", target) == 0
    assert tree(target) == tree(source)


def test_no_file_is_born_open_to_somebody_whom_it_is_not_meant_for(tmp_path: Path, need: Callable[[str], str]) -> None:
    script = """
import os, sys
from holdfast.files.small import write_small
os.umask(0)
fd = os.open(sys.argv[1], os.O_RDONLY)
own = {"uid": os.getuid(), "gid": os.getgid(), "mtime_ns": 0, "atime_ns": 0}
for mode in range(0o1000):
    write_small(fd, b"tmp", b"%o" % mode, b"x", st_mode=mode, **own)
"""
    log = tmp_path / "log"
    (tmp_path / "here").mkdir()
    command = [need("strace"), "-qq", "-o", log, "-e", "trace=openat", sys.executable, "-c", script, tmp_path / "here"]
    environ = {"PYTHONPATH": str(SOURCE), "PATH": os.defpath}
    done = subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False)
    born = [int(mode, 8) for mode in re.findall(r'"tmp", O_RDWR\|O_CREAT\|.*, (0[0-7]*)\) = ', log.read_text())]
    if b"ptrace" in done.stderr or not born:
        pytest.skip("strace may not look here, or the C extension was not built")
    assert len(born) == 0o1000
    for wanted, mode in enumerate(born):
        owner, group, others = wanted >> 6, wanted >> 3 & 7, wanted & 7
        if mode != 0o600:
            assert mode == wanted
            assert group == others == others & owner
