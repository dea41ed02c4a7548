"""MariaDB and MySQL as a source: every database by ``mariadb-dump`` (or ``mysqldump``), as of one instant."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from urllib.parse import parse_qsl, unquote, urlsplit

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError, Invalid, NotFound
from holdfast.kernel.values import dataclass
from holdfast.sources.base import Stream, StreamEntry, as_name
from holdfast.sources.program import output, running

KIND = b"mariadb"
DUMP = b".sql"
SCHEMES = ("mariadb", "mysql")
_SYSTEM = "('information_schema', 'performance_schema', 'mysql', 'sys')"
_LIST = f"SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN {_SYSTEM} ORDER BY 1"
_OPTIONS = {"socket": "socket", "ssl-ca": "ssl-ca", "ssl-cert": "ssl-cert", "ssl-key": "ssl-key"}


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and perhaps one database of it. ``options`` go into an option file, never into arguments.

    ``alone``: nothing else counts, least of all the user's own option files, which may name another server.
    """

    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    database: str = ""
    alone: bool = False

    @property
    def label(self) -> str:
        """A name for the server."""
        return dict(self.options).get("host", "local")

    @property
    def password(self) -> bool:
        """Whether a password was written into the URL."""
        return any(key == "password" for key, _ in self.options)

    @contextmanager
    def option_file(self) -> Iterator[tuple[str, int]]:
        """(first argument for a client program, descriptor that it must inherit): options that only it can read."""
        lines = [f'{key}="{_escaped(value)}"' for key, value in self.options]
        read, write = os.pipe()  # holds 64 KiB without a reader: no file with a password is ever made
        try:
            os.write(write, "\n".join(["[client]", *lines, ""]).encode("utf-8", "surrogateescape"))
        finally:
            os.close(write)
        try:
            yield f"--defaults-{'' if self.alone else 'extra-'}file=/dev/fd/{read}", read
        finally:
            os.close(read)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def read_url(url: str) -> Server:
    """``mariadb://[user[:password]@][host][:port][/database][?socket=PATH]``, or with ``mysql``. Raises ``Invalid``.

    What is missing, password included, is taken from the user's own option files (``~/.my.cnf``).
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Invalid("the MariaDB URL cannot be read", hint="For example: mariadb://localhost/app") from error
    if parts.scheme not in SCHEMES:
        raise Invalid(f"'{url.split('@')[-1]}' is no MariaDB URL", hint="For example: mariadb://localhost/app")
    found: list[tuple[str, str]] = []
    for key, value in (
        ("user", unquote(parts.username or "")),
        ("password", unquote(parts.password or "")),
        ("host", parts.hostname or ""),
        ("port", str(port or "")),
    ):
        if value:
            found.append((key, value))
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in _OPTIONS:
            raise Invalid(f"the parameter '{key}' of a MariaDB URL is not known here", hint="Use an option file.")
        found.append((_OPTIONS[key], value))
    return Server(tuple(found), unquote(parts.path.removeprefix("/")))


@dataclass(frozen=True, slots=True)
class MariadbSource:
    """One database of a server, or all but the system's own where none was named."""

    name: str
    server: Server
    limit: float | None = None

    @property
    def place(self) -> tuple[bytes, ...]:
        """``mariadb/NAME``, a folder."""
        return KIND, as_name(self.name)

    def entries(self, cancel: Cancel) -> Sequence[StreamEntry]:
        """A ``.sql`` for every database. Raises ``HoldfastError`` with what the server said."""
        names = [self.server.database] if self.server.database else query(self.server, _LIST, cancel)
        return [StreamEntry((*self.place, as_name(name) + DUMP), name) for name in names]

    @contextmanager
    def open(self, entry: StreamEntry, cancel: Cancel) -> Iterator[Stream]:
        """Start the dump: one transaction, row by row, with routines, events and triggers."""
        with self.server.option_file() as (argument, fd):
            words = [program("mariadb-dump", "mysqldump"), argument, "--single-transaction", "--quick", "--routines"]
            words += ["--events", "--triggers", "--hex-blob", "--skip-dump-date", "--", entry.item]
            with running(words, cancel=cancel, limit=self.limit, inherit=(fd,)) as run:
                yield run


def query(server: Server, sql: str, cancel: Cancel, *, limit: float = 60.0) -> list[str]:
    """The lines that a query gives, within ``limit`` seconds. Raises ``HoldfastError`` with what the server said."""
    with server.option_file() as (argument, fd):
        words = [program("mariadb", "mysql"), argument, "--batch", "--raw", "--skip-column-names"]
        try:
            text = output(words, cancel=cancel, feed=sql.encode("utf-8", "surrogateescape"), limit=limit, inherit=(fd,))
        except NotFound:
            raise
        except HoldfastError as error:
            raise HoldfastError(
                f"MariaDB cannot be asked: {error.message}", hint="Credentials are taken from ~/.my.cnf."
            ) from error
    return [line for line in text.split("\n") if line]


def program(*names: str) -> str:
    """The path of the first of these that is installed. Raises ``NotFound``."""
    for name in names:
        if path := shutil.which(name):
            return path
    raise NotFound(f"{names[0]} is not installed", hint="Debian: apt install mariadb-client")
