"""What a configuration may not say although every key by itself is right: names of nothing, and contradictions.

It works on the plain values, so that it tells its part also where other things are wrong with the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast.config.flaws import Key, did_you_mean

Found = Iterator[tuple[Key, str, str]]
PASSWORDS = ("password_file", "password_command", "password_env")


def contradictions(value: dict[str, Any]) -> Found:
    """(key path, message, hint) of each."""
    vaults, plans = _mapping(value.get("vaults")), _mapping(value.get("plans"))
    yield from _vaults(vaults)
    for name, plan in plans.items():
        yield from _plan(("plans", name), _mapping(plan), vaults)
    notify = _mapping(value.get("notify"))
    channels = _mapping(notify.get("channels"))
    for place, rule in enumerate(_list(notify.get("rules"))):
        for at, channel in enumerate(_list(_mapping(rule).get("to"))):
            key = ("notify", "rules", place, "to", at)
            yield from _reference(key, channel, channels, "channel")
        for at, plan in enumerate(_list(_mapping(rule).get("plans"))):
            yield from _reference(("notify", "rules", place, "plans", at), plan, plans, "plan")
    for at, channel in enumerate(_list(_mapping(notify.get("escalate")).get("to"))):
        yield from _reference(("notify", "escalate", "to", at), channel, channels, "channel")


def _vaults(vaults: dict[str, Any]) -> Found:
    defaults = [name for name, vault in vaults.items() if _true(_mapping(vault).get("default"))]
    for name in defaults[1:]:
        yield ("vaults", name, "default"), f"{defaults[0]!r} is the default vault already", "Only one can be."
    for name, settings in vaults.items():
        vault = _mapping(settings)
        said = [word for word in PASSWORDS if vault.get(word) is not None]
        if len(said) > 1:
            yield ("vaults", name, said[1]), f"{said[0]} is given as well", "One of them opens the vault; take one."
        kind = vault.get("kind", "archive")
        if kind in ("mirror", "versioned") and said:
            yield ("vaults", name, said[0]), f"a vault of the kind {kind} is not encrypted and has no password", ""
        if kind != "mirror" and _true(vault.get("protect")):
            yield ("vaults", name, "protect"), "only a vault of the kind mirror can be protected so", ""


def _plan(key: Key, plan: dict[str, Any], vaults: dict[str, Any]) -> Found:
    if not any(_list(plan.get(what)) for what in ("paths", "optional", "databases")):
        yield key, "it protects nothing", "Give paths, such as paths: [~/Documents]."
    targets = _list(plan.get("to"))
    for at, name in enumerate(targets):
        yield from _reference((*key, "to", at), name, vaults, "vault")
        if name in targets[:at]:
            yield (*key, "to", at), f"the vault {name!r} is named twice", ""
    if not targets and len(vaults) > 1 and not any(_true(_mapping(v).get("default")) for v in vaults.values()):
        yield key, "it does not say which vault to save into, and no vault is the default one", "Give to: [NAME]."
    for place, copy in enumerate(_list(plan.get("copy"))):
        to = _mapping(copy).get("to")
        yield from _reference((*key, "copy", place, "to"), to, vaults, "vault")
        if to in targets:
            yield (*key, "copy", place, "to"), f"the plan saves into {to!r} itself", "A copy goes to another vault."
    drill = _mapping(plan.get("drill"))
    yield from _reference((*key, "drill", "vault"), drill.get("vault"), vaults, "vault")
    for keep, where in ((plan.get("keep"), key), *_copies_keeps(plan, key)):
        if isinstance(keep, dict) and not any(keep.values()):
            yield (
                (*where, "keep"),
                "it keeps nothing",
                "Say what to keep, such as {daily: 7}, or leave it out to keep all.",
            )


def _copies_keeps(plan: dict[str, Any], key: Key) -> Iterator[tuple[Any, Key]]:
    for place, copy in enumerate(_list(plan.get("copy"))):
        yield _mapping(copy).get("keep"), (*key, "copy", place)


def _reference(key: Key, name: Any, known: dict[str, Any], what: str) -> Found:
    if isinstance(name, str) and name and name not in known:
        hint = did_you_mean(name, known) if known else f"No {what} is configured."
        yield key, f"there is no {what} named {name!r}", hint


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _true(value: Any) -> bool:
    """Whether pydantic takes ``value`` for true: text from the environment may say so as well."""
    return value is True or str(value).lower() in ("1", "on", "t", "true", "y", "yes")
