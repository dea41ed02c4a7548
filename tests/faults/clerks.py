"""What tests let a clerk process open: a local folder in which some names make things happen."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from holdfast.kernel.errors import Denied, Unavailable
from holdfast.storage import Info, LocalStorage, Manner, Storage
from holdfast.storage.apart import Apart
from holdfast.storage.retrying import Pause, Retrying

OPENER = f"{__name__}:eventful"


class Eventful(LocalStorage):
    """A folder; asked for the size of ``do/...`` it does that. Every such call adds a letter to the file ``calls``."""

    def size(self, name: str) -> int:
        folder, _, what = name.partition("/")
        if folder != "do":
            return super().size(name)
        calls = Path(self.location, "calls")
        with calls.open("a") as file:
            file.write("x")
        count = calls.stat().st_size
        if what == "die" or (what == "dieonce" and count == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "fail" or (what == "failtwice" and count <= 2):
            raise Unavailable("the line is dead", hint="Call the company.", retry_after=0.05)
        if what == "refuse":
            raise Denied("not you", hint="Ask for it.", name=name, odd=[1, 2.5, None, {"a": b"b"}])
        if what == "strange":
            raise Denied("odd", hint="odd hint", thing=lambda: None)
        if what == "bug":
            raise ZeroDivisionError("oops")
        if what == "nothing for long":
            time.sleep(60)
        if what == "pid":
            return os.getpid()
        return count

    def list(self, folder: str) -> Iterator[Info]:
        if folder != "do":
            return super().list(folder)
        return self._dying()

    def _dying(self) -> Iterator[Info]:
        for number in range(1500):
            yield Info(f"do/{number}", number)
        os.kill(os.getpid(), signal.SIGKILL)


def eventful(text: str, manner: Manner, *, pause: Pause, tell: Callable[[str], None]) -> Storage:
    """An :class:`Eventful` folder with retries around it, that tells of trouble at once."""
    return Retrying(Eventful(text), manner, pause=pause, tell=tell)


def pid_of(place: Apart) -> int:
    """The process id of the clerk behind an :class:`Eventful` folder."""
    return place.size("do/pid")


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    return not done.stdout.strip().startswith(b"Z") and bool(done.stdout.strip())


def eventually(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether it becomes true in that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return true()


def calls(place: Apart) -> int:
    """How many ``do/...`` were asked for."""
    path = Path(place.location, "calls")
    return path.stat().st_size if path.exists() else 0
