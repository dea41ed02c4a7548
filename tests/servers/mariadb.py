"""A MariaDB server of our own: a private folder, a free port of the loopback, never as root."""

from __future__ import annotations

import os
import pwd
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
class Mariadb:
    """A running server, reached by TCP as ``tester``, who may do everything, with the password ``pass"word``."""

    port: int
    client: str

    def url(self, database: str = "") -> str:
        return f"mariadb://127.0.0.1:{self.port}/{database}"

    @property
    def my_cnf(self) -> str:
        """The user's option file."""
        return '[client]\nuser=tester\npassword="pass\\"word"\n'

    def sql(self, sql: str, database: str = "") -> str:
        """What a query prints."""
        words = [self.client, "--no-defaults", "-h127.0.0.1", f"-P{self.port}", "-utester", '-ppass"word', "-BN"]
        done = subprocess.run([*words, "-e", sql, database], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def mariadb(mariadb_server: Mariadb) -> Iterator[Mariadb]:
    """The server, without any database; those that the test leaves, perhaps in the middle of something, go with it."""
    yield mariadb_server
    system = "('information_schema', 'performance_schema', 'mysql', 'sys')"
    names = f"SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN {system}"
    for name in mariadb_server.sql(names).splitlines():
        mariadb_server.sql(f"DROP DATABASE `{name}`")


@pytest.fixture(scope="session")
def mariadb_server(need: Callable[[str], str]) -> Iterator[Mariadb]:
    """One server for all tests."""
    server, install, client = need("mariadbd"), need("mariadb-install-db"), need("mariadb")
    place = Path(tempfile.mkdtemp(prefix="holdfast-mariadb-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(place, user.pw_uid, user.pw_gid)
        as_user = [need("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, first = f"--datadir={place}/data", place / "first.sql"
    first.write_text(
        "CREATE USER tester@'127.0.0.1' IDENTIFIED BY 'pass\"word';\n"
        "GRANT ALL ON *.* TO tester@'127.0.0.1' WITH GRANT OPTION;\n"
    )
    first.chmod(0o644)
    environ = {**os.environ, "TMPDIR": str(place)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", "env": environ}
    child = None
    try:
        words = [install, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run([*as_user, *words], check=True, **quiet)  # type: ignore[call-overload]
        words = [server, "--no-defaults", data, f"--port={port}", "--bind-address=127.0.0.1", f"--init-file={first}"]
        words += [
            f"--socket={place}/s",
            f"--pid-file={place}/pid",
            "--innodb-flush-method=nosync",
            "--skip-name-resolve",
        ]
        child = subprocess.Popen([*as_user, *words], **quiet)  # type: ignore[call-overload]
        made = Mariadb(port, client)
        for _ in range(300):
            assert child.poll() is None, "MariaDB ended"
            try:
                made.sql("SELECT 1")
                break
            except AssertionError:
                time.sleep(0.1)
        yield made
    finally:
        if child is not None:
            child.kill()
            child.wait()
        shutil.rmtree(place, ignore_errors=True)
