"""An object store that misbehaves as a test wants: it ignores conditions, answers with errors, counts what it gets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class OddStore:
    """S3 without authorisation: GET (also ranges), HEAD, PUT and DELETE of objects; conditions are ignored.

    ``answer`` may give another answer to a request (method, URL as it was asked for, headers), or None for the usual
    one; ``requests`` records method and URL of each.
    """

    port: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    answer: Callable[[str, str, dict[str, str]], Answer | None] = lambda method, url, headers: None

    def handle(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """What the usual answer to a request is."""
        path = urlsplit(url).path
        if method == "PUT":
            self.objects[path] = body
            return 200, {"ETag": f'"{md5(body).hexdigest()}"'}, b""
        if method == "DELETE":
            self.objects.pop(path, None)
            return 204, {}, b""
        if path not in self.objects:
            return 404, {}, s3_error("NoSuchKey", "The specified key does not exist.")
        return 200, {"ETag": '"x"', "Last-Modified": "Sun, 22 Nov 2026 01:00:00 GMT"}, self.objects[path]


def s3_error(code: str, message: str, more: str = "") -> bytes:
    """The body of an error as S3 writes it."""
    return f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>".encode()


@contextmanager
def odd_store() -> Iterator[OddStore]:
    """Serve until the end of the block; also as an HTTP proxy for any host."""
    store = OddStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            store.requests.append((self.command, self.path))
            found = store.answer(self.command, self.path, headers)
            status, more, content = found or store.handle(self.command, self.path, headers, body)
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = respond

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        store.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield store
        finally:
            server.shutdown()
            thread.join()
