"""Bring a journal's tables to the state that this version works with."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from holdfast.kernel.errors import Unsupported

VERSION_TABLE = "holdfast_journal"
"""Named after its owner: the database may be shared with others who use alembic."""

_FOLDER = Path(__file__).parent / "migrations"


def known_revisions() -> list[str]:
    """The numbers of all steps, in order: the last one is what this version works with."""
    return sorted(name[1:5] for name in os.listdir(_FOLDER / "versions") if name[:1] == "v" and name.endswith(".py"))


def revision(connection: sa.Connection) -> str:
    """The step that the journal is at; empty for a new one."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return ""
    return connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")) or ""


def is_current(connection: sa.Connection) -> bool:
    """Whether there is nothing to do. Raises ``Unsupported`` for a journal that a later version made."""
    known = known_revisions()
    found = revision(connection)
    if found and found not in known:
        raise Unsupported(
            f"the journal was made by a later version of Holdfast (its tables are at {found}, this one knows "
            f"{known[-1]})",
            hint="Use that version here as well, or name another journal in the configuration.",
        )
    return found == known[-1]


def migrate(connection: sa.Connection) -> None:
    """Take the steps that are missing, inside the transaction that ``connection`` is in: all of them or none."""
    from alembic.config import Config  # 200 ms, wanted once in the life of a journal
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(_FOLDER))
    with EnvironmentContext(
        Config(), script, fn=lambda found, _context: script._upgrade_revs("head", found), destination_rev="head"
    ) as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE)
        environment.run_migrations()
