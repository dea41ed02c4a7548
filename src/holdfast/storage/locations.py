"""Turns what a person writes as a location into a storage."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from holdfast.kernel.errors import Invalid, Unsupported
from holdfast.storage.base import Storage
from holdfast.storage.local import LocalStorage

# Two letters at least: a single one is a drive of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_SECURE_COPY = re.compile(r"[^/:@]+@[^/:]+:.*", re.DOTALL)


def open_location(text: str) -> Storage:
    """The storage that ``text`` names; nothing is made or contacted yet.

    A path (``/srv/backups``, ``backups``), ``local:PATH`` (PATH as it stands), ``file:/PATH`` or ``file:///PATH``
    (percent escapes as in any URL), ``memory:LABEL`` (empty, gone with the process). Raises ``Invalid`` for what cannot
    be understood and ``Unsupported`` for places that this version does not reach. No message repeats the text after the
    scheme: it may hold a password.
    """
    if not text.strip() or "\0" in text:
        raise Invalid("the location is empty", hint="Give a path such as /srv/backups/home.")
    match = _SCHEME.fullmatch(text)
    if match is None:
        if _SECURE_COPY.fullmatch(text):
            raise Invalid(
                "a location of the form USER@HOST:PATH is not understood",
                hint="For a server write sftp:USER@HOST:/PATH; for a folder of that name put ./ in front.",
            )
        return LocalStorage(text)
    scheme = match[1].lower()
    opener = OPENERS.get(scheme)
    if opener is None:
        raise Invalid(
            f"unknown kind of location: {scheme}:",
            hint=f"Known are a path and {', '.join(sorted(OPENERS))}. For a folder with a colon put ./ in front.",
        )
    return opener(match[2])


def _open_local(rest: str) -> Storage:
    return LocalStorage(rest)


def _open_file_url(rest: str) -> Storage:
    from urllib.parse import unquote

    path = rest
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        path = slash + path
        if host not in ("", "localhost"):
            raise Invalid("a file: location names another machine", hint="Write file:///PATH with three slashes.")
    path = unquote(path, errors="surrogateescape")
    if not path.startswith("/") or "\0" in path:
        raise Invalid("a file: location needs a whole path", hint="Write file:///PATH, or the path alone.")
    return LocalStorage(path)


def _open_memory(rest: str) -> Storage:
    from holdfast.storage.memory import MemoryStorage

    return MemoryStorage(rest)


def _later(place: str) -> Callable[[str], Storage]:
    def refuse(_rest: str) -> Storage:
        raise Unsupported(
            f"storing in {place} comes with a later version",
            hint="Use a folder for now: a local disk or a mounted share.",
        )

    return refuse


OPENERS: Mapping[str, Callable[[str], Storage]] = MappingProxyType(
    {
        "azure": _later("Azure Blob Storage"),
        "file": _open_file_url,
        "gdrive": _later("Google Drive"),
        "gs": _later("Google Cloud Storage"),
        "local": _open_local,
        "memory": _open_memory,
        "rest": _later("a REST server"),
        "s3": _later("S3"),
        "sftp": _later("an SFTP server"),
    }
)
"""Scheme -> what opens the rest of the location. A new storage is one file and one line here."""
