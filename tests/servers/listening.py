"""A server process of a test: started on a private port of loopback, waited for, and stopped at the end."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path


def free_port() -> int:
    """A port of loopback that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(
    command: Callable[[int], Sequence[str]],
    log: Path,
    environ: Mapping[str, str] | None = None,
    seconds: float = 60.0,
) -> Iterator[int]:
    """Run ``command(port)`` until the end of the block; the port, once something listens on it.

    Its output goes to ``log``, whose end is shown if it does not start. Another port is tried if it ends at once.
    """
    for turn in range(3):
        port = free_port()
        with log.open("ab") as output:
            process = subprocess.Popen(
                command(port), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ
            )
        try:
            if _listens(process, port, seconds):
                yield port
                return
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if turn == 2:
            raise AssertionError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


def _listens(process: subprocess.Popen[bytes], port: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
        time.sleep(0.05)
    return False
