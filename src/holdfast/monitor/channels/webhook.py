"""A webhook: the message as a JSON POST, signed where a secret is shared."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable

from holdfast.monitor.channels.base import ChannelSpec, Message
from holdfast.monitor.channels.web import post


class Webhook:
    """POSTs ``Message.to_json()``.

    With a secret, ``X-Holdfast-Signature`` is ``sha256=`` and the hex HMAC-SHA256, under the secret, of the value of
    ``X-Holdfast-Timestamp`` (seconds since 1970), a dot, and the body. ``X-Holdfast-Delivery`` is the message's id.
    """

    def __init__(self, spec: ChannelSpec, now: Callable[[], float] = time.time) -> None:
        self._spec = spec
        self._now = now

    def send(self, message: Message) -> None:
        body = json.dumps(message.to_json(), ensure_ascii=False, separators=(",", ":")).encode()
        headers = {str(name): str(value) for name, value in self._spec.options.get("headers", {}).items()}
        headers |= {"Content-Type": "application/json", "X-Holdfast-Delivery": message.id}
        if self._spec.secret:
            stamp = str(int(self._now()))
            mac = hmac.new(self._spec.secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256)
            headers |= {"X-Holdfast-Timestamp": stamp, "X-Holdfast-Signature": f"sha256={mac.hexdigest()}"}
        post(self._spec.url, body, headers, self._spec.seconds)


def open_channel(spec: ChannelSpec) -> Webhook:
    """The webhook at ``spec.url``."""
    return Webhook(spec)
