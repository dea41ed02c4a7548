"""Talks HTTP with one REST server: address, credentials, trust, time limits, and what its refusals mean."""

from __future__ import annotations

import email.utils
import re
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from holdfast.kernel.addresses import is_loopback
from holdfast.kernel.errors import Denied, HoldfastError, Invalid, NoSpace, NotFound, Unavailable
from holdfast.storage.rest.login import credentials

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 20.0
SILENCE_SECONDS = 120.0
"""For how long a server may say nothing: it hashes and syncs a pack of 128 MiB before it answers."""

RECEIVED_AT_ONCE = 1 << 18
"""Bytes asked from a connection at once: httpcore's own 64 KiB cost 15 ms of processor time for 16 MiB, these 10."""

_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_APPEND_ONLY = (
    "This server is append-only for this client: it keeps everything but locks. Delete (forget, prune) on the server, "
    "or with credentials that may."
)


def address(text: str) -> str:
    """The URL in ``text``, checked, percent-encoded and with a slash at its end.

    Raises ``Invalid``; no message repeats the text, because it may hold a password.
    """
    form = "Write rest:https://HOST:PORT/PATH/."
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Invalid("a rest: location needs an address that begins with http:// or https://", hint=form)
    if "@" in parts.netloc:
        raise Invalid(
            "a rest: location must not hold a user or a password: it is shown, saved and logged",
            hint="Set HOLDFAST_REST_USERNAME and HOLDFAST_REST_PASSWORD, or put them into ~/.netrc.",
        )
    if not _HOST.fullmatch(parts.netloc) or parts.query or parts.fragment or "?" in text or "#" in text:
        raise Invalid("the address in the rest: location cannot be understood", hint=form)
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    return f"{parts.scheme}://{parts.netloc}{path}".rstrip("/") + "/"


class Server:
    """Calls below one URL. Nothing is imported, read or contacted before the first call; safe in threads."""

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        self._url = url
        self._environ = environ
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    @contextmanager
    def answer(
        self,
        method: str,
        path: str,
        name: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        content: Iterable[Any] | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer to one request, whatever its status; its body is read inside of the block or not at all.

        ``path`` is below the URL, ``name`` is for messages. Raises ``Unavailable`` where the server does not answer to
        the end, and ``Denied`` where it is not the one it should be.
        """
        client = self._client or self._connect()
        import httpx

        try:
            url = f"{self._url}{path}?{query}" if query else self._url + path
            with client.stream(method, url, headers=headers, content=content) as response:
                yield response
        except httpx.TransportError as error:
            raise self._broken(error, method, name) from error

    def refusal(self, answer: httpx.Response, method: str, name: str) -> HoldfastError:
        """What a status that nobody wanted means."""
        status = answer.status_code
        kind, hint = _meaning(status, method, name)
        context: dict[str, Any] = {"location": f"rest:{self._url}", "method": method, "name": name, "status": status}
        if kind is NotFound:
            return NotFound(f"rest:{self._url} holds no file {name}", hint=hint, **context)
        if 300 <= status < 400:
            hint = f"It says that the place has moved{_where(answer.headers.get('Location', ''))}. Use that address."
        if (wait := _retry_after(answer)) is not None:
            context["retry_after"] = wait
        what = f"{method} {name}".strip()
        return kind(
            f"rest:{self._url} answers {what} with {status} {answer.reason_phrase}".rstrip(), hint=hint, **context
        )

    def strange(self, method: str, name: str, what: str) -> Unavailable:
        """The error for an answer that breaks the protocol."""
        return Unavailable(
            f"rest:{self._url}: {what} ({method} {name})",
            hint="Check that the address is that of a REST server for restic, and what stands between it and here.",
            location=f"rest:{self._url}",
            method=method,
            name=name,
        )

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()

    def _connect(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = self._new_client()
            return self._client

    def _new_client(self) -> httpx.Client:
        import httpcore
        import httpx

        httpcore.HTTP11Connection.READ_NUM_BYTES = RECEIVED_AT_ONCE
        host = urlsplit(self._url).hostname or ""
        return httpx.Client(
            auth=credentials(host, self._environ),
            verify=_trust(self._environ) if self._url.startswith("https:") else False,
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=50),
            headers={"Accept-Encoding": "identity", "User-Agent": "holdfast"},
            follow_redirects=False,  # credentials and data go to the address that was given, and nowhere else
            trust_env=not is_loopback(host),  # proxies, as everywhere, are not for one's own machine
        )

    def _broken(self, error: httpx.TransportError, method: str, name: str) -> HoldfastError:
        import httpx

        context = {"location": f"rest:{self._url}", "method": method, "name": name}
        what = f"{method} {name}".strip()
        if (untrusted := _certificate_error(error)) is not None:
            return Denied(
                f"the certificate of rest:{self._url} is not trusted: {untrusted.verify_message or untrusted.reason}",
                hint="For a certificate authority of your own set HOLDFAST_REST_CACERT to its PEM file.",
                **context,
            )
        if isinstance(error, httpx.UnsupportedProtocol | httpx.ProxyError):
            return Unavailable(
                f"the proxy on the way to rest:{self._url} fails: {error}",
                hint="Look at HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
                **context,
            )
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unavailable(
                f"cannot reach rest:{self._url}: {_reason(error)}",
                hint="Check the address, the network, and that the server runs.",
                **context,
            )
        return Unavailable(
            f"rest:{self._url}: the connection broke off during {what}: {_reason(error)}",
            hint="Try again; if it stays, look at the network and at the server's log.",
            **context,
        )


def _meaning(status: int, method: str, name: str) -> tuple[type[HoldfastError], str]:
    if status == 404 and name and method != "POST":
        return NotFound, "If it should be there, check the vault."
    if status == 401:
        return Denied, "Set HOLDFAST_REST_USERNAME and HOLDFAST_REST_PASSWORD, or put them into ~/.netrc."
    if status == 407:
        return Denied, "The proxy on the way asks for credentials: look at HTTP_PROXY and HTTPS_PROXY."
    if status in (403, 405):
        if method == "DELETE" and not name.startswith("locks/"):
            return Denied, _APPEND_ONLY
        return Denied, "Check that this user may use this path on the server, and that the server is not read-only."
    if status == 413:
        return NoSpace, "The server's quota is used up (rest-server --max-size), or a proxy limits the size of uploads."
    if status == 507:
        return NoSpace, "The server's disk is full: free some space there and run this again."
    # rest-server says 400 when an upload was cut off or garbled on its way.
    if status in (408, 425, 429) or status >= 500 or (status == 400 and method == "POST" and name):
        return Unavailable, "Try again later; if it stays, look at the server's log."
    return Invalid, "Check that the address is that of a REST server for restic."


def _retry_after(answer: httpx.Response) -> float | None:
    """The seconds that the server asks to wait; a date is told by the server's own clock."""
    told = answer.headers.get("Retry-After", "").strip()
    if told.isdigit():
        return float(told)
    try:
        until = email.utils.parsedate_to_datetime(told)
        now = email.utils.parsedate_to_datetime(answer.headers.get("Date", ""))
        return max((until - now).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def _where(location: str) -> str:
    parts = urlsplit(location)
    return f" to {parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.scheme and parts.netloc else ""


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) < 200 else text[:200] + "..."


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _trust(environ: Mapping[str, str]) -> ssl.SSLContext:
    """The system's certificate authorities (SSL_CERT_FILE and SSL_CERT_DIR count), or those in the file that was named.

    A client certificate is shown where restic's variable, or ours, names a PEM file with it and its key.
    """
    authorities = environ.get("HOLDFAST_REST_CACERT") or environ.get("RESTIC_CACERT") or None
    own = environ.get("HOLDFAST_REST_CLIENT_CERT") or environ.get("RESTIC_TLS_CLIENT_CERT")
    file = authorities or ""
    try:
        context = ssl.create_default_context(cafile=authorities)
        if own:
            file = own
            context.load_cert_chain(own)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise Invalid(
            f"cannot use the certificate file {file}: {error}",
            hint="It must be a readable PEM file: look at HOLDFAST_REST_CACERT and HOLDFAST_REST_CLIENT_CERT.",
        ) from error
    return context
