"""A PostgreSQL server of our own, without a port, for as long as a drill takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import NotFound
from holdfast.sources.postgres import Server, query
from holdfast.sources.watched import place_for, prepare, server_running, unprivileged

PREPARED = 64 << 20
"""Bytes that an empty server takes."""

_PACKAGED = "/usr/lib/postgresql"
_USER = "holdfast"
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",  # part of the socket's name
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "logging_collector": "off",
    "dynamic_shared_memory_type": "mmap",  # in its folder: nothing is left in /dev/shm
}


@contextmanager
def scratch_postgres(base: bytes, needed: int, *, clock: Clock, cancel: Cancel) -> Iterator[Server]:
    """Make and start a server with room for ``needed`` bytes; it ends, and its folder goes away, on leaving.

    It listens only on a socket in a folder that nobody else can enter, and dies with this process. Raises ``NotFound``
    where PostgreSQL's server is not installed, ``NoSpace``, ``Unavailable``, ``HoldfastError``.
    """
    programs = _programs()
    account = unprivileged("postgres")
    with place_for(base, account, needed + PREPARED) as place:
        data = os.path.join(place.data, "data")
        words = [str(programs / "initdb"), "-D", data, "-U", _USER, "-A", "trust", "-N", "-E", "UTF8", "--no-locale"]
        prepare(words, name="initdb", place=place, account=account, cancel=cancel, clock=clock)
        settings = {**_SETTINGS, "unix_socket_directories": f'"{place.sockets}"'}
        words = [str(programs / "postgres"), "-D", data]
        words += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        server = Server((("PGHOST", place.sockets), ("PGPORT", "5432"), ("PGUSER", _USER)), alone=True)
        socket = os.path.join(place.sockets, ".s.PGSQL.5432")
        with server_running(
            words,
            name="PostgreSQL",
            place=place,
            account=account,
            end="QUIT",  # "immediate shutdown": it removes its shared memory
            socket=socket,
            answers=lambda: query(server, "SELECT 1", cancel) == ["1"],
            clock=clock,
            cancel=cancel,
        ):
            yield server


def _programs() -> Path:
    """The newest server's programs: dumps of older ones load into it."""
    packaged = [path for path in Path(_PACKAGED).glob("*/bin") if path.parent.name.isdigit()]
    for folder in sorted(packaged, key=lambda path: int(path.parent.name), reverse=True):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    found = shutil.which("initdb")
    if found is not None and Path(found).resolve().with_name("postgres").exists():
        return Path(found).resolve().parent
    raise NotFound(
        "PostgreSQL's server is not installed, so no scratch server can be started",
        hint="Debian: apt install postgresql. Or name a server: 'postgres: URL' in the plan's drill.",
    )
