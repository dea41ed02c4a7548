"""Which process recorded something, told so exactly that its end can be proven later, and only on the same machine.

Two containers may share a host name and numbers of processes, and numbers are used again: so a run also says in which
run of the system, in which space of process numbers, and when its process began.
"""

from __future__ import annotations

import os
from functools import lru_cache
from hashlib import sha256

from holdfast.kernel.processes import is_running, process_started, read_text
from holdfast.kernel.values import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """A process. What the system does not tell (macOS, some containers) is empty or 0; ``pid_started`` is in ticks
    since the system's start, ``machine`` and ``boot`` are hashes of its ids."""

    pid: int
    machine: str = ""
    boot: str = ""
    pid_space: str = ""
    pid_started: int = 0

    def to_data(self) -> dict[str, str | int]:
        """For ``data["process"]`` of ``run.started``."""
        return {
            "machine": self.machine,
            "boot": self.boot,
            "pid_space": self.pid_space,
            "pid_started": self.pid_started,
        }


def this_process() -> Process:
    """The process that we are."""
    return _described(os.getpid())


def is_gone(process: Process, here: Process) -> bool:
    """Whether ``process``, of a host with our name, is proven to be gone. In doubt it is not."""
    if process.boot != here.boot:
        # The same machine was started anew; or another one has the same name.
        return bool(process.boot and here.boot and here.machine) and process.machine == here.machine
    if process.pid_space != here.pid_space:
        return False  # in another container of this machine, where one cannot look
    if not is_running(process.pid):
        return True
    return bool(process.pid_started) and process_started(process.pid) not in (0, process.pid_started)


@lru_cache(maxsize=1)
def _described(pid: int) -> Process:
    machine = _hashed(read_text("/etc/machine-id"))
    boot = _hashed(read_text("/proc/sys/kernel/random/boot_id"))
    # /proc may show another container's processes (a mount from outside): then its numbers are not ours.
    if not boot or read_text("/proc/self/stat").partition(" ")[0] != str(pid):
        return Process(pid, machine, boot)
    try:
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        space = ""
    return Process(pid, machine, boot, space, process_started(pid))


def is_near(process: Process, here: Process) -> bool:
    """Whether ``process``, of a host with our name, is where we would see its end."""
    return (process.machine, process.boot, process.pid_space) == (here.machine, here.boot, here.pid_space)


def _hashed(text: str) -> str:
    """Machine ids are not to be shown around (machine-id(5))."""
    return sha256(b"holdfast run " + text.encode()).hexdigest()[:16] if text else ""
