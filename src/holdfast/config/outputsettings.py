"""What the configuration says about logs, metrics and Sentry, as the rest of Holdfast uses it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from holdfast.config import words
from holdfast.kernel.errors import Denied, Invalid, NotFound
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.config.models import Configuration
    from holdfast.config.settings import Settings

KEEP_DAYS = 30
LISTEN = "127.0.0.1:9797"


@dataclass(frozen=True, slots=True)
class LogChoice:
    """``keep``: days beside today's; None keeps all."""

    level: str = "info"
    keep: int | None = KEEP_DAYS


@dataclass(frozen=True, slots=True)
class MetricsChoice:
    """Where metrics are served, and whether beyond this machine."""

    listen: str = LISTEN
    expose: bool = False


@dataclass(frozen=True, slots=True)
class SentryChoice:
    """Where errors go, from which level on. ``dsn`` is a secret in part."""

    dsn: str
    level: str
    environment: str


def log_choice(configuration: Configuration | None) -> LogChoice:
    """What ``configuration`` says of logs, or what holds without one."""
    if configuration is None:
        return LogChoice()
    said = configuration.logs
    return LogChoice(said.level, None if said.keep < 0 else said.keep)


def metrics_choice(configuration: Configuration | None) -> MetricsChoice:
    """What ``configuration`` says of metrics, or what holds without one."""
    if configuration is None:
        return MetricsChoice()
    return MetricsChoice(configuration.metrics.listen, configuration.metrics.expose)


def expected_seconds(configuration: Configuration) -> dict[str, float]:
    """Plan -> how often it is to succeed, of those that say so."""
    every = {name: plan.expect.every for name, plan in configuration.plans.items() if plan.expect is not None}
    return {name: words.seconds(text) for name, text in every.items() if text is not None}


def sentry_choice(settings: Settings | None, environ: Mapping[str, str]) -> SentryChoice | None:
    """What the configuration says of Sentry; None for nothing. Raises ``NotFound``, ``Denied``, ``Invalid``."""
    said = None if settings is None else settings.loaded.configuration.sentry
    if settings is None or said is None:
        return None
    if said.dsn_env is not None:
        dsn, origin = environ.get(said.dsn_env, ""), f"the environment variable {said.dsn_env}"
    else:
        path = os.path.join(os.path.dirname(os.path.abspath(settings.path)), os.path.expanduser(said.dsn_file or ""))
        dsn, origin = _read(path), path
    if not dsn.strip():
        raise Invalid(f"{origin} holds no DSN for Sentry", hint="Sentry shows it under Settings, Client Keys.")
    return SentryChoice(dsn.strip(), said.level, said.environment or "")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(10_000)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path} with the DSN for Sentry") from None
    except OSError as error:
        raise Denied(f"cannot read {path}, the DSN for Sentry: {error.strerror}") from error
