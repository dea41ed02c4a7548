"""Load a dump of MariaDB or MySQL back: into a new or an empty database, or in the place of one that is kept aside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError, Invalid
from holdfast.sources.base import Loaded
from holdfast.sources.mariadb import Server, program, query
from holdfast.sources.mariadbswap import identifier, literal, swap
from holdfast.sources.program import running

_MOST_NAME = 64  # characters (MariaDB: Identifier Names)


def look(server: Server, cancel: Cancel, *, replace: bool) -> bool:
    """Whether the database that ``server`` names exists. Raises ``Invalid`` where it may not be loaded into."""
    return _look(server, cancel, replace=replace)[0]


def load(server: Server, pieces: Iterable[bytes], cancel: Cancel, *, replace: bool = False, stamp: str = "") -> Loaded:
    """Load a dump.

    MariaDB has no transactions around tables being made: where it fails, the database is removed (one that was there
    and empty: made anew, empty). With ``replace`` it is loaded into a new database, ``NAME_new_STAMP``, which then
    changes places with the former one; that is called ``NAME_before_STAMP`` from then on (see ``mariadbswap.swap``).
    Raises ``HoldfastError`` with what the server said, and whatever ``pieces`` raises.
    """
    exists, filled = _look(server, cancel, replace=replace)
    name = server.database
    if not (exists and filled):
        _load(server, name, pieces, cancel, exists=exists)
        return Loaded(name, made=not exists)
    short = name[: _MOST_NAME - len(f"_before_{stamp}")]
    fresh, kept = f"{short}_new_{stamp}", f"{short}_before_{stamp}"
    _load(server, fresh, pieces, cancel, exists=False)
    swap(server, name, fresh, kept, cancel)
    return Loaded(name, made=False, kept=kept)


def _look(server: Server, cancel: Cancel, *, replace: bool) -> tuple[bool, bool]:
    """Whether it exists, and whether something is in it."""
    name = server.database
    if not name:
        raise Invalid("the URL names no database", hint="For example: --to mariadb://localhost/app_restored")
    where = literal(name)
    exists = bool(query(server, f"SELECT 1 FROM information_schema.schemata WHERE schema_name = {where}", cancel))
    filled = query(
        server,
        f"SELECT (SELECT count(*) FROM information_schema.tables WHERE table_schema = {where})"
        f" + (SELECT count(*) FROM information_schema.routines WHERE routine_schema = {where})"
        f" + (SELECT count(*) FROM information_schema.events WHERE event_schema = {where})",
        cancel,
    ) != ["0"]
    if exists and filled and not replace:
        raise Invalid(
            f"the database {name} is not empty",
            hint="Name a new one, or give --replace: then it is kept under another name.",
        )
    return exists, filled


def _load(server: Server, name: str, pieces: Iterable[bytes], cancel: Cancel, *, exists: bool) -> None:
    quoted = identifier(name)
    if not exists:
        query(server, f"CREATE DATABASE {quoted}", cancel)
    try:
        with server.option_file() as (argument, fd):
            words = [program("mariadb", "mysql"), argument, "--batch", f"--database={name}"]
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
