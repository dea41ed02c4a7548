"""What proves that the process which wrote a lock runs or is gone: names of machines and numbers of processes do not.

Two containers may share a host name, and a process of one does not exist in the other. So our locks also say in which
space of process numbers the number counts, and when the process began (docs/decisions/0014-lock-evidence.md).
"""

from __future__ import annotations

import contextlib
import os
import time
from enum import Enum
from functools import lru_cache
from hashlib import sha256

from holdfast.format.lock import LockInfo
from holdfast.kernel.processes import is_running, process_started, read_text
from holdfast.kernel.values import dataclass

STALE_SECONDS = 1800.0
"""Locks are renewed every five minutes. After half an hour without, restic calls one stale, and gives up its own work.
"""


class Standing(Enum):
    """What is known of a lock's process; the value is said of it to people."""

    RUNNING = "its process is running on this machine"
    GONE = "its process on this machine is gone"
    ABSENT = "no such process is running here, unless it is in a container that has this host's name"
    EARLIER = "this machine was started anew since"
    NAMESAKE = "a process with that number is running here"
    CONTAINED = "it is in another container of this machine, where one cannot look"
    ELSEWHERE = "it is of another machine, where one cannot look"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a process is: hashes of the machine's id, of this run of its system, of the space of its process numbers.

    Empty where the system does not tell (macOS). ``pid_started`` is in clock ticks since the system's start or 0.
    """

    hostname: str
    machine: str = ""
    boot: str = ""
    pid_space: str = ""
    pid_started: int = 0


def origin() -> Origin:
    """Of this very process."""
    return _origin(os.getpid(), os.uname().nodename)


@lru_cache(maxsize=1)
def _origin(pid: int, hostname: str) -> Origin:
    machine = _hashed(read_text("/etc/machine-id"))
    boot = read_text("/proc/sys/kernel/random/boot_id")
    started = process_started(pid)
    # /proc may show another container's processes (a mount from outside): then its numbers are not ours.
    if not boot or not started or read_text("/proc/self/stat").partition(" ")[0] != str(pid):
        return Origin(hostname, machine)
    try:
        spaces = os.readlink("/proc/self/ns/pid")
    except OSError:
        return Origin(hostname, machine, _hashed(boot))
    with contextlib.suppress(OSError):  # before Linux 5.6
        spaces += os.readlink("/proc/self/ns/time")  # where it differs, so does the time that a process began
    return Origin(hostname, machine, _hashed(boot), _hashed(boot + spaces), started)


def standing(lock: LockInfo, age_seconds: float, here: Origin, up_seconds: float) -> Standing:
    """What is known at ``here`` of the process that wrote ``lock``, which was renewed ``age_seconds`` ago.

    ``up_seconds`` is for how long this system runs. The name of a pid space may be given to another one after its end,
    but then all of its processes have ended: what does not run in the space of that name is gone.
    """
    if lock.hostname != here.hostname or (lock.machine and here.machine and lock.machine != here.machine):
        return Standing.ELSEWHERE
    found = is_running(lock.pid)
    if lock.pid_space and lock.pid_space == here.pid_space:
        reused = found and lock.pid_started and process_started(lock.pid) not in (0, lock.pid_started)
        return Standing.RUNNING if found and not reused else Standing.GONE
    if lock.boot and here.boot:
        if lock.boot != here.boot:
            # Copies of one machine share its id; but what was renewed since this one's start is another's.
            same = lock.machine and lock.machine == here.machine and age_seconds > up_seconds
            return Standing.EARLIER if same else Standing.ELSEWHERE
        return Standing.CONTAINED
    return Standing.NAMESAKE if found else Standing.ABSENT


def is_abandoned(known: Standing, age_seconds: float) -> bool:
    """Whether a lock may be removed without asking: its process is proven gone, or it is of this host and stale.

    One that says to be of another machine never is.
    """
    if known in (Standing.ELSEWHERE, Standing.RUNNING, Standing.NAMESAKE):
        return False
    return known is Standing.GONE or age_seconds > STALE_SECONDS


def is_stale(known: Standing, age_seconds: float) -> bool:
    """Whether ``unlock`` removes a lock: restic's rule (half an hour old, or no such process on this host), unless we
    know better.
    """
    if known is Standing.RUNNING:
        return False
    return known in (Standing.GONE, Standing.ABSENT, Standing.EARLIER) or age_seconds > STALE_SECONDS


def up_seconds() -> float:
    """For how long this system runs, sleep included; infinite where it does not tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else float("inf")


def _hashed(text: str) -> str:
    """Machine ids are not to be shown around (machine-id(5)): locks carry what tells two of them apart."""
    return sha256(b"holdfast lock " + text.encode()).hexdigest()[:16] if text else ""
