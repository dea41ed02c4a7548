"""Takes secrets out of texts and data before they are kept or sent: passwords in URLs, keys, tokens, headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

STARS = "***"
_DEEPEST = 12  # levels of nested data; below it nothing is kept
_SHORTEST_KNOWN = 8  # characters: a shorter value of $SOMETHING_PASSWORD would blot out ordinary words
_LONGEST_WORD = 16
_FOLDERS = ("PWD", "OLDPWD")  # of the shell
_SPARED = frozenset({"yes", "no", "true", "false", "none", "null", "nil", "empty", STARS, "is", "must", "was"})

# Every pattern below needs one of these (in small letters) in the text. Looking for them takes 2 microseconds;
# compiling the patterns takes 8 ms, once, and only where something has to be hidden.
_SIGNS = (
    *("://", "pass", "pwd", "secret", "token", "key", "auth", "credential", "bearer", "basic", "cookie", "sig=", "pw="),
    *("signature", "-u ", "--user", "--proxy-user", "hfk1-", "akia", "asia", "agpa", "aroa", "ghp_", "gho_", "ghu_"),
    *("ghs_", "ghr_", "github_pat_", "glpat-", "xox", "xapp-", "k_live_", "k_test_", "aiza", "ya29", "npm_", "pypi-"),
    *("tk_", "sk-", "sg.", "hf_", ":aa", "eyj", "hooks.slack", "webhooks", "telegram", "hc-ping", "-----begin"),
)

_PARTS = ("pass", "pwd", "pw", "secret", "credential", "auth", "token", "key", "signature", "cookie")

# Only bounded repetitions that begin at a fixed word: the time is linear in the text, whatever the text.
_SECRET_WORD = (
    r"(?:passwords?|passwd|passphrase|pwd|secrets?|credentials?|authorization"
    r"|(?:(?:auth|access|refresh|bearer|id)[_-]?)?token(?!s(?![A-Za-z]))"
    r"|(?:api|access|account|private|secret|signing|encryption|master|shared)[_-]?(?:access[_-]?)?key|signature|cookie)"
)
# What ends like this names where a secret is, or what it is like, not the secret.
_HARMLESS = (
    r"(?![\w-]{0,40}(?:file|command|path|folder|dir|count|length|size|type|name|hint|url|expires?(?:_in)?|expiry)"
    r"(?![\w-]))"
)
_VALUE = r"""(?P<value>"(?:[^"\\\n]|\\.){0,4096}"?|'(?:[^'\\\n]|\\.){0,4096}'?|[^\s,;&'"(){}\[\]<>|]{1,4096})"""

_WHOLE = (
    # Private keys, to their end or to where the text was cut.
    r"(?P<before>-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)(?!\*)(?:(?!-----END)[\s\S]){0,20000}"
    r"(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?",
    # Addresses that are a secret themselves: Slack, Discord, Telegram, healthchecks.
    r"(?P<before>(?:hooks\.slack\.com/(?:services|workflows)/|/api/webhooks/\d{1,30}/|api\.telegram\.org/(?:file/)?bot"
    r"|hc-ping\.com/))[^\s'\"<>?]{4,512}",
    # scheme://user:password@host, but not http://host:8080/@name.
    r"(?P<before>://[^\s/:@'\"<>]{0,256}:)(?!\d{1,5}(?:[/?#\s]|$))[^\s'\"<>]{1,1024}(?P<after>@)",
    r"(?P<before>://)[^\s/:@'\"<>]{20,512}(?P<after>@)",
    # Texts that say themselves what they are: ours, AWS, GitHub, GitLab, Slack, Stripe, Google, npm, PyPI, ntfy, OpenAI
    # and Anthropic, SendGrid, Hugging Face, Telegram bots, JSON web tokens.
    r"(?:hfk1-[a-z2-7]{20,}|\b(?:AKIA|ASIA|AGPA|AROA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,255}|\bgithub_pat_\w{30,255}"
    r"|\bglpat-[\w-]{20,}|\bxox[abeoprs]-[\w-]{10,}|\bxapp-[\w-]{10,}|\b[rs]k_(?:live|test)_\w{10,}|\bAIza[\w-]{35}"
    r"|\bya29\.[\w-]{20,}|\bnpm_\w{36}|\bpypi-[\w-]{40,}|\btk_[a-z0-9]{29}\b|\bsk-[\w-]{20,}"
    r"|\bSG\.[\w-]{16,}\.[\w-]{16,}|\bhf_[A-Za-z0-9]{30,}|\b\d{6,12}:AA[\w-]{30,}"
    r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{0,2048})",
    # curl -u user:password
    r"(?P<before>(?<!\S)(?:-u|--user|--proxy-user)[ =]{1,4}['\"]?[^\s:'\"]{1,128}:)[^\s'\"]{1,1024}",
)
_VALUED = (
    # Headers, to the end of the line.
    r"(?i:(?P<before>\b(?:(?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]{0,40}(?:token|key|secret))['\"]?[ \t]{0,4}"
    r"[:=][ \t]{0,4})(?P<value>'[^'\n]{0,4096}'?|\"[^\"\n]{0,4096}\"?|[^\n'\"]{1,4096}))",
    # password=..., "token": "...", secret => '...'
    rf"(?i:(?P<before>{_SECRET_WORD}{_HARMLESS}[\w-]{{0,24}}\\?['\"]?[ \t]{{0,4}}(?:=>|:=|[=:])[ \t]{{0,4}}\\?)"
    rf"{_VALUE})",
    rf"(?i:(?P<before>(?<![A-Za-z])(?:pass|sig|pw)=){_VALUE})",
    # --password ...
    rf"(?i:(?P<before>(?<!\S)--?[\w-]{{0,32}}?{_SECRET_WORD}{_HARMLESS}[ \t]{{1,4}})(?!-){_VALUE})",
    # Bearer ..., wherever it stands
    r"(?i:(?P<before>\b(?:bearer|basic|token)[ \t]{1,4})(?=\S{0,200}[0-9=_])(?P<value>[A-Za-z0-9+/=._~-]{16,4096}))",
)


def mask(text: str, *, known: Iterable[str] = ()) -> str:
    """``text`` with ``***`` in place of what is, or looks like, a secret; ``known`` are secrets to be hidden as such.

    Hidden are: passwords in URLs; what follows ``password=``, ``token:``, ``--secret`` and the like, in shell, JSON,
    YAML and Python notation; ``Authorization`` and ``Cookie`` headers; private keys; the keys and tokens of well-known
    services, and of Holdfast. A false alarm costs a word, so in doubt a word is hidden. Takes time linear in the text
    and never raises for a string. Masking twice changes nothing more.
    """
    for secret in known:
        if len(secret) >= _SHORTEST_KNOWN:
            text = text.replace(secret, STARS)
    small = text.lower()
    if not any(sign in small for sign in _SIGNS):
        return text
    whole, valued = _patterns()
    for pattern in whole:
        text = pattern.sub(_hidden, text)
    for pattern in valued:
        text = pattern.sub(_starred, text)
    return text


def mask_data(value: Any, *, known: Iterable[str] = ()) -> Any:
    """A copy of ``value`` in which every text is masked, and the values of keys such as ``password`` are hidden whole.

    Mappings become dicts, other collections lists; numbers, booleans and None stay. Bytes and everything else become
    masked text, so that the result is JSON-ready. What is nested more than 12 levels deep is left out.
    """
    secrets = tuple(known)
    return _masked(value, lambda text: mask(text, known=secrets), 0)


def is_secret_name(name: str) -> bool:
    """Whether a key, a variable or an option of this name holds a secret (``password_file`` does not)."""
    small = name.lower()
    return any(part in small for part in _PARTS) and _names().search(name) is not None


def environment_secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values in ``environ`` that its names tell to be secret, longest first: for ``known``.

    A value that is a short word (``POSTGRES_PASSWORD=postgres``) is left out: it protects nothing, and hiding it would
    make every text about it unreadable.
    """
    found = {
        value
        for name, value in environ.items()
        if len(value) >= _SHORTEST_KNOWN
        and name not in _FOLDERS
        and not (len(value) < _LONGEST_WORD and value.isalpha())
        and is_secret_name(name)
    }
    return tuple(sorted(found, key=len, reverse=True))


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], ...], tuple[re.Pattern[str], ...]]:
    return tuple(map(re.compile, _WHOLE)), tuple(map(re.compile, _VALUED))


@cache
def _names() -> re.Pattern[str]:
    return re.compile(rf"{_SECRET_WORD}{_HARMLESS}|(?:^|[_-])(?:pass|pw)$", re.IGNORECASE)


def _hidden(match: re.Match[str]) -> str:
    groups = match.groupdict("")
    return f"{groups.get('before', '')}{STARS}{groups.get('after', '')}"


def _starred(match: re.Match[str]) -> str:
    value = match["value"]
    quote = value[0] if value[0] in "'\"" else ""
    inner = value[1:] if quote else value
    of_shell = match["before"] == "PWD=" and inner.startswith("/")  # where it stands; but UID=sa;PWD=... is a login
    if of_shell or inner.strip("'\".:!?").lower() in _SPARED:
        return match[0]
    closing = quote if quote and len(value) > 1 and value.endswith(quote) else ""
    return f"{match['before']}{quote}{STARS}{closing}"


def _masked(value: Any, hide: Callable[[str], str], depth: int) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, (bytes, bytearray)):
        return hide(bytes(value).decode("utf-8", "replace"))
    if depth >= _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): _of_key(str(key), inner, hide, depth) for key, inner in list(value.items())}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_masked(inner, hide, depth + 1) for inner in list(value)]
    return hide(str(value))


def _of_key(key: str, value: Any, hide: Callable[[str], str], depth: int) -> Any:
    hidden = isinstance(value, (str, bytes, int, float)) and not isinstance(value, bool) and value not in ("", b"")
    return STARS if hidden and is_secret_name(key) else _masked(value, hide, depth + 1)
