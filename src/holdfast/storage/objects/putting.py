"""How an object gets into a bucket so that it overwrites nothing and is known to be there when this returns."""

from __future__ import annotations

import contextlib
from typing import IO

from holdfast.kernel.errors import Denied, HoldfastError, Invalid, NotFound, Unavailable
from holdfast.storage.existing import rival, wrong_size
from holdfast.storage.objects.link import Link

SINGLE = 32 << 20
"""Largest hash-named object that is sent as one PUT; a larger one goes in parts, each with its own time limit."""
BEYOND_THE_END = 416
"""Status of a range that begins at or after the end of an object."""
_SMALL = 64 << 10  # most that is sent a second time, once, to find out whether the server honours conditions


def size(link: Link, name: str) -> int:
    """The object's size by the server's word. Raises ``NotFound``.

    A refused HEAD has no body that says why (expired keys, a clock, another region), so a GET is made to hear it.
    """
    try:
        return _head(link, name)
    except (Denied, Invalid) as error:
        if error.context.get("service_code"):
            raise
        with contextlib.suppress(NotFound):
            _first_byte(link, name)
        return _head(link, name)


def keep(link: Link, name: str, body: bytes | IO[bytes], length: int) -> None:
    """Put an object whose name is the hash of its content; one that is there with the same size counts as put.

    Raises ``Corrupt`` where it is there with another size, ``Unavailable`` where the server took the upload and then
    has an object of another size or none.
    """
    in_parts = not isinstance(body, bytes) or length > SINGLE
    if (in_parts or not link.conditional) and (found := _size_or_none(link, name)) is not None:
        _compare(link, name, found, length)
        return
    if in_parts:
        link.ask("write", name, lambda client: client.put_parts(name, body), writing=True)
        fresh = True
    else:
        assert isinstance(body, bytes)
        fresh = _put(link, name, body)
    found = _size_or_none(link, name)
    if found is None or (fresh and found != length):
        raise Unavailable(
            f"{link.place.location} took {name} ({length} bytes), but then "
            + ("has no such object" if found is None else f"says that it has {found} bytes"),
            hint="The storage does not keep what it confirms: try again, and test it with 'holdfast storage test'.",
            location=link.place.location, name=name, size=found, expected=length,
        )  # fmt: skip
    _compare(link, name, found, length)


def create(link: Link, name: str, body: bytes) -> None:
    """Put an object whose name says nothing of its content, unless somebody else was first: that raises ``Invalid``.

    Where the server ignores conditions nobody can be kept from writing between a look and a write: such a server is
    looked at before and after, so that all but the last of several writers learn it if they are slower than a call.
    """
    if not link.conditional and _content_or_none(link, name) not in (None, body):
        raise rival(link.place.location, name)
    _put(link, name, body)
    if (found := _content_or_none(link, name)) != body:
        if found is None:
            raise Unavailable(f"{link.place.location} took {name}, but then has no such object", name=name)
        raise rival(link.place.location, name)


def replace(link: Link, name: str, body: bytes) -> None:
    """Overwrite an object that exists, as one step: readers see the old content or the new. Raises ``NotFound``."""
    size(link, name)
    link.ask("write", name, lambda client: client.put(name, body, new=False), writing=True)
    if _content_or_none(link, name) != body:
        raise Unavailable(f"{link.place.location} took {name}, but then has another content", name=name)


def _put(link: Link, name: str, body: bytes) -> bool:
    """One PUT that overwrites nothing where the server allows such a condition. Returns whether it was carried out."""
    if link.conditional is False:
        return link.ask("write", name, lambda client: client.put(name, body, new=False), writing=True)
    try:
        fresh = link.ask("write", name, lambda client: client.put(name, body, new=True), writing=True)
    except HoldfastError as error:
        if link.conditional or not error.context.get("cannot_be_conditional"):
            raise
        link.conditional = False
        return _put(link, name, body)
    if not fresh:
        link.conditional = True
    elif link.conditional is None and len(body) <= _SMALL:
        # The same bytes again, which harms nothing: a server that honours the condition refuses them.
        link.conditional = not link.ask("write", name, lambda client: client.put(name, body, new=True), writing=True)
    return fresh


def _head(link: Link, name: str) -> int:
    return link.ask("look at", name, lambda client: client.size(name))


def _first_byte(link: Link, name: str) -> None:
    try:
        link.ask("look at", name, lambda client: client.get_range(name, 0, 1))
    except Invalid as error:
        if error.context.get("status") != BEYOND_THE_END:
            raise


def _compare(link: Link, name: str, found: int, length: int) -> None:
    if found != length:
        raise wrong_size(link.place.location, name, found, length)


def _size_or_none(link: Link, name: str) -> int | None:
    try:
        return size(link, name)
    except NotFound:
        return None


def _content_or_none(link: Link, name: str) -> bytes | None:
    try:
        return link.ask("read", name, lambda client: client.get(name))
    except NotFound as error:
        if error.context.get("missing") == "place":
            raise
        return None
