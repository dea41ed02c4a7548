"""A MariaDB server of our own, without a port, for as long as a drill takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import NotFound
from holdfast.sources.mariadb import Server, query
from holdfast.sources.watched import place_for, prepare, server_running, unprivileged

PREPARED = 256 << 20
"""Bytes that an empty server takes: mostly its logs."""

_ELSEWHERE = "/usr/sbin:/usr/libexec:/usr/local/sbin:/usr/local/libexec"  # servers are rarely on a user's PATH


@contextmanager
def scratch_mariadb(base: bytes, needed: int, *, clock: Clock, cancel: Cancel) -> Iterator[Server]:
    """Make and start a server with room for ``needed`` bytes; it ends, and its folder goes away, on leaving.

    It listens only on a socket in a folder that nobody else can enter, and dies with this process. Raises ``NotFound``
    where MariaDB's server is not installed, ``NoSpace``, ``Unavailable``, ``HoldfastError``.
    """
    install, program = _program("mariadb-install-db", "mysql_install_db"), _program("mariadbd", "mysqld")
    account = unprivileged("mysql")
    with place_for(base, account, needed + PREPARED) as place:
        data, socket = os.path.join(place.data, "data"), os.path.join(place.sockets, "s")
        words = [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
        words += ["--skip-test-db", "--skip-name-resolve"]
        prepare(words, name="mariadb-install-db", place=place, account=account, cancel=cancel, clock=clock)
        words = [program, "--no-defaults", f"--datadir={data}", f"--socket={socket}", "--skip-networking"]
        words += [f"--pid-file={place.data}/pid", f"--tmpdir={place.data}", "--skip-log-bin", "--skip-name-resolve"]
        words += ["--loose-innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=0"]
        words += ["--loose-performance-schema=off", "--max-allowed-packet=1G"]
        server = Server((("user", "root"), ("socket", socket), ("protocol", "socket")), alone=True)
        with server_running(
            words,
            name="MariaDB",
            place=place,
            account=account,
            end="KILL",  # its data are thrown away
            socket=socket,
            answers=lambda: query(server, "SELECT 1", cancel) == ["1"],
            clock=clock,
            cancel=cancel,
        ):
            yield server


def _program(*names: str) -> str:
    for name in names:
        path = shutil.which(name) or shutil.which(name, path=_ELSEWHERE)
        if path is not None:
            return path
    raise NotFound(
        f"{names[0]} is not installed, so no scratch server can be started",
        hint="Debian: apt install mariadb-server. Or name a server: 'mariadb: URL' in the plan's drill.",
    )
