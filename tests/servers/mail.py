"""A real SMTP server (aiosmtpd) in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from tests.servers.listening import free_port


@dataclass
class Mail:
    """A running server. ``users`` have passwords; with any, nobody else may send. ``trouble`` is an answer to every
    message (such as ``451 try later``); while ``hung`` is clear no message is answered."""

    port: int = 0
    users: dict[str, str] = field(default_factory=dict)
    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    trouble: str = ""
    hung: threading.Event = field(default_factory=threading.Event)


@contextmanager
def mail_server(*, login: bool = False) -> Iterator[Mail]:
    """A server on loopback until the end of the block; with ``login`` whoever sends has to say who he is."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult, LoginPassword

    running = Mail()
    running.hung.set()

    class Handler:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
            import asyncio

            while not running.hung.is_set():
                await asyncio.sleep(0.02)
            if running.trouble:
                return running.trouble
            running.messages.append(message_from_bytes(envelope.content, policy=policy.default))
            running.recipients.append(list(envelope.rcpt_tos))
            return "250 OK"

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        good = running.users.get(data.login.decode()) == data.password.decode()
        return AuthResult(success=good, handled=good)

    controller = Controller(
        Handler(),
        hostname="127.0.0.1",
        port=free_port(),
        auth_require_tls=False,
        auth_required=login,
        authenticator=authenticate,
        ready_timeout=30,
    )
    controller.start()
    running.port = controller.port
    try:
        yield running
    finally:
        running.hung.set()
        controller.stop()
