"""A PostgreSQL server of our own: a private folder, a free port of the loopback, never as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGED = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Postgres:
    """A running server, reached as the superuser ``tester`` without a password."""

    port: int
    programs: Path

    def url(self, database: str = "", user: str = "tester") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def sql(self, sql: str, database: str = "postgres", user: str = "tester") -> str:
        """What a query prints."""
        done = subprocess.run(
            [self.programs / "psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", self.url(database, user), "-c", sql],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="session")
def postgres(need: Callable[[str], str]) -> Iterator[Postgres]:
    """One server for all tests: each makes databases of its own."""
    found = sorted(PACKAGED.glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    programs = found[-1].parent if found else Path(need("initdb")).parent
    as_user: list[str] = []
    place = Path(tempfile.mkdtemp(prefix="holdfast-postgres-"))
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        name = next((name for name in ("postgres", "nobody") if _exists(name)), None)
        if name is None:
            pytest.skip("no unprivileged user to run PostgreSQL as")
        shutil.chown(place, name)
        as_user = [need("setpriv"), f"--reuid={name}", f"--regid={pwd.getpwnam(name).pw_gid}", "--clear-groups"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = place / "data"

    def run(*words: str | Path) -> None:
        done = subprocess.run([*as_user, *words], cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        run(programs / "initdb", "-D", data, "-U", "tester", "-A", "trust", "-N", "--no-locale", "-E", "UTF8")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        # its output goes to a file: otherwise the server would hold our pipe open
        run(programs / "pg_ctl", "-D", data, "-l", place / "log", "-w", "-o", settings, "start")
        yield Postgres(port, programs)
    finally:
        with contextlib.suppress(AssertionError):
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(place, ignore_errors=True)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
