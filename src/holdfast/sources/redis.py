"""Redis (and Valkey, KeyDB) as a source: all that a server holds, as the RDB file that it gives to a replica."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from urllib.parse import parse_qsl, unquote, urlsplit

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Denied, Invalid
from holdfast.kernel.values import dataclass
from holdfast.sources.base import Stream, StreamEntry, as_name
from holdfast.sources.rdb import Whole
from holdfast.sources.resp import Connection

KIND = b"redis"
DUMP = b"dump.rdb"
SCHEMES = ("redis", "rediss")
_EXAMPLE = "For example: redis://localhost:6379"


@dataclass(frozen=True, slots=True)
class Server:
    """A server; ``database`` is the number that was named, if one was. ``password``: one was written into the URL."""

    host: str = "localhost"
    port: int = 6379
    socket: str = ""
    user: str = ""
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = field(default="", repr=False)
    password_file: str = ""
    database: int | None = None
    password: bool = False

    @property
    def label(self) -> str:
        """A name for the server."""
        return self.socket or f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """The same, as the name of what is saved of it."""
        local = self.socket or self.host in ("localhost", "127.0.0.1", "::1")
        return "local" if local else self.host

    def find_password(self) -> str:
        """The password: from its file, or from ``REDISCLI_AUTH`` (as for redis-cli), or nothing. Raises ``Denied``."""
        if not self.password_file:
            return os.environ.get("REDISCLI_AUTH", "")
        try:
            with open(os.path.expanduser(self.password_file), encoding="utf-8", errors="surrogateescape") as file:
                return file.readline().rstrip("\r\n")
        except OSError as error:
            raise Denied(
                f"the password file of Redis cannot be read: {error.strerror}", hint=f"Look at {self.password_file}."
            ) from error


def read_url(url: str) -> Server:
    """``redis://[user@][host][:port][/NUMBER][?socket=&password_file=&ca=&cert=&key=]``; ``rediss`` for TLS.

    Raises ``Invalid``.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Invalid("the Redis URL cannot be read", hint=_EXAMPLE) from error
    if parts.scheme not in SCHEMES:
        raise Invalid(f"'{url.split('@')[-1]}' is no Redis URL", hint=_EXAMPLE)
    more = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(more) - {"socket", "password_file", "ca", "cert", "key"})
    if unknown:
        raise Invalid(
            f"the parameter '{unknown[0]}' of a Redis URL is not known here",
            hint="There are socket, password_file, ca, cert and key.",
        )
    number = parts.path.strip("/")
    if number and not number.isdecimal():
        raise Invalid(f"'{number}' is no number of a Redis database", hint=f"{_EXAMPLE}/0")
    return Server(
        host=parts.hostname or "localhost",
        port=port or 6379,
        user=unquote(parts.username or ""),
        tls=parts.scheme == "rediss",
        database=int(number) if number else None,
        password=parts.password is not None,
        **more,
    )


@dataclass(frozen=True, slots=True)
class RedisSource:
    """All databases of one server. ``limit`` seconds are the most that the dump may take."""

    name: str
    server: Server
    limit: float | None = None

    @property
    def place(self) -> tuple[bytes, ...]:
        """``redis/NAME``, a folder."""
        return KIND, as_name(self.name)

    def entries(self, _cancel: Cancel) -> Sequence[StreamEntry]:
        """The one file."""
        return (StreamEntry((*self.place, DUMP)),)

    @contextmanager
    def open(self, _entry: StreamEntry, cancel: Cancel) -> Iterator[Stream]:
        """Ask for the dump. ``finish`` raises unless it came whole: magic, end, and checksum are looked at."""
        with Connection(self.server, cancel, self.limit) as link:
            flow = _Flow(link)
            try:
                yield flow
            finally:
                flow.close()


class _Flow:
    """Carries the dump from the connection into a pipe, and looks at it on its way."""

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._error: BaseException | None = None
        self.fd, self._into = os.pipe()
        self._carrier = threading.Thread(target=self._carry, daemon=True)
        self._carrier.start()

    def finish(self) -> None:
        self._carrier.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        os.close(self.fd)
        self._link.close()
        self._carrier.join()

    def _carry(self) -> None:
        try:
            write(self._into, self._link.dump())
        except BaseException as error:
            self._error = error
        finally:
            os.close(self._into)


def write(fd: int, pieces: Iterable[bytes]) -> None:
    """Write a dump to ``fd``. Raises ``Corrupt`` (having written it) where it is not a whole one."""
    whole = Whole()
    for piece in pieces:
        whole.look(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(fd, view) :]
    whole.finish()
