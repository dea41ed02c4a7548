"""Ways to tell people something: one file each, all behind ``Channel.send``, and each in a process of its own."""

from __future__ import annotations

import importlib

from holdfast.kernel.errors import Unsupported
from holdfast.monitor.channels.base import Channel, ChannelSpec

KINDS: dict[str, str] = {
    "apprise": "apprise",
    "desktop": "desktop",
    "ping": "ping",
    "smtp": "smtp",
    "webhook": "webhook",
}
"""Kind of channel -> its module here, which offers ``open_channel(spec)``."""

_OF_SCHEME = {
    "http": "webhook",
    "https": "webhook",
    "smtp": "smtp",
    "smtps": "smtp",
    "desktop": "desktop",
}


def kind_of(url: str) -> str:
    """The kind of channel that ``url`` is for; whatever is not ours is for apprise."""
    return _OF_SCHEME.get(url.partition("://")[0].lower(), "apprise")


def open_channel(spec: ChannelSpec) -> Channel:
    """The channel that ``spec`` describes. Nothing is sent yet. Raises ``Invalid``, ``Unsupported``."""
    if spec.kind not in KINDS:
        raise Unsupported(f"there is no channel of the kind {spec.kind!r}", hint=f"Known are {', '.join(KINDS)}.")
    module = importlib.import_module(f"holdfast.monitor.channels.{KINDS[spec.kind]}")
    channel: Channel = module.open_channel(spec)
    return channel
