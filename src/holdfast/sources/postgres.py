"""PostgreSQL as a source: every database by ``pg_dump -Fc``, and the server's roles and tablespaces."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError, Invalid, NotFound, Unsupported
from holdfast.kernel.values import dataclass
from holdfast.sources.base import Stream, StreamEntry, as_name
from holdfast.sources.program import output, running

KIND = b"postgres"
GLOBALS = b"globals.sql"
DUMP = b".dump"
_MAINTENANCE = "postgres"  # the database that is there for asking about others
_PACKAGED = "/usr/lib/postgresql"
_LIST = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"
_SUPER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"

# The parameters of a URL that have a variable of their own (PostgreSQL manual, 34.15 "Environment Variables").
_PARAMETERS = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER",
    "password": "PGPASSWORD", "passfile": "PGPASSFILE", "service": "PGSERVICE", "options": "PGOPTIONS",
    "application_name": "PGAPPNAME", "sslmode": "PGSSLMODE", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT", "sslcrl": "PGSSLCRL", "channel_binding": "PGCHANNELBINDING",
    "connect_timeout": "PGCONNECT_TIMEOUT", "target_session_attrs": "PGTARGETSESSIONATTRS",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and perhaps one database of it, as libpq's environment variables: nothing of it is ever an argument.

    ``alone``: nothing else counts, least of all variables of our own environment, which may name another server.
    """

    environ: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    alone: bool = False

    @property
    def database(self) -> str:
        """The database that was named, or nothing."""
        return dict(self.environ).get("PGDATABASE", "")

    @property
    def password(self) -> bool:
        """Whether a password was written into the URL."""
        return any(key == "PGPASSWORD" for key, _ in self.environ)

    @property
    def label(self) -> str:
        """A name for the server."""
        known = dict(self.environ)
        host = known.get("PGSERVICE") or known.get("PGHOST", "")
        return "local" if not host or host.startswith(("/", "@")) else host

    def variables(self, database: str = "") -> dict[str, str | None]:
        """What a client program needs in its environment to reach ``database`` (default: the one that was named).

        None: what must not be in it.
        """
        known: dict[str, str | None] = {}
        if self.alone:
            known.update((name, None) for name in os.environ if name.startswith("PG"))
        known.update({"PGCONNECT_TIMEOUT": os.environ.get("PGCONNECT_TIMEOUT", "15"), "PGAPPNAME": "holdfast"})
        known.update(self.environ)
        if database:
            known["PGDATABASE"] = database
        return known


def read_url(url: str) -> Server:
    """``postgresql://[user[:password]@][host[,host]][:port][/database][?parameter=value&...]``. Raises ``Invalid``."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise Invalid(f"'{url.split('@')[-1]}' is no PostgreSQL URL", hint="For example: postgresql://localhost/app")
    found: dict[str, str] = {}
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    names, ports = [], []
    for place in hosts.split(",") if hosts else ():
        match = re.fullmatch(r"(\[[^]]*\]|[^:]*)(?::(\d*))?", place)
        if match is None:
            raise Invalid("the host in the PostgreSQL URL cannot be read", hint="Write postgresql://host:5432/app")
        names.append(unquote(match[1].strip("[]")))
        ports.append(match[2] or "")
    for key, value in (
        ("user", unquote(user)),
        ("password", unquote(password)),
        ("host", ",".join(names)),
        ("port", ",".join(ports) if any(ports) else ""),
        ("dbname", unquote(parts.path.removeprefix("/"))),
        *parse_qsl(parts.query, keep_blank_values=True),
    ):
        if key not in _PARAMETERS:
            raise Invalid(f"the parameter '{key}' of a PostgreSQL URL is not known here", hint="Use a service file.")
        if value:
            found[_PARAMETERS[key]] = value
    return Server(tuple(found.items()))


@dataclass(frozen=True, slots=True)
class PostgresSource:
    """One database of a server, or all of them where none was named; with each the server's roles and tablespaces.

    ``limit`` seconds are the most that one dump may take.
    """

    name: str
    server: Server
    limit: float | None = None

    @property
    def place(self) -> tuple[bytes, ...]:
        """``postgres/NAME``, a folder."""
        return KIND, as_name(self.name)

    def entries(self, cancel: Cancel) -> Sequence[StreamEntry]:
        """``globals.sql``, and a ``.dump`` for every database. Raises ``Unsupported`` for a server that is too new."""
        tool("pg_dump", version(self.server, cancel), cancel)
        named = self.server.database
        databases = [named] if named else query(self.server, _LIST, cancel)
        dumps = [StreamEntry((*self.place, as_name(name) + DUMP), name) for name in databases]
        return [StreamEntry((*self.place, GLOBALS)), *dumps]

    def open(self, entry: StreamEntry, cancel: Cancel) -> AbstractContextManager[Stream]:
        """Start ``pg_dump`` or ``pg_dumpall``. Uncompressed: so does what has not changed find itself in the vault."""
        major = version(self.server, cancel)
        if entry.item:
            words = [tool("pg_dump", major, cancel), "--format=custom", "--compress=0", "--no-password"]
            return running(words, cancel=cancel, environ=self.server.variables(entry.item), limit=self.limit)
        words = [tool("pg_dumpall", major, cancel), "--globals-only", "--no-password"]
        if query(self.server, _SUPER, cancel) != ["t"]:
            words.append("--no-role-passwords")  # only a superuser may read them
        words += ["-l", self.server.database or _MAINTENANCE] if _plain(self.server.database) else []
        return running(words, cancel=cancel, environ=self.server.variables(), limit=self.limit)


def _plain(name: str) -> bool:
    """Whether a database's name cannot be taken for a connection string."""
    return "=" not in name and "://" not in name


def query(
    server: Server, sql: str, cancel: Cancel, database: str = "", *, limit: float = 60.0, strict: bool = True
) -> list[str]:
    """The lines that a query gives, within ``limit`` seconds; not ``strict``: statements that fail are passed over.

    Raises ``HoldfastError`` with what the server said.
    """
    words = [_psql(), "-X", "-A", "-t", "-q", "-w", *(("-v", "ON_ERROR_STOP=1") if strict else ()), "-f", "-"]
    try:
        text = output(
            words,
            cancel=cancel,
            environ=server.variables(database or server.database or _MAINTENANCE),
            feed=sql.encode("utf-8", "surrogateescape"),
            limit=limit,
        )
    except NotFound:
        raise
    except HoldfastError as error:
        raise HoldfastError(
            f"PostgreSQL cannot be asked: {error.message}",
            hint="Credentials are taken from ~/.pgpass, PGPASSWORD, or a service file.",
        ) from error
    return [line for line in text.split("\n") if line]


def version(server: Server, cancel: Cancel) -> int:
    """The major version of a server."""
    return int(query(server, "SHOW server_version_num", cancel)[0]) // 10_000


def tool(name: str, major: int, cancel: Cancel) -> str:
    """The path of a client program that is at least as new as the server, whose dumps it would refuse otherwise.

    Looks on PATH, and where Debian's packages keep several versions. Raises ``NotFound``, ``Unsupported``.
    """
    found = 0
    for path in _candidates(name):
        match = re.search(r"\(PostgreSQL\) (\d+)", output([path, "--version"], cancel=cancel))
        if match is None:
            continue
        if int(match[1]) >= major:
            return path
        found = max(found, int(match[1]))
    if found:
        raise Unsupported(
            f"the server is PostgreSQL {major}, but {name} here is version {found}, which cannot read newer servers",
            hint=f"Install the client programs of version {major} (Debian: postgresql-client-{major}).",
        )
    raise NotFound(f"{name} is not installed", hint="Debian: apt install postgresql-client")


def _candidates(name: str) -> list[str]:
    on_path = shutil.which(name)
    versions = sorted(Path(_PACKAGED).glob(f"*/bin/{name}"), key=lambda path: path.parts, reverse=True)
    return [*([on_path] if on_path else []), *map(str, versions)]


def _psql() -> str:
    path = next(iter(_candidates("psql")), None)
    if path is None:
        raise NotFound("psql is not installed", hint="Debian: apt install postgresql-client")
    return path
