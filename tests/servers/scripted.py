"""An HTTP server whose answers a test writes itself: for what real servers do seldom, or only other ones than ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    """What the client sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What it gets. ``promised`` is a Content-Length that is not true: the connection ends after ``body``."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    promised: int | None = None


HANG_UP = Reply(status=0)
"""The connection is closed without an answer."""


@dataclass
class Scripted:
    """A running server; ``requests`` are those that came."""

    url: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def scripted(answer: Callable[[Request], Reply]) -> Iterator[Scripted]:
    """A server on loopback that says ``answer(request)`` until the end of the block."""
    running = Scripted("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, dict(self.headers.items()), body)
            running.requests.append(request)
            reply = answer(request)
            if reply is HANG_UP:
                self.close_connection = True
                return
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in reply.headers:
                length = len(reply.body) if reply.promised is None else reply.promised
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            if reply.promised is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    running.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
