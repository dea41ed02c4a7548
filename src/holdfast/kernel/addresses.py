"""Addresses to listen on and to ask: host and port, and whether they are of this machine alone."""

from __future__ import annotations

import ipaddress

from holdfast.kernel.errors import Invalid


def address(text: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:9797``, ``[::1]:9797``, ``localhost:9797``, ``:9797`` (loopback), or ``Invalid``."""
    host, colon, port = text.rpartition(":")
    odd = host.startswith("[") != host.endswith("]")  # such as [::1, without a port
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if odd or not colon or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise Invalid(f"{text!r} is no address to listen on", hint="Write for example 127.0.0.1:9797 or [::1]:9797.")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
