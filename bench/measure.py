"""Runs one command and measures all of it: wall time, processor time and the memory of the whole process tree."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.025
# Reading smaps_rollup of a large process takes milliseconds, and holds its memory map meanwhile: a sample may cost the
# measured command at most a twentieth of its time.
REST_AFTER_SAMPLE = 20

HOW_MEMORY = (
    "peak memory: sum of the proportional set sizes (PSS) of all processes of the tree, "
    f"sampled every {SAMPLE_SECONDS * 1000:.0f} ms or more"
)


class CommandFailed(Exception):
    """A measured command ended with an exit status that is not success: its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """``wall``, ``user`` and ``system`` in seconds; ``peak_pss`` (the tree; None where the system cannot tell) and
    ``max_rss`` (the most that one of its processes had resident) in bytes."""

    wall: float
    user: float
    system: float
    peak_pss: int | None
    max_rss: int

    @property
    def cpu(self) -> float:
        """Processor seconds of the command and of every descendant that it waited for."""
        return self.user + self.system


def measure(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> Measurement:
    """Runs ``command`` to its end. Its output goes to ``log``. Raises `CommandFailed` if it fails."""
    with log.open("ab") as output:
        output.write(f"\n$ {' '.join(command)}\n".encode())
        output.flush()
        said_before = output.tell()
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        sampler = _Sampler(process.pid)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        sampler.stop()
    if process.returncode != 0:
        said = log.read_bytes()[said_before:].decode(errors="replace")
        tail = "\n".join(said.splitlines()[-15:])
        raise CommandFailed(f"exit status {process.returncode}: {' '.join(command)}\n{tail}")
    # ru_maxrss is for systems without /proc (macOS counts it in bytes): on Linux it includes what this process itself
    # had resident when it forked.
    max_rss = sampler.largest or usage.ru_maxrss
    return Measurement(wall, usage.ru_utime, usage.ru_stime, sampler.peak, max_rss)


class _Sampler(threading.Thread):
    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.peak: int | None = None
        self.largest = 0
        self._root = root
        self._ended = threading.Event()

    def run(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            begin = time.perf_counter()
            processes = _tree(self._root)
            total = sum(_field(pid, "smaps_rollup", b"Pss:") for pid in processes)
            if total:
                self.peak = max(self.peak or 0, total)
            self.largest = max(self.largest, *(_field(pid, "status", b"VmHWM:") for pid in processes))
            pause = max(SAMPLE_SECONDS, REST_AFTER_SAMPLE * (time.perf_counter() - begin))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _tree(root: int) -> list[int]:
    """The process and all its descendants, by the kernel's own lists of children."""
    found = [root]
    for pid in found:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as children:
                    found += map(int, children.read().split())
            except OSError:
                continue
    return found


def _field(pid: int, file: str, name: bytes) -> int:
    """A figure that /proc gives in kB, in bytes; 0 where it cannot be had."""
    try:
        with open(f"/proc/{pid}/{file}", "rb") as lines:
            for line in lines:
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
    except OSError:  # ended in between, or not ours to read
        pass
    return 0
