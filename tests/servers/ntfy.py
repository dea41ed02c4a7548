"""A double of the ntfy server: topics, users, tokens, publishing as text or JSON, and its refusals, as docs.ntfy.sh has
them. The real one is written in Go and could not be had for these tests."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.header import decode_header, make_header
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PRIORITIES = {"min": 1, "low": 2, "default": 3, "high": 4, "max": 5, "urgent": 5}
MESSAGE_BYTES = 4096
ERRORS = {
    400: (40017, "invalid request: request body must be valid JSON"),
    401: (40101, "unauthorized"),
    403: (40301, "forbidden"),
    413: (41301, "attachment too large, or bandwidth limit reached"),
    429: (42901, "limit reached: too many requests"),
    500: (50001, "internal server error"),
}


@dataclass
class Ntfy:
    """A running server. ``users`` have passwords, ``tokens`` belong to users; ``may`` are the topics of each user.
    Without users everybody may do everything. ``trouble`` is a status that everybody gets, ``delay`` seconds before."""

    port: int = 0
    users: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    may: dict[str, set[str]] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    trouble: int = 0
    delay: float = 0.0

    def refusal(self, authorization: str, topic: str) -> int:
        """401 or 403, or 0 if whoever says so may publish there."""
        if not self.users:
            return 0
        kind, _, value = authorization.partition(" ")
        user = None
        if kind == "Bearer":
            user = self.tokens.get(value)
        elif kind == "Basic":
            name, _, password = base64.b64decode(value).decode().partition(":")
            user = name if name in self.users and self.users[name] == password else None
            if not name:
                user = self.tokens.get(password)
        if authorization and user is None:
            return 401
        return 0 if user is not None and topic in self.may.get(user, {topic}) else 403


@contextmanager
def ntfy_server() -> Iterator[Ntfy]:
    """A server on loopback until the end of the block."""
    running = Ntfy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(running.delay)
            try:
                status, answer = self._publish(body)
            except (ValueError, KeyError):
                status, answer = 400, {}
            if status != 200:
                code, words = ERRORS[status]
                answer = {"code": code, "http": status, "error": words, "link": "https://ntfy.sh/docs/publish/"}
            reply = json.dumps(answer).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_PUT = do_POST

        def _publish(self, body: bytes) -> tuple[int, dict[str, Any]]:
            fields = {name: self._header(name) for name in ("title", "priority", "tags", "click", "actions")}
            topic = self.path.partition("?")[0].strip("/")
            message = body.decode()
            if not topic:
                told = json.loads(body)
                topic, message = told["topic"], told.get("message", "triggered")
                # The server turns what the JSON says into headers, and leaves those that came with it.
                fields |= {name: told[name] for name in fields if told.get(name)}
            if running.trouble:
                return running.trouble, {}
            if refusal := running.refusal(self.headers.get("Authorization") or "", topic):
                return refusal, {}
            if len(message.encode()) > MESSAGE_BYTES:
                return 413, {}
            found: dict[str, Any] = {"topic": topic, "message": message, "title": fields["title"]}
            priority = fields["priority"] or "3"
            found["priority"] = int(priority) if str(priority).isdigit() else PRIORITIES[str(priority)]
            found["tags"] = [tag.strip() for tag in str(fields["tags"]).split(",") if tag.strip()]
            found["click"] = fields["click"]
            found["actions"] = _actions(str(fields["actions"]))
            running.messages.append(found)
            return 200, {"id": "x", "event": "message", **found}

        def _header(self, name: str) -> str:
            value = self.headers.get(f"X-{name}") or self.headers.get(name) or ""
            return str(make_header(decode_header(value)))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _actions(text: str) -> list[dict[str, str]]:
    """The short form: ``view, Label, https://...`` with semicolons between the actions."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        action, label, url = (word.strip() for word in part.split(","))
        found.append({"action": action, "label": label, "url": url})
    return found
