"""Databases and programs as sources of a backup: from what the user wrote to the sources."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

from holdfast.kernel.errors import Invalid

if TYPE_CHECKING:
    from holdfast.sources.base import Source

PASSWORD_IN_URL = "a password in a URL on the command line can be seen by everybody on this machine"

REDIS_PASSWORD = "Put it into REDISCLI_AUTH in the environment, or into a file: 'redis://HOST/?password_file=FILE'."
_SCHEMES = ("postgresql://", "postgres://", "mariadb://", "mysql://", "redis://", "rediss://")


def make_sources(
    *,
    postgres: Iterable[str] = (),
    mariadb: Iterable[str] = (),
    redis: Iterable[str] = (),
    commands: Iterable[str] = (),
    limit: float | None = None,
) -> tuple[Source, ...]:
    """The sources that these words mean; ``limit`` is the most seconds for each dump. Raises ``Invalid``.

    ``postgres``, ``mariadb`` and ``redis``: ``[NAME=]URL``; ``commands``: ``NAME=COMMAND``, its words split as
    a shell does, but without a shell.
    """
    sources: list[Source] = []
    for text in postgres:
        from holdfast.sources.postgres import PostgresSource, read_url

        name, url = _named(text)
        server = read_url(url)
        if server.password:
            raise Invalid(
                PASSWORD_IN_URL,
                hint="Put it into ~/.pgpass, or into PGPASSWORD in the environment, or name a service: "
                "'postgresql:///?service=NAME'.",
            )
        sources.append(PostgresSource(name or server.database or server.label, server, limit))
    for text in mariadb:
        from holdfast.sources import mariadb as maria

        name, url = _named(text)
        place = maria.read_url(url)
        if place.password:
            raise Invalid(PASSWORD_IN_URL, hint="Put it into ~/.my.cnf.")
        sources.append(maria.MariadbSource(name or place.database or place.label, place, limit))
    for text in redis:
        from holdfast.sources import redis as other

        name, url = _named(text)
        found = other.read_url(url)
        if found.password:
            raise Invalid(PASSWORD_IN_URL, hint=REDIS_PASSWORD)
        if found.database is not None:
            raise Invalid(
                "a dump of Redis holds all its databases, not one of them",
                hint="Leave the number out of the URL. When it is loaded back, the URL may have one.",
            )
        sources.append(other.RedisSource(name or found.name, found, limit))
    for text in commands:
        from holdfast.sources.command import CommandSource

        name, separator, line = text.partition("=")
        words = _words(line)
        if not separator or not name.strip() or not words:
            raise Invalid(f"'{text}' is no NAME=COMMAND", hint="For example: --command 'crontab=crontab -l'")
        sources.append(CommandSource(name.strip(), tuple(words), limit))
    return tuple(sources)


def _named(text: str) -> tuple[str, str]:
    """``NAME=URL`` or ``URL``: in a URL, ``=`` comes only after ``?``."""
    if text.startswith(_SCHEMES):
        return "", text
    name, separator, url = text.partition("=")
    return (name.strip(), url) if separator else ("", text)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise Invalid(f"'{line}' cannot be read as a command: {error}", hint="Is a quotation mark missing?") from error
