"""Redis servers of our own: private folders, no dumps of theirs, a socket each and a free port of the loopback."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Redis:
    """A running server; the password of its user ``default`` is ``password``, if that is not empty."""

    port: int
    place: Path
    pid: int
    password: str = ""

    def url(self, rest: str = "") -> str:
        return f"redis://127.0.0.1:{self.port}{rest}"

    def __call__(self, *words: bytes | str | int, database: int = 0) -> bytes:
        """What ``redis-cli`` prints for a command, without the last line end."""
        secret = ["-a", self.password, "--no-auth-warning"] if self.password else []
        client = ["redis-cli", "-p", str(self.port), "-n", str(database), *secret]
        done = subprocess.run([*client, *map(_word, words)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not done.stdout.startswith((b"ERR", b"NO", b"WRONG")), done.stdout
        return done.stdout.removesuffix(b"\n")


def _word(word: bytes | str | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


Start = Callable[..., Redis]


@pytest.fixture
def redis(need: Callable[[str], str]) -> Iterator[Start]:
    """``redis("--option", "value", password="...")`` starts a server that lives as long as the test."""
    program = need("redis-server")
    need("redis-cli")
    with contextlib.ExitStack() as stack:

        def start(*options: str | Path, password: str = "") -> Redis:
            place = Path(tempfile.mkdtemp(prefix="hf-redis-", dir="/tmp"))  # a socket's name has to be short
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            words = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", place]
            words += ["--unixsocket", place / "s", "--repl-diskless-sync-delay", "0", *options]
            words += ["--requirepass", password] if password else []
            log = stack.enter_context((place / "log").open("wb"))
            child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
            stack.callback(child.wait)
            stack.callback(child.kill)
            for _ in range(600):
                assert child.poll() is None, (place / "log").read_text()
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                    return Redis(port, place, child.pid, password)
                time.sleep(0.05)
            raise AssertionError((place / "log").read_text())

        yield start
