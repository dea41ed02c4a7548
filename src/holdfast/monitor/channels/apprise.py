"""The services that apprise knows (ntfy, e-mail, Slack, Telegram and a hundred more), by their URLs."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from holdfast.kernel.errors import HoldfastError, Invalid, Unavailable, Unsupported
from holdfast.monitor.channels.base import ChannelSpec, Message, short_body
from holdfast.monitor.channels.web import refusal

_TYPES = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}
_PRIORITIES = {"info": "low", "warning": "default", "error": "high", "critical": "max"}
_TAGS = {"info": "white_check_mark", "warning": "warning", "error": "x", "critical": "rotating_light"}
_STATUS = re.compile(r"error=([1-5][0-9]{2})(?:[0-9]{2})?\b")
"""An HTTP status, or one of ntfy's own codes, which begin with it: 40101, 42901."""
_NTFY_BYTES = 3800
"""ntfy makes a file of what is longer than 4,096 bytes, JSON around it included."""


class Apprise:
    """Sends through one apprise URL; options ``priority`` and ``tags`` (level -> word), ``click`` and ``actions`` are
    for ntfy, where they are headers of the same names."""

    def __init__(self, spec: ChannelSpec) -> None:
        self._spec = spec
        self._service = spec.url.partition("://")[0].lower()

    def send(self, message: Message) -> None:
        try:
            import apprise
        except ImportError:
            raise Unsupported(
                f"the channel needs apprise for {self._service}://, which is not installed",
                hint="Install it with: pip install 'holdfast[notify]'",
            ) from None
        heard = _Heard()
        logger = logging.getLogger("apprise")
        logger.addHandler(heard)
        logger.propagate = False  # what it says may hold the URL, or a topic that is as good as a password
        try:
            sender = apprise.Apprise(
                asset=apprise.AppriseAsset(app_id="Holdfast", app_desc="Holdfast", secure_logging=True)
            )
            if not sender.add(self._url(message)):
                raise Invalid(
                    f"apprise does not understand the channel's {self._service}:// URL",
                    hint="Its form is in apprise's documentation; special characters are written as %40 and the like.",
                )
            done = sender.notify(
                title=message.title,
                body=self._body(message),
                notify_type=_TYPES.get(message.level, "failure"),
                body_format="text",
            )
        finally:
            logger.removeHandler(heard)
        if not done:
            raise heard.error(self._service)

    def _body(self, message: Message) -> str:
        body = message.body or message.title
        if not self._service.startswith("ntfy"):
            return body
        while len(quote(body, safe=" ")) > 3 * _NTFY_BYTES or len(body.encode()) > _NTFY_BYTES:
            body = short_body(body, len(body) * 3 // 4)
        return body

    def _url(self, message: Message) -> str:
        """The URL with time limits, and for ntfy with what this message's level asks for; what it says stays."""
        seconds = max(2.0, self._spec.seconds - 2)
        extra = {"rto": f"{seconds:.0f}", "cto": f"{min(seconds, 5):.0f}"}
        if self._service in ("ntfy", "ntfys"):
            options = self._spec.options
            extra |= {
                "priority": _of_level(options, "priority", _PRIORITIES, message.level),
                "xtags": _of_level(options, "tags", _TAGS, message.level),
                "image": "no",
                **{name: str(options[name]) for name in ("click", "actions") if options.get(name)},
            }
        url = self._spec.url
        said = {name.lower() for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
        if "tags" in said:
            said.add("xtags")
        missing = {name: value for name, value in extra.items() if name not in said}
        # ";" and "," have a meaning in actions, and "%2C" is read back as it should be.
        return url + ("&" if "?" in url else "?") + urlencode(missing, quote_via=quote) if missing else url


def open_channel(spec: ChannelSpec) -> Apprise:
    """The service of ``spec.url``."""
    return Apprise(spec)


def _of_level(options: Mapping[str, Any], name: str, usual: Mapping[str, str], level: str) -> str:
    chosen = options.get(name)
    if isinstance(chosen, str):
        return chosen
    own = chosen.get(level) if isinstance(chosen, Mapping) else None
    return str(own) if own else usual.get(level, usual["error"])


class _Heard(logging.Handler):
    """Keeps what apprise says about a failure: of all that, only a status may be told."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())

    def error(self, service: str) -> HoldfastError:
        """The error for what was said."""
        for line in reversed(self._said):
            if found := _STATUS.search(line):
                return refusal(service, int(found[1]))
        if any("onnection" in line for line in self._said):
            return Unavailable(f"{service} cannot be reached")
        return Unavailable(f"{service} did not take the message")
