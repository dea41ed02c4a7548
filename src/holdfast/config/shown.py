"""The configuration as it may be shown to anybody: complete, with what is left at its default, and without a secret."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.config.flaws import Key
    from holdfast.config.load import Loaded

HIDDEN = "***"
# To the last @, though that may hide too much: a password may itself have a slash or an @ in it.
_LOGIN = re.compile(r"(?<=//).*@|(?<=:)[^/:@]+:(?!//).*@", re.DOTALL)
_SECRET_PARAMETER = re.compile(r"([?&;][^=&;]*(?:key|token|secret|pass|sig)[^=&;]*=)[^&;#]*", re.IGNORECASE)


def shown(loaded: Loaded) -> dict[str, Any]:
    """Nested dicts and lists, JSON-ready.

    Text that came from the environment stands as in the file (``${NAME}``). Of a command only the program is told, of
    a channel only the kind of service, and of a location neither user nor password: any of them may hold a secret.
    """
    everything = loaded.configuration.model_dump(mode="json", by_alias=True, exclude_none=True)
    result = _walk(everything, (), loaded)
    assert isinstance(result, dict)
    return result


def _walk(value: Any, key: Key, loaded: Loaded) -> Any:
    name = next((part for part in reversed(key) if isinstance(part, str)), "")
    if name in ("run", "password_command", "url_command", "secret_command") and value is not None:
        return _program(value)
    if isinstance(value, dict):
        return {inner: _walk(found, (*key, inner), loaded) for inner, found in value.items()}
    if isinstance(value, list):
        return [_walk(found, (*key, place), loaded) for place, found in enumerate(value)]
    if not isinstance(value, str):
        return "unlimited" if value == -1 else value
    if name == "url" and _is_told_to(key):
        return value.partition("://")[0] + "://" + HIDDEN
    if "headers" in key and _is_told_to(key):
        return HIDDEN
    text = loaded.document.written[key] if key in loaded.document.expanded else value
    return _without_login(text) if name == "location" else text


def _is_told_to(key: Key) -> bool:
    """Whether it is part of a channel or a ping: their URLs and headers are as good as passwords."""
    return key[:2] == ("notify", "channels") or "ping" in key


def _program(command: str | list[str]) -> str:
    """``pass show holdfast`` as ``pass ***``."""
    if isinstance(command, str):
        try:
            words = shlex.split(command)
        except ValueError:
            return HIDDEN
    else:
        words = command
    if not words or "=" in words[0] or "$" in words[0]:
        return HIDDEN
    return words[0] if len(words) == 1 else f"{words[0]} {HIDDEN}"


def _without_login(location: str) -> str:
    return _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", _LOGIN.sub(f"{HIDDEN}@", location))
