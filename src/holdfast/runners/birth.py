"""What a child does between fork and exec: a process group of its own, the terminal, and an end with its parent."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def in_foreground() -> bool:
    """Whether standard input is a terminal that this process group may read from."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def take_terminal(group: int) -> None:
    """Give the terminal of standard input to the process group, even from the background."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        with suppress(OSError):
            os.tcsetpgrp(0, group)
    finally:
        signal.signal(signal.SIGTTOU, before)


def preparation(*, terminal: bool) -> Callable[[], None]:
    """What subprocess runs in the child: it leads a process group, which gets the terminal if ``terminal`` says so.

    Where the system can (Linux), SIGTERM reaches the child when its parent is gone, kill -9 included. Only for a
    process without threads: it runs Python after a fork.
    """
    parent = os.getpid()
    prctl = None
    if sys.platform.startswith("linux"):
        import ctypes

        with suppress(OSError, AttributeError):
            prctl = ctypes.CDLL(None).prctl

    def prepare() -> None:
        os.setpgid(0, 0)
        if terminal:
            take_terminal(os.getpid())
        if prctl is not None:
            prctl(_SET_DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(128 + signal.SIGTERM)

    return prepare
