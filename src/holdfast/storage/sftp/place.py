"""What a person writes as the location of a vault on an SFTP server."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from holdfast.kernel.errors import Invalid
from holdfast.kernel.values import dataclass
from holdfast.storage.oserrors import printable

FORM = "Write sftp:USER@HOST:/PATH, or sftp://USER@HOST:PORT//PATH."

_SHORT = re.compile(r"(?:([^:/]+)@)?(\[[0-9A-Fa-f:.%]+\]|[^:/@\[\]]+):(.*)", re.DOTALL)
_PASSWORD = re.compile(r"[^:/]*:[^/]*@[^/:@]+:", re.DOTALL)
_HOST = re.compile(r"[^\s/@:\[\]%?#-][^\s/@:\[\]?#]*|[0-9A-Fa-f:.]+(?:%[^\s/@\[\]]+)?")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder on a server; what is None is for the user's SSH configuration to say.

    ``path`` is absolute, or begins in the home folder of the user there.
    """

    host: str
    path: bytes
    user: str | None = None
    port: int | None = None

    @property
    def location(self) -> str:
        """As it is shown, and as it can be written again."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        who = f"{self.user}@{host}" if self.user else host
        path = printable(self.path)
        return f"sftp:{who}:{path}" if self.port is None else f"sftp://{who}:{self.port}/{path}"

    @classmethod
    def parse(cls, rest: str) -> Place:
        """What follows ``sftp:``, as restic writes it: ``user@host:/path``, ``host:path/from/home``,
        ``//user@host:port//path``, ``//host/path/from/home``.

        Raises ``Invalid``; no message repeats the text, because it may hold a password.
        """
        user, host, port, path = _of_url(rest) if rest.startswith("//") else _of_short(rest)
        host = host.strip("[]")
        if not _HOST.fullmatch(host) or (user is not None and (not user or not user.isprintable())):
            raise Invalid("the user or the host in the sftp: location cannot be understood", hint=FORM)
        if path == "~" or path.startswith("~/"):
            raise Invalid(
                "a path on an SFTP server cannot begin with ~",
                hint="A path that does not begin with / is taken from the home folder: write sftp:HOST:backups.",
            )
        path = path.rstrip("/") or ("/" if path else "")
        if not path or "\0" in path:
            raise Invalid("the sftp: location names no folder", hint=FORM)
        return cls(host, os.fsencode(path), user, port)


def _of_short(rest: str) -> tuple[str | None, str, int | None, str]:
    if _PASSWORD.match(rest):
        raise _with_password()
    match = _SHORT.fullmatch(rest)
    if match is None:
        raise Invalid("the sftp: location cannot be understood", hint=FORM)
    return match[1], match[2], None, match[3]


def _of_url(rest: str) -> tuple[str | None, str, int | None, str]:
    try:
        parts = urlsplit(f"sftp:{rest}")
        port = parts.port
    except ValueError:
        raise Invalid("the sftp: location cannot be understood", hint=FORM) from None
    if parts.password is not None:
        raise _with_password()
    if parts.query or parts.fragment:
        raise Invalid("the sftp: location cannot be understood", hint=FORM)
    user = unquote(parts.username) if parts.username is not None else None
    # urlsplit's own hostname is lower case, but names in a SSH configuration are not.
    host = re.sub(r":[0-9]*\Z", "", parts.netloc.rpartition("@")[2])
    # One slash ends the host; a second one begins an absolute path.
    return user, host, port, unquote(parts.path[1:], errors="surrogateescape")


def _with_password() -> Invalid:
    return Invalid(
        "an sftp: location must not hold a password: it is shown, saved and logged",
        hint="Use an SSH key or an agent, or set HOLDFAST_SFTP_PASSWORD.",
    )
