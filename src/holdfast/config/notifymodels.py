"""What ``holdfast.yaml`` may say about who is told of what, and how: ``notify``, and ``expect`` of a plan."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from holdfast.config.fields import Duration, Name, Section, Share, Text, Variable
from holdfast.monitor.notice import RULES
from holdfast.monitor.quiet import minutes

Level = Literal["info", "warning", "error", "critical"]
_SOURCES = ("url", "url_file", "url_command", "url_env")
_GROUPS = ("problems", "all")


def _url(text: str) -> str:
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE) is None:
        raise ValueError("a URL is wanted, such as ntfys://topic or mailtos://user:password@example.org")
    return text


def _web(text: str) -> str:
    if re.match(r"https?://[^/\s]", text) is None:
        raise ValueError("a URL such as https://hc-ping.com/... is wanted")
    return text


def _channel(value: object) -> object:
    if value == "desktop":
        return {"url": "desktop://"}
    return {"url": value} if isinstance(value, str) else value


def _ping(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


def _hours(text: str) -> str:
    minutes(text)
    return text


def _quiet(value: object) -> object:
    return {"hours": value} if isinstance(value, str) else value


def _zone(text: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(text)
    except (OSError, ValueError, KeyError):  # a zone that nobody knows is a KeyError
        raise ValueError("a time zone is wanted, such as Europe/Berlin") from None
    return text


def _rule(word: str) -> str:
    if word in RULES or word in _GROUPS:
        return word
    import difflib

    near = difflib.get_close_matches(word, (*RULES, *_GROUPS), n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"one of {', '.join((*_GROUPS, *RULES))} is wanted{meant}")


def _level_words(value: object) -> object:
    """One word for all levels, or one each."""
    if isinstance(value, str):
        return dict.fromkeys(("info", "warning", "error", "critical"), value)
    return value


ByLevel = Annotated[dict[Level, Text], BeforeValidator(_level_words, json_schema_input_type=str | dict[Level, str])]


class SecretUrl(Section):
    """A URL that may itself be a secret: written here, or in a file, printed by a command, or in the environment."""

    url: Annotated[str, AfterValidator(_url)] | None = Field(
        None, description="The URL; ${NAME} is taken from the environment."
    )
    url_file: Text | None = Field(None, description="A file that holds the URL.")
    url_command: Text | None = Field(None, description="A command that prints the URL; no shell runs it.")
    url_env: Variable | None = Field(None, description="The name of an environment variable that holds the URL.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(getattr(self, name) is not None for name in _SOURCES) != 1:
            raise ValueError("one of url, url_file, url_command and url_env is wanted")
        return self


class PingUrl(SecretUrl):
    """The address of a dead man's switch, such as a check of healthchecks.io."""

    url: Annotated[str, AfterValidator(_web)] | None = Field(None, description="Such as https://hc-ping.com/....")


class ChannelSettings(SecretUrl):
    """A way to tell people: a service of apprise (ntfys://, mailtos://, ...), smtp(s)://, http(s):// for a webhook, or
    desktop."""

    secret_file: Text | None = Field(None, description="A webhook: a file with the secret that signs what is sent.")
    secret_command: Text | None = Field(None, description="A command that prints that secret.")
    secret_env: Variable | None = Field(None, description="The name of an environment variable that holds it.")
    headers: dict[str, Text] = Field(default_factory=dict, description="A webhook: further headers.")
    priority: ByLevel | None = Field(None, description="ntfy: priority of each level. [low, default, high, max]")
    tags: ByLevel | None = Field(None, description="ntfy: tags of each level, with commas between them.")
    click: Text | None = Field(None, description="ntfy: the address that a tap on the message opens.")
    actions: Text | None = Field(None, description="ntfy: buttons, such as 'view, Status, https://example.org'.")
    time_limit: Duration = Field("15s", description="How long sending a message may take.")
    rate: int = Field(20, ge=1, le=10_000, description="Most messages in an hour; further ones are put into one. [20]")

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if sum(each is not None for each in (self.secret_file, self.secret_command, self.secret_env)) > 1:
            raise ValueError("only one of secret_file, secret_command and secret_env is wanted")
        return self


class Rule(Section):
    """Who hears of what."""

    on: tuple[Annotated[str, AfterValidator(_rule)], ...] = Field(
        min_length=1, description="What happened: failed, overdue, damage, recovered, digest, problems, all, ..."
    )
    to: tuple[Name, ...] = Field(min_length=1, description="The names of channels.")
    plans: tuple[Name, ...] = Field((), description="Only of these plans. [all, and what belongs to no plan]")


class QuietHours(Section):
    """When people want to sleep. What would be told then is told afterwards."""

    hours: Annotated[str, AfterValidator(_hours)] = Field(description="Such as 22:00-07:00.")
    zone: Annotated[str, AfterValidator(_zone)] | None = Field(
        None, description="Such as Europe/Berlin. [this machine's]"
    )
    critical: Literal["send", "hold"] = Field("send", description="What becomes of critical messages.")


class Escalate(Section):
    """Who is told as well if nobody acknowledges a problem with 'holdfast ack'."""

    after: Duration = Field("4h", description="How long after the problem began.")
    to: tuple[Name, ...] = Field(min_length=1, description="The names of channels.")
    level: Level = Field("error", description="Only of problems that are at least so grave.")


class Notify(Section):
    """How people are told."""

    channels: dict[
        Name,
        Annotated[ChannelSettings, BeforeValidator(_channel, json_schema_input_type=str | ChannelSettings)],
    ] = Field(default_factory=dict, description="Name -> URL of a service, such as ntfys://topic, or more about it.")
    rules: tuple[Rule, ...] = Field((), description="Who hears of what. [everybody, of every problem and its end]")
    quiet: Annotated[QuietHours, BeforeValidator(_quiet, json_schema_input_type=str | QuietHours)] | None = Field(
        None, description="Hours in which only critical messages are sent, such as 22:00-07:00."
    )
    repeat: Literal["never"] | Duration = Field("24h", description="How often an open problem is told again, or never.")
    escalate: Escalate | None = Field(None, description="Who else is told if nobody cares.")
    space: Share = Field("10%", description="A vault whose disk has less free than this is nearly full.")
    ping: Annotated[PingUrl, BeforeValidator(_ping, json_schema_input_type=str | PingUrl)] | None = Field(
        None, description="A dead man's switch for all plans that have none of their own."
    )


class Expect(Section):
    """What is an alarm if it does not come true."""

    every: Duration | None = Field(None, description="A snapshot at least this often, such as 26h.")
    shrink: Share | None = Field(None, description="An alarm if a snapshot is smaller by this share than is usual.")
    ping: Annotated[PingUrl, BeforeValidator(_ping, json_schema_input_type=str | PingUrl)] | None = Field(
        None, description="A dead man's switch that hears when a run begins, and how it ended."
    )
