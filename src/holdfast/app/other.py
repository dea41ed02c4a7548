"""The second vault of a use case that needs two: where it is and what opens it."""

from __future__ import annotations

import os
from dataclasses import replace

from holdfast.app.context import Context
from holdfast.config.secrets import PasswordChoice

_ENDS = ("", "_FILE", "_COMMAND")


def other_vault(context: Context, location: str, password: PasswordChoice) -> Context:
    """The context for the vault at ``location``, from which something is taken.

    ``location`` may be the name of a configured vault. What opens it: ``password``; what the configuration says of it;
    ``HOLDFAST_FROM_PASSWORD``, ``HOLDFAST_FROM_PASSWORD_FILE`` or ``..._COMMAND``; the same with ``RESTIC_`` in front;
    its own key file where it is the default vault; else whatever opens the first vault, which suits people who use one
    password for both.
    """
    other = replace(context, vault=location)
    if password:
        return replace(other, password=password, environ=_without_passwords(context))
    if other.named is not None and other.named.password:
        return replace(other, password=PasswordChoice())
    for prefix in ("HOLDFAST", "RESTIC"):
        said = {end: context.environ.get(f"{prefix}_FROM_PASSWORD{end}") for end in _ENDS}
        if any(said.values()):
            own = {f"HOLDFAST_PASSWORD{end}": text for end, text in said.items() if text}
            return replace(other, password=PasswordChoice(), environ={**_without_passwords(context), **own})
    if other.key_file is not None and os.path.lexists(other.key_file):
        return replace(other, password=PasswordChoice(), environ=_without_passwords(context))
    return other


def _without_passwords(context: Context) -> dict[str, str]:
    names = {f"{prefix}_PASSWORD{end}" for prefix in ("HOLDFAST", "RESTIC") for end in _ENDS}
    return {name: text for name, text in context.environ.items() if name not in names}
