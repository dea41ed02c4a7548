"""Two databases of MariaDB or MySQL change places: tables in one step, then what cannot be moved is made anew."""

from __future__ import annotations

import contextlib

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.values import dataclass
from holdfast.sources.mariadb import Server, program, query
from holdfast.sources.program import output

_NOTE = "holdfast_objects"
_WAIT = 60  # seconds for a table that somebody uses
_ADDED = ["--skip-dump-date", "--skip-comments", "--skip-lock-tables", "--no-data", "--add-drop-trigger"]


@dataclass(frozen=True, slots=True)
class _Inside:
    """What a database holds, by name. ``made``: the statements that make views, routines, triggers and events;
    ``hooked``: those that make its triggers only."""

    tables: list[str]
    views: list[str]
    triggers: list[str]
    events: list[str]
    routines: list[tuple[str, str]]
    made: bytes
    hooked: bytes


def swap(server: Server, name: str, fresh: str, kept: str, cancel: Cancel) -> None:
    """``fresh`` takes the name ``name``; what had it is called ``kept``, with its events switched off.

    All tables change places in one ``RENAME TABLE``: users see the former ones or the new ones. Views, routines,
    triggers and events cannot be moved: they are dropped and made again, which takes a moment. Where it fails before
    the tables have moved, everything is as before, and ``fresh`` is gone. Killed after that, all data of both is there,
    and the statements that make what the former database lacks are in its table ``holdfast_objects``. Raises
    ``HoldfastError``.
    """
    try:
        former, new = _inside(server, name, cancel), _inside(server, fresh, cancel)
        query(server, f"CREATE DATABASE {identifier(kept)} {_letters(server, name, cancel)}", cancel)
    except BaseException:
        _drop(server, fresh)
        raise
    try:
        query(server, _note(kept, former), cancel)
        query(server, _move(name, fresh, kept, former, new), cancel)
    except BaseException:
        _stay(server, name, fresh, kept, former)
        raise
    try:
        query(server, _clear(name, former), cancel)
        _run(server, name, new.made, cancel)
        _run(server, kept, former.made, cancel)
        off = [f"ALTER EVENT {_in(kept, event)} DISABLE" for event in former.events]
        query(
            server, ";\n".join([*off, f"DROP TABLE {_in(kept, _NOTE)}", f"DROP DATABASE {identifier(fresh)}"]), cancel
        )
    except HoldfastError as error:
        error.message += (
            f". The data of {name} is the restored one, but not all of its views, routines, triggers and events are;"
            f" the former data is in {kept}"
        )
        error.hint = "Run it again once the cause is gone."
        raise


def identifier(name: str) -> str:
    """A name, quoted."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """A text, quoted."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _in(database: str, name: str) -> str:
    return f"{identifier(database)}.{identifier(name)}"


def _inside(server: Server, database: str, cancel: Cancel) -> _Inside:
    def names(what: str, table: str, schema: str, more: str = "") -> list[str]:
        where = f"{schema} = {literal(database)}{more}"
        found = query(server, f"SELECT hex({what}) FROM information_schema.{table} WHERE {where} ORDER BY 1", cancel)
        return [bytes.fromhex(name).decode() for name in found]

    views = names("table_name", "tables", "table_schema", " AND table_type = 'VIEW'")
    kinds = "('PROCEDURE', 'FUNCTION', 'PACKAGE')"  # a package's body goes with it
    routines = names(
        "concat(routine_type, ' ', routine_name)", "routines", "routine_schema", f" AND routine_type IN {kinds}"
    )
    hooked = _dumped(server, database, ["--no-create-info", "--triggers"], [], cancel)
    made = _dumped(server, database, ["--no-create-info", "--routines", "--events", "--skip-triggers"], [], cancel)
    made += _dumped(server, database, ["--skip-triggers"], views, cancel) if views else b""  # may call the routines
    return _Inside(
        tables=names("table_name", "tables", "table_schema", " AND table_type <> 'VIEW'"),
        views=views,
        triggers=names("trigger_name", "triggers", "trigger_schema"),
        events=names("event_name", "events", "event_schema"),
        routines=[(kind, name) for kind, _, name in (text.partition(" ") for text in routines)],
        made=made + hooked,
        hooked=hooked,
    )


def _dumped(server: Server, database: str, options: list[str], tables: list[str], cancel: Cancel) -> bytes:
    with server.option_file() as (argument, fd):
        words = [program("mariadb-dump", "mysqldump"), argument, *_ADDED, *options, "--", database, *tables]
        return output(words, cancel=cancel, inherit=(fd,)).encode("utf-8", "surrogateescape")


def _run(server: Server, database: str, statements: bytes, cancel: Cancel) -> None:
    with server.option_file() as (argument, fd):
        words = [program("mariadb", "mysql"), argument, "--batch", f"--database={database}"]
        output(words, cancel=cancel, feed=statements, inherit=(fd,))


def _letters(server: Server, name: str, cancel: Cancel) -> str:
    """The character set and collation of a database, as ``CREATE DATABASE`` takes them."""
    (words,) = query(
        server,
        "SELECT concat('CHARACTER SET ', default_character_set_name, ' COLLATE ', default_collation_name)"
        f" FROM information_schema.schemata WHERE schema_name = {literal(name)}",
        cancel,
    )
    return words


def _note(kept: str, former: _Inside) -> str:
    """Keep what a kill in the middle would lose."""
    note = _in(kept, _NOTE)
    return f"CREATE TABLE {note} (statements LONGBLOB);\nINSERT INTO {note} VALUES (0x{former.made.hex() or '00'})"


def _stay(server: Server, name: str, fresh: str, kept: str, former: _Inside) -> None:
    """Everything as before; unless, as far as one can tell, the tables have moved and only the answer was lost."""
    count = f"SELECT count(*) FROM information_schema.tables WHERE table_schema = {literal(kept)} AND table_name <> "
    with contextlib.suppress(HoldfastError):
        if query(server, count + literal(_NOTE), Cancel()) == ["0"]:
            _run(server, name, former.hooked, Cancel())
            _drop(server, fresh, kept)


def _move(name: str, fresh: str, kept: str, former: _Inside, new: _Inside) -> str:
    """Triggers go first: a table with triggers cannot be moved to another database."""
    steps = [f"SET SESSION lock_wait_timeout = {_WAIT}"]
    steps += [f"DROP TRIGGER {_in(fresh, trigger)}" for trigger in new.triggers]
    steps += [f"DROP TRIGGER {_in(name, trigger)}" for trigger in former.triggers]
    moves = [f"{_in(name, table)} TO {_in(kept, table)}" for table in former.tables]
    moves += [f"{_in(fresh, table)} TO {_in(name, table)}" for table in new.tables]
    if moves:
        steps.append("RENAME TABLE " + ",\n".join(moves))
    return ";\n".join(steps)


def _clear(name: str, former: _Inside) -> str:
    steps = [f"DROP VIEW {_in(name, view)}" for view in former.views]
    steps += [f"DROP EVENT {_in(name, event)}" for event in former.events]
    steps += [f"DROP {kind} {_in(name, routine)}" for kind, routine in former.routines]
    return ";\n".join(["SELECT 1", *steps])


def _drop(server: Server, *databases: str) -> None:
    with contextlib.suppress(HoldfastError):
        query(server, ";\n".join(f"DROP DATABASE IF EXISTS {identifier(name)}" for name in databases), Cancel())
