"""HTTP for channels: one POST with a time limit, proxies of the environment respected, redirects refused."""

from __future__ import annotations

import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from holdfast.kernel.errors import Denied, HoldfastError, Invalid, Unavailable

_REPLY_BYTES = 64 << 10
_REFUSALS = (400, 401, 403, 404, 405, 410, 413, 415, 422)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What we send is for the address that the user wrote, and for nobody else."""

    def redirect_request(self, *_arguments: Any, **_more: Any) -> None:
        return None


def post(url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> None:
    """POST ``body``; any status from 200 to 299 is a success.

    ``user:password@`` in the URL is sent as basic authentication. Raises what ``Channel.send`` raises.
    """
    address, login = _without_login(url)
    request = urllib.request.Request(address, data=body, method="POST")
    request.add_header("User-Agent", "holdfast")
    if login:
        request.add_header("Authorization", login)
    for name, value in headers.items():
        request.add_header(name, value)
    opener = urllib.request.build_opener(_NoRedirects)
    host = urlsplit(address).hostname or "the server"
    try:
        with opener.open(request, timeout=seconds) as reply:
            reply.read(_REPLY_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            raise refusal(host, error.code, error.headers.get("Retry-After")) from None
    except (TimeoutError, urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise Unavailable(f"{host} cannot be reached: {_reason(error)}") from None


def refusal(host: str, status: int, retry_after: str | None = None) -> HoldfastError:
    """The error for an answer of ``status`` that is no success."""
    if status in (401, 403, 407):
        return Denied(f"{host} refuses it ({status}): user, password or token are wrong, or may not do this")
    if 300 <= status < 400:
        return Invalid(
            f"{host} sends us elsewhere ({status}), and redirects are not followed",
            hint="Write the address that it leads to into the configuration.",
        )
    if status in _REFUSALS:
        return Invalid(f"{host} refuses it ({status})", hint="Is the address right?")
    asked = int(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0
    return Unavailable(f"{host} answers with an error ({status})", retry_after=asked)


def _without_login(url: str) -> tuple[str, str]:
    import base64
    from urllib.parse import unquote

    parts = urlsplit(url)
    try:
        has_port = parts.port is not None
    except ValueError:
        raise Invalid("the URL's port is no number") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid("a URL such as https://example.org/path is wanted")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = parts._replace(netloc=f"{host}:{parts.port}" if has_port else host, fragment="").geturl()
    if parts.username is None:
        return address, ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return address, "Basic " + base64.b64encode(pair.encode()).decode()


def _reason(error: Exception) -> str:
    """Why, in words that cannot hold the URL."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return "it did not answer in time"
    if isinstance(inner, socket.gaierror):
        return "its name is not known"
    import ssl

    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {inner.verify_message}"
    if isinstance(inner, OSError) and inner.strerror:
        return str(inner.strerror)
    return type(inner).__name__
