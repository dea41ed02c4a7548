"""The configured channels as the monitor takes them; secrets are fetched when something is about to be sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from holdfast.config.notifysettings import NamedChannel, channels
from holdfast.kernel.errors import HoldfastError, Invalid
from holdfast.monitor.channels import kind_of
from holdfast.monitor.channels.apart import Sent
from holdfast.monitor.channels.base import ChannelSpec
from holdfast.monitor.delivering import Line

if TYPE_CHECKING:
    from holdfast.app.context import Context
    from holdfast.config.settings import Settings


def lines(context: Context, settings: Settings) -> Mapping[str, Line]:
    """Every configured channel by name."""
    return {name: _line(context, channel) for name, channel in channels(settings).items()}


def _line(context: Context, channel: NamedChannel) -> Line:
    def open_line() -> ChannelSpec | Sent:
        try:
            url = channel.url.reveal(context.environ, context.warn)
            if "://" not in url:
                raise Invalid("what should be the channel's URL is none", hint="It looks like ntfys://topic.")
            secret = channel.secret.reveal(context.environ, context.warn)
        except HoldfastError as error:
            return Sent(error.message, error.hint, refused=True)
        return ChannelSpec(kind_of(url), url, secret, channel.options, channel.seconds)

    return Line(open_line, channel.seconds, channel.rate)
