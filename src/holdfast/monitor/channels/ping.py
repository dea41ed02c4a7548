"""A dead man's switch: a service that raises the alarm when it hears nothing from us, as healthchecks.io does."""

from __future__ import annotations

from urllib.parse import urlsplit

from holdfast.monitor.channels.base import ChannelSpec, Message
from holdfast.monitor.channels.web import post

_PATHS = {"start": "/start", "success": "", "fail": "/fail"}
TAIL_BYTES = 10_000
"""What healthchecks.io keeps of a body."""


class Ping:
    """POSTs the body's end to the URL itself for a success, to ``/start`` or ``/fail`` beneath it for the others."""

    def __init__(self, spec: ChannelSpec) -> None:
        self._spec = spec

    def send(self, message: Message) -> None:
        parts = urlsplit(self._spec.url)
        url = parts._replace(path=parts.path.rstrip("/") + _PATHS.get(message.event, "")).geturl()
        body = message.body.encode("utf-8", "replace")[-TAIL_BYTES:]
        post(url, body, {"Content-Type": "text/plain; charset=utf-8"}, self._spec.seconds)


def open_channel(spec: ChannelSpec) -> Ping:
    """The switch at ``spec.url``."""
    return Ping(spec)
