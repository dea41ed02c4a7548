"""What a channel is asked to send, and what it promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any, Protocol

from holdfast.kernel.values import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One message for people, without secrets.

    ``id`` stays the same when sending is tried again: a receiver can tell a copy by it. ``event`` is what happened:
    ``raised``, ``worse``, ``repeated``, ``escalated``, ``resolved``, ``bundle`` (several in one), ``test``, or, for a
    ping, ``start``, ``success``, ``fail``. ``notices`` are the details of each, JSON-ready; ``at`` is an RFC 3339 time.
    """

    id: str
    title: str
    body: str
    level: str = "info"
    event: str = "raised"
    host: str = ""
    at: str = ""
    notices: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The message as a JSON-ready object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Message:
        """The message that :meth:`to_json` made."""
        return cls(**{**value, "notices": tuple(value.get("notices", ()))})


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """Everything that a channel needs to know. ``url`` and ``secret`` are secrets; ``options`` are by kind;
    ``seconds`` is how long sending may take."""

    kind: str
    url: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 15.0


class Channel(Protocol):
    """A way to tell people something."""

    def send(self, message: Message) -> None:
        """Hand ``message`` over to whoever brings it to people; returns only when they took it.

        Raises ``Denied`` (they know us not, or may not: trying again does not help), ``Invalid`` (the channel is
        described wrongly), ``Unsupported`` (something is not installed), ``Unavailable`` (anything else: try again;
        ``context["retry_after"]``, in seconds, where they said when). No error says anything of the URL but its host.
        """
        ...


def short_body(text: str, limit: int) -> str:
    """``text`` within ``limit`` characters; what is missing is said."""
    end = "\n... (the rest is cut)"
    return text if len(text) <= limit else text[: max(0, limit - len(end))] + end
