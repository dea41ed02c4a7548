"""Load a dump of MariaDB or MySQL back, into a new or an empty database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError, Invalid
from holdfast.sources.mariadb import Server, program, query
from holdfast.sources.program import running


def look(server: Server, cancel: Cancel) -> bool:
    """Whether the database that ``server`` names exists. Raises ``Invalid`` where it may not be loaded into."""
    name = server.database
    if not name:
        raise Invalid("the URL names no database", hint="For example: --to mariadb://localhost/app_restored")
    where = _literal(name)
    exists = bool(query(server, f"SELECT 1 FROM information_schema.schemata WHERE schema_name = {where}", cancel))
    filled = query(
        server,
        f"SELECT (SELECT count(*) FROM information_schema.tables WHERE table_schema = {where})"
        f" + (SELECT count(*) FROM information_schema.routines WHERE routine_schema = {where})",
        cancel,
    )
    if exists and filled != ["0"]:
        raise Invalid(f"the database {name} is not empty", hint="Name a new one, or empty it first.")
    return exists


def load(server: Server, pieces: Iterable[bytes], cancel: Cancel) -> str:
    """Load a dump; returns the name of the database.

    MariaDB has no transactions around tables being made: where it fails, the database is removed (one that was there
    and empty: made anew, empty). Raises ``HoldfastError`` with what the server said, and whatever ``pieces`` raises.
    """
    exists, quoted = look(server, cancel), _identifier(server.database)
    if not exists:
        query(server, f"CREATE DATABASE {quoted}", cancel)
    try:
        with server.option_file() as (argument, fd):
            words = [program("mariadb", "mysql"), argument, "--batch", f"--database={server.database}"]
            with running(words, cancel=cancel, feed=True, inherit=(fd,)) as run:
                assert run.stdin is not None
                with contextlib.suppress(BrokenPipeError):  # it has given up: its exit status and words will tell
                    for piece in pieces:
                        cancel.check()
                        run.stdin.write(piece)
                    run.stdin.close()
                run.finish()
    except BaseException:
        with contextlib.suppress(HoldfastError):
            query(server, f"DROP DATABASE {quoted};" + (f"CREATE DATABASE {quoted}" if exists else ""), Cancel())
        raise
    return server.database


def _identifier(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
