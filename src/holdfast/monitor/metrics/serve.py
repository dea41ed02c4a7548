"""Serve metrics to Prometheus: ``/metrics`` and ``/healthz``, GET and HEAD, with time limits and a limit of callers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from holdfast.kernel.addresses import is_loopback
from holdfast.kernel.errors import Denied, Invalid, Unavailable

CALLERS = 16
"""Connections at a time; one more is closed at once."""
SECONDS = 10.0
"""How long a caller may take to send its request, or to take the answer."""

Trouble = Callable[[str], None]


class MetricsServer:
    """Answers until it is closed. It listens once this is made.

    Raises ``Denied`` for an address beyond loopback unless it is ``exposed``: metrics tell names of plans and vaults,
    and ask for no password. Raises ``Unavailable`` where the address is taken, ``Invalid`` where it is not this
    machine's. ``on_trouble`` hears of scrapes that failed.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, *, exposed: bool = False, on_trouble: Trouble
    ) -> None:
        if not exposed and not is_loopback(host):
            raise Denied(
                f"{host} can be reached from other machines, and metrics have no password",
                hint="Listen on 127.0.0.1, or add --expose if that network is to be trusted.",
            )
        handler = type("_Bound", (_Handler,), {"registry": registry, "turn": threading.Lock(), "trouble": on_trouble})
        try:
            self._server = _Server((host, port), handler, ipv6=":" in host)
        except (OSError, OverflowError, UnicodeError) as error:
            raise _refused(host, port, error) from error

    @property
    def port(self) -> int:
        """The port, also where 0 asked for a free one."""
        return int(self._server.server_address[1])

    def serve(self, until: Callable[[], bool]) -> None:
        """Answer callers until ``until()`` is true, which is asked twice a second."""
        self._server.until = until
        self._server.timeout = 0.5
        while not until():
            self._server.handle_request()

    def close(self) -> None:
        """Listen no longer."""
        self._server.server_close()


def _refused(host: str, port: int, error: Exception) -> Exception:
    import errno

    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
        return Denied(f"cannot listen on {host}:{port}: {reason}", hint="Ports below 1024 are for root; take another.")
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return Unavailable(f"cannot listen on {host}:{port}: {reason}", hint="Does it run already? Take another port.")
    return Invalid(f"cannot listen on {host}:{port}: {reason}", hint="Take an address of this machine.")


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = CALLERS

    def __init__(self, where: tuple[str, int], handler: type[BaseHTTPRequestHandler], *, ipv6: bool) -> None:
        self.address_family = socket.AF_INET6 if ipv6 else socket.AF_INET
        self._free = threading.BoundedSemaphore(CALLERS)
        self.until: Callable[[], bool] = lambda: False
        super().__init__(where, handler)

    def server_bind(self) -> None:
        # Without HTTPServer's look-up of our own name, which may take minutes where a name server is dead.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is nobody's trouble."""


class _Handler(BaseHTTPRequestHandler):
    registry: CollectorRegistry
    turn: threading.Lock
    trouble: Trouble

    timeout = SECONDS
    server_version = "holdfast"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self._send(HTTPStatus.OK, "text/plain; charset=utf-8", b"ok\n", with_body=with_body)
        elif path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            try:
                with self.turn:  # one scrape at a time: two at once would do the same work twice
                    body = encode(self.registry)
            except Exception as error:
                type(self).trouble(f"the metrics could not be told: {error}")
                text = b"the metrics could not be told; the server's own output says why\n"
                self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text, with_body=with_body)
                return
            self._send(HTTPStatus.OK, kind, body, with_body=with_body)
        else:
            text = b"there is /metrics, and /healthz\n"
            self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", text, with_body=with_body)

    def _send(self, status: HTTPStatus, kind: str, body: bytes, *, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not told: there is one every few seconds."""
