"""Load a dump of PostgreSQL back: into a new or an empty database, or in the place of one, which is kept aside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError, Invalid
from holdfast.sources.base import Loaded
from holdfast.sources.postgres import Server, query, tool, version
from holdfast.sources.program import running

_MAINTENANCE = "postgres"
_FILLED = (
    "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
)


def look(server: Server, cancel: Cancel, *, replace: bool) -> bool:
    """Whether the database that ``server`` names exists. Raises ``Invalid`` where it may not be loaded into."""
    name = server.database
    if not name:
        raise Invalid("the URL names no database", hint="For example: --to postgresql://localhost/app_restored")
    exists = bool(_maintain(server, f"SELECT 1 FROM pg_database WHERE datname = {_literal(name)}", cancel))
    if exists and not replace and query(server, _FILLED, cancel) != ["0"]:
        raise Invalid(
            f"the database {name} is not empty",
            hint="Name a new one, or give --replace: then it is kept under another name.",
        )
    return exists


def load(
    server: Server,
    pieces: Iterable[bytes],
    cancel: Cancel,
    *,
    replace: bool,
    owners: bool,
    stamp: str,
    tablespaces: bool = True,
) -> Loaded:
    """Load a dump in one transaction: all of it, or the database is as it was before.

    With ``replace`` it is loaded into a new database, which then takes the name; the former one is called
    ``NAME_before_STAMP`` from then on, and its users are disconnected at that moment. Without ``owners`` everything
    belongs to who loads it; without ``tablespaces`` it goes to the default one. Raises
    ``HoldfastError`` with what PostgreSQL said, and whatever ``pieces`` raises.
    """
    exists, name = look(server, cancel, replace=replace), server.database
    words = [] if owners else ["--no-owner", "--no-privileges"]
    words += [] if tablespaces else ["--no-tablespaces"]
    if exists and not replace:
        _restore(server, name, pieces, cancel, words)
        return Loaded(name, made=False)
    fresh = f"{name}_new_{stamp}"[:63] if exists else name
    _maintain(server, f"CREATE DATABASE {_identifier(fresh)} TEMPLATE template0", cancel)
    try:
        _restore(server, fresh, pieces, cancel, words)
        if not exists:
            return Loaded(name, made=True)
        kept = f"{name[:40]}_before_{stamp}"
        _maintain(
            server,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {_literal(name)};\n"
            f"ALTER DATABASE {_identifier(name)} RENAME TO {_identifier(kept)};\n"
            f"ALTER DATABASE {_identifier(fresh)} RENAME TO {_identifier(name)};",
            cancel,
        )
        return Loaded(name, made=False, kept=kept)
    except BaseException:
        with contextlib.suppress(HoldfastError):
            _maintain(server, f"DROP DATABASE IF EXISTS {_identifier(fresh)}", Cancel())
        raise


def _restore(server: Server, database: str, pieces: Iterable[bytes], cancel: Cancel, more: list[str]) -> None:
    words = [tool("pg_restore", version(server, cancel), cancel), "--single-transaction", "--exit-on-error"]
    words += ["--no-password", "--format=custom", f"--dbname=dbname={_conninfo(database)}"]
    words += more
    try:
        with running(words, cancel=cancel, environ=server.variables(database), feed=True) as run:
            assert run.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has given up: its exit status and words will tell
                for piece in pieces:
                    cancel.check()
                    run.stdin.write(piece)
                run.stdin.close()
            run.finish()
    except HoldfastError as error:
        if "role" in error.message and "does not exist" in error.message:
            error.hint = "Load the roles first (globals.sql beside the dump, with psql), or give --no-owner."
        raise


def _maintain(server: Server, sql: str, cancel: Cancel) -> list[str]:
    return query(server, sql, cancel, _MAINTENANCE)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _conninfo(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
