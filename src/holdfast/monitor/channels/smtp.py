"""E-mail straight to a mail server: ``smtp://`` (with STARTTLS where it is offered) and ``smtps://``."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import parse_qs, unquote, urlsplit

from holdfast.kernel.errors import Denied, Invalid, Unavailable
from holdfast.monitor.channels.base import ChannelSpec, Message

_URGENT = {"critical": "1 (Highest)", "error": "2 (High)"}
_FORM = "smtp://user:password@mail.example.org:587/?from=backup@example.org&to=me@example.org"


class Smtp:
    """Sends one e-mail a message.

    The URL: ``smtps://[user:password@]host[:port]/?from=ADDRESS&to=ADDRESS[,ADDRESS]``. A password never goes over a
    line that is not encrypted, unless the URL says ``starttls=no``; ``starttls=yes`` wants encryption always.
    """

    def __init__(self, spec: ChannelSpec) -> None:
        parts = urlsplit(spec.url)
        query = parse_qs(parts.query)
        try:
            self._port = parts.port or (465 if parts.scheme == "smtps" else 587 if parts.username else 25)
        except ValueError:
            raise Invalid("the port of the SMTP URL is no number") from None
        self._host = parts.hostname or ""
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._from = "".join(query.get("from", [])) or (self._user if "@" in self._user else "")
        self._to = [address.strip() for value in query.get("to", []) for address in value.split(",") if address.strip()]
        self._starttls = "".join(query.get("starttls", ["auto"]))
        self._implicit = parts.scheme == "smtps"
        self._seconds = spec.seconds
        if not self._host or not self._from or not self._to or self._starttls not in ("auto", "yes", "no"):
            raise Invalid("the SMTP URL lacks a host, from= or to=", hint=f"It looks like {_FORM}")

    def send(self, message: Message) -> None:
        mail = self._mail(message)
        try:
            with self._connected() as server:
                if self._user:
                    server.login(self._user, self._password)
                refused = server.send_message(mail, self._from, self._to)
        except smtplib.SMTPAuthenticationError as error:
            raise Denied(f"{self._host} refuses user and password ({error.smtp_code})") from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            raise _answer(self._host, codes[-1] if codes else 550, "the recipients") from None
        except smtplib.SMTPResponseException as error:
            raise _answer(self._host, error.smtp_code, "the message") from None
        except ssl.SSLCertVerificationError as error:
            raise Unavailable(f"the certificate of {self._host} is not valid: {error.verify_message}") from None
        except (smtplib.SMTPException, OSError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise Unavailable(f"{self._host} cannot be reached: {reason}") from None
        if refused:
            raise Invalid(f"{self._host} refuses {len(refused)} of {len(self._to)} recipients")

    def _connected(self) -> smtplib.SMTP:
        secure = ssl.create_default_context()
        if self._implicit:
            return smtplib.SMTP_SSL(self._host, self._port, timeout=self._seconds, context=secure)
        server = smtplib.SMTP(self._host, self._port, timeout=self._seconds)
        try:
            server.ehlo()
            if self._starttls != "no" and server.has_extn("starttls"):
                server.starttls(context=secure)
                server.ehlo()
            elif self._starttls == "yes" or (self._user and self._starttls == "auto"):
                raise Invalid(
                    f"{self._host} offers no encryption (STARTTLS), so no password is sent to it",
                    hint="Use smtps://, or write starttls=no into the URL if the way there is safe.",
                )
        except BaseException:
            server.close()
            raise
        return server

    def _mail(self, message: Message) -> EmailMessage:
        from datetime import UTC, datetime

        mail = EmailMessage()
        try:
            mail["From"] = self._from
            mail["To"] = ", ".join(self._to)
        except (ValueError, IndexError):
            raise Invalid("an address in from= or to= of the SMTP URL is none") from None
        mail["Subject"] = " ".join(message.title.split())[:200]
        mail["Date"] = format_datetime(datetime.fromisoformat(message.at) if message.at else datetime.now(UTC))
        # The same id when it is sent again: a mail box shows one of the two.
        mail["Message-ID"] = f"<{message.id}@{_domain(message.host)}.holdfast>"
        mail["Auto-Submitted"] = "auto-generated"
        if message.level in _URGENT:
            mail["X-Priority"] = _URGENT[message.level]
        mail.set_content(message.body or message.title)
        return mail


def open_channel(spec: ChannelSpec) -> Smtp:
    """The mail server and the addresses of ``spec.url``."""
    return Smtp(spec)


def _answer(host: str, code: int, what: str) -> Invalid | Unavailable:
    if 500 <= code < 600:
        return Invalid(f"{host} refuses {what} ({code})", hint="Look at from= and to= of the channel's URL.")
    return Unavailable(f"{host} does not take {what} now ({code})")


def _domain(host: str) -> str:
    return (
        "".join(letter for letter in host if letter.isascii() and (letter.isalnum() or letter in ".-")) or "localhost"
    )
