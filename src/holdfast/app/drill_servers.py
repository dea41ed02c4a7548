"""Where a drill loads dumps: into servers that it starts itself, or into databases of its own on a configured one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from holdfast.app.drill_results import QUERY_SECONDS
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.app.context import Context
    from holdfast.files.scratch import Scratch
    from holdfast.sources import mariadb, postgres

NAME = "holdfast_drill_"
"""How databases on a configured server begin."""

Ask = Callable[[str], list[str]]

_GROWS = 2  # a loaded database takes more than its dump: indexes, and its log
_EMPTY = {"postgres": 64 << 20, "mariadb": 256 << 20, "redis": 64 << 20}  # bytes of a server without data
_PIECE = 1 << 20
_DEFINER = re.compile(rb"DEFINER=(`(?:[^`]|``)+`@`(?:[^`]|``)*`)")
_MAY = (
    "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES,"
    " CREATE TEMPORARY TABLES ON *.*"
)
_ROLE = re.compile(r'CREATE ROLE (?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*);')

_POSTGRES_TABLES = """
SELECT json_build_array(CASE n.nspname WHEN 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END,
                        format('%I.%I', n.nspname, c.relname))::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1
"""
_MARIADB_TABLES = """
SELECT json_array(table_name, concat('`', replace(table_name, '`', '``'), '`')) FROM information_schema.tables
WHERE table_schema = database() AND table_type = 'BASE TABLE' ORDER BY 1
"""


class Loading(Protocol):
    """A server that dumps can be loaded into."""

    def prepare(self, folders: Sequence[bytes]) -> None:
        """Make ready for the dumps in these restored folders, one for each saved server. Raises ``HoldfastError`` where
        the server is out of reach."""
        ...

    def database(self, dump: bytes) -> AbstractContextManager[Ask]:
        """Load a dump into a database of its own, which goes away on leaving; gives what asks it. ``HoldfastError``."""
        ...

    def rows(self, ask: Ask) -> dict[str, int]:
        """The rows of every table."""
        ...


@contextmanager
def loading(context: Context, scratch: Scratch, kind: str, url: str, size: int) -> Iterator[Loading]:
    """The server for dumps of ``kind`` (``postgres`` or ``mariadb``) of ``size`` bytes together: the one at ``url``,
    else one of our own, which ends on leaving. Raises ``HoldfastError`` where there is none."""
    base, needed = os.path.dirname(scratch.path), size * _GROWS
    clock, cancel = context.clock, context.cancel
    if kind == "postgres":
        from holdfast.sources.postgresscratch import scratch_postgres

        if url:
            from holdfast.sources.postgres import read_url

            yield _Postgres(context, scratch, read_url(url), own=False)
            return
        with scratch_postgres(base, needed, clock=clock, cancel=cancel) as server:
            yield _Postgres(context, scratch, server, own=True)
        return
    from holdfast.sources.mariadbscratch import scratch_mariadb

    if url:
        from holdfast.sources.mariadb import read_url as read_mariadb_url

        yield _Mariadb(context, scratch, read_mariadb_url(url), own=False)
        return
    with scratch_mariadb(base, needed, clock=clock, cancel=cancel) as place:
        yield _Mariadb(context, scratch, place, own=True)


def room_for(sizes: Mapping[str, int]) -> int:
    """The bytes that servers of our own take for dumps: kind -> bytes of all its dumps."""
    return sum(size * _GROWS + _EMPTY.get(kind, 0) for kind, size in sizes.items())


def drop_left(context: Context, url: str, kind: str, names: Sequence[str]) -> None:
    """Drop databases that a killed drill left on a configured server. Only names of ours; failures are told."""
    for name in names:
        if not re.fullmatch(NAME + "[0-9a-f]+", name) or not url:
            continue
        try:
            if kind == "postgres":
                from holdfast.sources.postgres import query, read_url

                query(read_url(url), f'DROP DATABASE IF EXISTS "{name}"', context.cancel, "postgres")
            else:
                from holdfast.sources.mariadb import query as ask
                from holdfast.sources.mariadb import read_url as read

                ask(replace(read(url), database=""), f"DROP DATABASE IF EXISTS `{name}`", context.cancel)
        except HoldfastError as error:
            context.warn(f"the database {name}, which a killed drill left, could not be dropped: {error.message}")


class _Postgres:
    """PostgreSQL. On a server of our own roles are made as the dumps want them; on others nothing but one database."""

    def __init__(self, context: Context, scratch: Scratch, server: postgres.Server, *, own: bool) -> None:
        self._context = context
        self._scratch = scratch
        self._server = server
        self._own = own
        self._owners = False

    def prepare(self, folders: Sequence[bytes]) -> None:
        """Make the roles, without passwords and rights: owners and policies of what is loaded name them.

        Nothing else of ``globals.sql`` is run: a tablespace would be made where the live server has its own.
        """
        from holdfast.sources.postgres import GLOBALS, query

        query(self._server, "SELECT 1", self._context.cancel, "postgres")
        if not self._own:
            return
        for folder in folders:
            with suppress(FileNotFoundError), open(os.path.join(folder, GLOBALS), "rb") as file:
                lines = file.read().decode("utf-8", "surrogateescape").splitlines()
                roles = [line for line in lines if _ROLE.fullmatch(line)]
                query(self._server, "\n".join(roles), self._context.cancel, "postgres", strict=False)
                self._owners = True

    @contextmanager
    def database(self, dump: bytes) -> Iterator[Ask]:
        from holdfast.sources.postgres import Server, query
        from holdfast.sources.postgresload import load

        context, name = self._context, _new_name(self._context, self._scratch, "postgres")
        environ = tuple((key, value) for key, value in self._server.environ if key != "PGDATABASE")
        server = Server((*environ, ("PGDATABASE", name)), alone=self._server.alone)
        try:
            load(
                server, _pieces(dump), context.cancel, replace=False, owners=self._owners, stamp="", tablespaces=False
            )  # fmt: skip
            yield lambda sql: query(server, sql, context.cancel, limit=QUERY_SECONDS)
        finally:
            with suppress(HoldfastError):
                query(self._server, f'DROP DATABASE IF EXISTS "{name}"', Cancel(), "postgres")

    def rows(self, ask: Ask) -> dict[str, int]:
        found = [json.loads(line) for line in ask(_POSTGRES_TABLES)]
        return _counted(ask, [(_literal(table), quoted) for table, quoted in found], "json_build_array", "::text")


class _Mariadb:
    """MariaDB or MySQL. On a server of our own the users are made that views and routines run as."""

    def __init__(self, context: Context, scratch: Scratch, server: mariadb.Server, *, own: bool) -> None:
        self._context = context
        self._scratch = scratch
        self._own = own
        self._server = replace(server, database="")

    def prepare(self, folders: Sequence[bytes]) -> None:
        """See whether the server answers, and make the definers: what runs as one fails where there is no such user.

        They have no password (nobody can reach the server), and may do what an application does, but neither read nor
        write files.
        """
        from holdfast.sources.mariadb import query

        query(self._server, "SELECT 1", self._context.cancel)
        for folder in folders if self._own else ():
            for definer in sorted(_definers(folder)):
                user = definer.decode("utf-8", "surrogateescape")
                with suppress(HoldfastError):  # then what runs as it tells
                    query(
                        self._server, f"CREATE USER IF NOT EXISTS {user}; {_MAY} TO {user}", self._context.cancel
                    )  # fmt: skip

    @contextmanager
    def database(self, dump: bytes) -> Iterator[Ask]:
        from holdfast.sources.mariadb import query
        from holdfast.sources.mariadbload import load

        context, name = self._context, _new_name(self._context, self._scratch, "mariadb")
        server = replace(self._server, database=name)
        try:
            load(server, _pieces(dump), context.cancel)
            yield lambda sql: query(
                self._server, f"SET NAMES utf8mb4;\nUSE `{name}`;\n{sql}", context.cancel, limit=QUERY_SECONDS
            )
        finally:
            with suppress(HoldfastError):
                query(self._server, f"DROP DATABASE IF EXISTS `{name}`", Cancel())

    def rows(self, ask: Ask) -> dict[str, int]:
        found = [json.loads(line) for line in ask(_MARIADB_TABLES)]
        tables = [(_literal(table.replace("\\", "\\\\")), quoted) for table, quoted in found]
        return _counted(ask, tables, "json_array", "")


def _definers(folder: bytes) -> set[bytes]:
    """The users, quoted, that the dumps in a folder name as those whose rights count."""
    found: set[bytes] = set()
    with os.scandir(folder) as listed:
        dumps = [entry.path for entry in listed if entry.is_file(follow_symlinks=False)]
    for dump in dumps:
        with open(dump, "rb") as file:
            for line in file:
                if line.startswith((b"/*!", b"CREATE ")) and len(line) < _PIECE:
                    found.update(_DEFINER.findall(line))
    return found


def _counted(ask: Ask, tables: Sequence[tuple[str, str]], function: str, cast: str) -> dict[str, int]:
    if not tables:
        return {}
    selects = [f"SELECT {function}({shown}, count(*)){cast} FROM {quoted};" for shown, quoted in tables]
    return dict(json.loads(line) for line in ask("\n".join(selects)))


def _new_name(context: Context, scratch: Scratch, kind: str) -> str:
    """A database's name that nobody has; it is in the mark of the scratch folder before the database is there."""
    name = NAME + context.random(6).hex()
    scratch.add("databases", [kind, name])
    return name


def _pieces(path: bytes) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
