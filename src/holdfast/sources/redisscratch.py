"""A Redis server of our own that loads one dump, without a port, for as long as a drill takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import NotFound
from holdfast.sources.redis import DUMP, Server
from holdfast.sources.resp import Connection, Refusal
from holdfast.sources.watched import place_for, server_running, unprivileged

_PROGRAMS = ("redis-server", "valkey-server")


@contextmanager
def scratch_redis(base: bytes, dump: bytes, *, clock: Clock, cancel: Cancel) -> Iterator[Server]:
    """Start a server on a copy of the file ``dump``; it ends, and its folder goes away, on leaving.

    It listens only on a socket in a folder that nobody else can enter, and dies with this process. Raises ``NotFound``
    where no server is installed, ``NoSpace``, and ``Unavailable`` with its last words where it cannot load the dump.
    """
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        raise NotFound("Redis' server is not installed", hint="Debian: apt install redis-server.")
    account = unprivileged("redis")
    with place_for(base, account, os.path.getsize(dump) + (64 << 20)) as place:
        copy = os.path.join(place.data, os.fsdecode(DUMP))
        shutil.copyfile(dump, copy)
        if account.owner is not None:
            os.chown(copy, *account.owner)
        socket = os.path.join(place.sockets, "s")
        words = [program, "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--dir", place.data]
        words += ["--dbfilename", os.path.basename(copy), "--save", "", "--appendonly", "no", "--daemonize", "no"]
        server = Server(socket=socket, password_file=os.devnull)  # not the password that our environment may hold

        def answers() -> bool:
            with Connection(server, cancel, 10.0) as connection:
                return not isinstance(connection.call("DBSIZE"), Refusal)  # it is loading

        with server_running(
            words,
            name="Redis",
            place=place,
            account=account,
            end="KILL",  # its data are thrown away
            socket=socket,
            answers=answers,
            clock=clock,
            cancel=cancel,
        ):
            yield server
