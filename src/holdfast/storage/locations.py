"""Turns what a person writes as a location into a storage."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from holdfast.kernel.errors import Invalid, Unsupported
from holdfast.storage.base import Storage
from holdfast.storage.local import LocalStorage
from holdfast.storage.manner import Manner

if TYPE_CHECKING:
    from holdfast.kernel.cancel import Cancel
    from holdfast.storage.retrying import Pause

# Two letters at least: a single one is a drive of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_SECURE_COPY = re.compile(r"[^/:@]+@[^/:]+:.*", re.DOTALL)


def open_location(
    text: str,
    manner: Manner | None = None,
    *,
    cancel: Cancel | None = None,
    on_trouble: Callable[[str], None] | None = None,
) -> Storage:
    """The storage that ``text`` names, safe to use in forked children; nothing is made or contacted yet.

    A path (``/srv/backups``, ``backups``), ``local:PATH`` (PATH as it stands), ``file:/PATH`` or ``file:///PATH``
    (percent escapes as in any URL), ``memory:LABEL`` (empty, gone with the process), or a place beyond this machine
    (see :data:`REMOTE`), which is given as an :class:`~holdfast.storage.apart.Apart` with ``manner``, ``cancel`` and
    ``on_trouble``. Raises ``Invalid`` for what cannot be understood and ``Unsupported`` where a library is missing. No
    message repeats the text after the scheme: it may hold a password.
    """
    place = open_directly(text, manner)
    if not text_is_remote(text):
        return place
    from holdfast.storage.apart import Apart

    return Apart(text, manner or Manner(), place, cancel=cancel, on_trouble=on_trouble)


def begin(storage: Storage) -> None:
    """Let ``storage`` get ready for its first call, if that takes time, without waiting for it."""
    start: Callable[[], None] | None = getattr(storage, "start", None)
    if start is not None:
        start()


def text_is_remote(text: str) -> bool:
    """Whether ``text`` names a place beyond this machine."""
    match = _SCHEME.fullmatch(text)
    return match is not None and match[1].lower() in REMOTE


def is_path(text: str) -> bool:
    """Whether ``text`` is nothing but a path, which may be relative."""
    return _SCHEME.fullmatch(text) is None


def open_directly(
    text: str,
    manner: Manner | None = None,
    *,
    pause: Pause | None = None,
    tell: Callable[[str], None] | None = None,
) -> Storage:
    """What :func:`open_location` gives, but working in this very process: limited and retrying around a remote place.

    Neither a library is imported nor a thread started nor anything contacted before the first call of a method. For
    ``pause`` and ``tell`` see :class:`~holdfast.storage.retrying.Retrying`.
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
    if scheme in REMOTE:
        return _open_remote(scheme, match[2], manner or Manner(), pause, tell)
    opener = OPENERS.get(scheme)
    if opener is None:
        raise Invalid(
            f"unknown kind of location: {scheme}:",
            hint=f"Known are a path and {', '.join(sorted({*OPENERS, *REMOTE}))}. "
            "For a folder with a colon put ./ in front.",
        )
    return opener(match[2])


def _open_remote(
    scheme: str, rest: str, manner: Manner, pause: Pause | None, tell: Callable[[str], None] | None
) -> Storage:
    from holdfast.storage.limited import Limited
    from holdfast.storage.retrying import Retrying, sleep

    place: Storage = import_module(f"holdfast.storage.{REMOTE[scheme]}").open_storage(scheme, rest)
    pause = pause or sleep
    return Retrying(Limited(place, manner, pause=pause), manner, pause=pause, tell=tell)


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


def _open_google_drive(_rest: str) -> Storage:
    raise Unsupported(
        "storing in Google Drive comes with a later version", hint="Use a folder, S3, SFTP or a REST server for now."
    )


OPENERS: Mapping[str, Callable[[str], Storage]] = MappingProxyType(
    {"file": _open_file_url, "gdrive": _open_google_drive, "local": _open_local, "memory": _open_memory}
)
"""Scheme -> what opens the rest of the location, for places on this machine."""

REMOTE: Mapping[str, str] = MappingProxyType(
    {"azure": "objects", "gs": "objects", "rest": "rest", "s3": "objects", "sftp": "sftp"}
)
"""Scheme -> the module of this room whose ``open_storage(scheme, rest)`` opens a place beyond this machine.

It raises ``Invalid`` for text that it does not understand and ``Unsupported`` where its library is not installed.
Before the first call of a method it imports no library, starts no thread and contacts nothing. A new storage is one
module and one line here.
"""
