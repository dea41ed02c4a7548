"""What the configuration says about notices, as the use cases take it. Secrets are fetched only when needed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from holdfast.config import secrets, words
from holdfast.config.secrets import Warn
from holdfast.kernel.errors import Invalid
from holdfast.kernel.values import dataclass
from holdfast.monitor.notice import PROBLEMS, RULES, Escalation, NoticeSettings, Quiet, Route
from holdfast.monitor.quiet import minutes

if TYPE_CHECKING:
    from holdfast.config.notifymodels import ChannelSettings, Notify, PingUrl, QuietHours
    from holdfast.config.settings import Settings
    from holdfast.kernel.clock import Clock

_GROUPS = {"problems": PROBLEMS, "all": frozenset(RULES)}
_COMMAND_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class SecretText:
    """A text that may be a secret: itself, or the file, command or variable that it is in; all empty: there is none."""

    text: str = field(default="", repr=False)
    file: str = ""
    command: str = ""
    variable: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.file or self.command or self.variable)

    def reveal(self, environ: Mapping[str, str], warn: Warn) -> str:
        """The text; empty where there is none. Raises ``Invalid``, ``NotFound``, ``Denied``."""
        if self.file:
            found = secrets.from_file(self.file, warn).reveal()
        elif self.command:
            found = _printed(self.command)
        elif self.variable:
            if not environ.get(self.variable):
                raise Invalid(f"the environment variable {self.variable}, which a channel needs, is not set")
            found = environ[self.variable].encode("utf-8", "surrogateescape")
        else:
            return self.text
        text = found.decode("utf-8", "replace").strip()
        if not text:
            raise Invalid(f"what a channel needs is empty: {self.file or self.command.split()[0]}")
        return text


@dataclass(frozen=True, slots=True)
class NamedChannel:
    """A configured channel; ``options`` are those of ``monitor.channels``, ``seconds`` is its time limit."""

    name: str
    url: SecretText
    secret: SecretText
    options: Mapping[str, Any]
    seconds: float
    rate: int


def channels(settings: Settings) -> dict[str, NamedChannel]:
    """All channels by name, in the order of the file."""
    found = settings.loaded.configuration.notify.channels
    return {name: _channel(name, each, settings) for name, each in found.items()}


def notice_settings(settings: Settings, clock: Clock) -> NoticeSettings:
    """What the rules need to know."""
    notify = settings.loaded.configuration.notify
    plans = settings.loaded.configuration.plans
    return NoticeSettings(
        channels=tuple(notify.channels),
        routes=tuple(
            Route(frozenset().union(*(_GROUPS.get(word, {word}) for word in rule.on)), rule.to, frozenset(rule.plans))
            for rule in notify.rules
        ),
        quiet=_quiet(notify.quiet),
        repeat=0.0 if notify.repeat == "never" else words.seconds(notify.repeat),
        escalation=_escalation(notify),
        space=words.share(notify.space),
        shrink={
            name: words.share(plan.expect.shrink) for name, plan in plans.items() if plan.expect and plan.expect.shrink
        },
        source=str(settings.path),
        offset=_offset(notify.quiet, clock),
    )


def ping_of(settings: Settings, plan: str) -> SecretText:
    """The dead man's switch of a plan; false where it has none."""
    configuration = settings.loaded.configuration
    found = configuration.plans.get(plan)
    own = found.expect.ping if found is not None and found.expect is not None else None
    return _secret_url(own or configuration.notify.ping, settings)


def _channel(name: str, found: ChannelSettings, settings: Settings) -> NamedChannel:
    options: dict[str, Any] = {
        key: value
        for key in ("headers", "priority", "tags", "click", "actions")
        if (value := getattr(found, key)) is not None
    }
    secret = SecretText(
        "",
        settings.place(found.secret_file) if found.secret_file else "",
        found.secret_command or "",
        found.secret_env or "",
    )
    url = _secret_url(found, settings)
    return NamedChannel(name, url, secret, options, words.seconds(found.time_limit), found.rate)


def _secret_url(found: ChannelSettings | PingUrl | None, settings: Settings) -> SecretText:
    if found is None:
        return SecretText()
    file = settings.place(found.url_file) if found.url_file else ""
    return SecretText(found.url or "", file, found.url_command or "", found.url_env or "")


def _quiet(found: QuietHours | None) -> Quiet | None:
    if found is None:
        return None
    begin, end = minutes(found.hours)
    return Quiet(begin, end, found.critical == "hold")


def _escalation(notify: Notify) -> Escalation | None:
    found = notify.escalate
    return None if found is None else Escalation(words.seconds(found.after), found.to, found.level)


def _offset(quiet: QuietHours | None, clock: Clock) -> Any:
    if quiet is None or quiet.zone is None:
        return clock.utc_offset
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    zone = ZoneInfo(quiet.zone)

    def offset(at_ns: int) -> int:
        away = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).astimezone(zone).utcoffset()
        return 0 if away is None else int(away.total_seconds())

    return offset


def _printed(command: str) -> bytes:
    """What ``command`` prints; unlike a password's, it has to come soon, and nobody is there to be asked."""
    import shlex

    try:
        split = shlex.split(command)
        done = subprocess.run(
            split, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=_COMMAND_SECONDS, check=False
        )
    except ValueError as error:
        raise Invalid(f"a channel's command cannot be read: {error}", hint="Look at its quotes.") from None
    except subprocess.TimeoutExpired:
        raise Invalid(f"a channel's command did not end within {_COMMAND_SECONDS:.0f} s: {split[0]}") from None
    except OSError as error:
        raise Invalid(f"a channel's command cannot run: {os.path.basename(split[0])}: {error.strerror}") from None
    if done.returncode:
        raise Invalid(f"a channel's command failed: {split[0]} ended with {done.returncode}")
    return done.stdout
