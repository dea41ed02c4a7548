"""Use cases: list, add, remove and change the keys of a vault."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.app.context import Context, hostname, username
from holdfast.app.endings import of_key
from holdfast.app.recording import recording
from holdfast.config import keyfile, secrets
from holdfast.config.secrets import PasswordChoice
from holdfast.kernel.errors import Denied, Invalid
from holdfast.kernel.secret import Secret

if TYPE_CHECKING:
    from holdfast.repository import KeyInfo

NO_NEW_PASSWORD_HINT = (
    "Give --new-key-file FILE (a key is generated into it), --new-password-file or --new-password-command."
)


def list_keys(context: Context) -> list[KeyInfo]:
    """Every key that opens the vault."""
    with context.opened() as vault:
        return vault.repository.keys()


def new_secret(context: Context, choice: PasswordChoice, new_key_file: str | None) -> Secret:
    """The password of a key that is to be made: a generated key file, a file, a command, or a person's answer.

    The environment is not asked: what stands there is the old password. Raises ``Invalid`` where there is none.
    """
    if new_key_file is not None:
        return keyfile.write_new(Path(os.path.expanduser(new_key_file)).absolute(), context.random)
    what = "the new key"
    if choice == PasswordChoice() and context.ask is None:
        raise Invalid(f"no password for {what}", hint=NO_NEW_PASSWORD_HINT)
    return secrets.find(choice, {}, key_file=None, ask=context.ask, what=what, new=True, warn=context.warn)


@recording("key", of_key)
def add_key(context: Context, choice: PasswordChoice, new_key_file: str | None) -> str:
    """Let one more password open the vault; returns the new key's id."""
    with context.opened() as vault:
        secret = new_secret(context, choice, new_key_file)
        with vault.repository.locks.hold(exclusive=False):
            return vault.repository.add_key(secret, username=username(), hostname=hostname())


@recording("key", of_key)
def remove_key(context: Context, prefix: str) -> str:
    """Delete the key whose id begins with ``prefix`` (never the one in use); returns its id."""
    with context.opened() as vault, vault.repository.locks.hold(exclusive=True):
        return vault.repository.remove_key(prefix)


@recording("key", of_key)
def change_password(context: Context, choice: PasswordChoice, new_key_file: str | None) -> tuple[str, str]:
    """Put a new key in the place of the one that opened the vault; returns (new id, removed id).

    The new key is durable, and has opened the vault once, before the old one goes: a crash leaves two keys, never none,
    and so does a vault that denies deleting (``Denied`` says so).
    """
    from holdfast.repository import Repository

    with context.opened() as vault:
        old = vault.repository.key_id.hex()
        secret = new_secret(context, choice, new_key_file)
        with vault.repository.locks.hold(exclusive=True):
            new = vault.repository.add_key(secret, username=username(), hostname=hostname())
            again = Repository.open(vault.repository.storage, secret, clock=context.clock, random=context.random)
            try:
                again.remove_key(old)
            except Denied as error:
                message = (
                    f"the new key {new[:8]} opens the vault, but the old one, {old[:8]}, still does: {error.message}"
                )
                raise Denied(message, hint=error.hint, added=new) from error
        return new, old
