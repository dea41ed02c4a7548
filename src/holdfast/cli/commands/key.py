"""``holdfast key``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from holdfast.cli import text
from holdfast.cli.console import clean
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session
from holdfast.config.secrets import PasswordChoice

F = TypeVar("F", bound=Callable[..., Any])


@click.group("key")
@shared(locks=False)
def command() -> None:
    """List, add, remove, change and export the keys of a vault.

    Each key is a password, or a generated key file, that opens the vault by itself.
    """


def _new(function: F) -> F:
    """Where the new key comes from; without any of these a question at the terminal."""
    options = (
        click.option("--new-password-file", metavar="FILE", help="Read the new password from FILE."),
        click.option("--new-password-command", metavar="COMMAND", help="Read it from what COMMAND prints."),
        click.option("--new-key-file", metavar="FILE", help="Generate a key into the new FILE."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command("list")
@shared(no_lock=True, locks=False)
@click.pass_obj
def list_(common: Common) -> None:
    """List the keys; * marks the one in use."""
    from holdfast.app.keys import list_keys

    with session(common, hard=True) as here:
        keys = list_keys(here.context)
        rows = [
            [
                ("*" if key.current else " ") + key.id[:8],
                text.name(key.username),
                text.name(key.hostname),
                text.name(key.created[:19].replace("T", " ")),
            ]
            for key in keys
        ]
        for line in text.table([" ID", "User", "Host", "Created"], rows):
            here.console.line(line)
        for key in keys:
            here.console.event(
                "key",
                id=key.id,
                user=clean(key.username),
                host=clean(key.hostname),
                created=clean(key.created),
                current=key.current,
            )
        here.console.event("summary", keys=len(keys))


@command.command("add")
@_new
@shared()
@click.pass_obj
def add(
    common: Common, new_password_file: str | None, new_password_command: str | None, new_key_file: str | None
) -> None:
    """Let one more password or key file open the vault."""
    from holdfast.app.keys import add_key

    with session(common) as here:
        new = add_key(here.context, PasswordChoice(new_password_file, new_password_command), new_key_file)
        here.console.remark(f"Key {new[:8]} added.")
        here.console.event("summary", outcome="ok", added=new)


@command.command("remove", short_help="Remove a key.")
@click.argument("key", metavar="ID")
@shared()
@click.pass_obj
def remove(common: Common, key: str) -> None:
    """Remove the key whose id begins with ID. What it knew, it knew: change passwords, too, that leaked."""
    from holdfast.app.keys import remove_key

    with session(common) as here:
        gone = remove_key(here.context, key.lower())
        here.console.remark(f"Key {gone[:8]} removed.")
        here.console.event("summary", outcome="ok", removed=gone)


@command.command("passwd", short_help="Change the password.")
@_new
@shared()
@click.pass_obj
def passwd(
    common: Common, new_password_file: str | None, new_password_command: str | None, new_key_file: str | None
) -> None:
    """Change the password: a new key takes the place of the one that opened the vault."""
    from holdfast.app.keys import change_password

    with session(common) as here:
        choice = PasswordChoice(new_password_file, new_password_command)
        new, old = change_password(here.context, choice, new_key_file)
        here.console.remark(f"Key {new[:8]} takes the place of {old[:8]}, which no longer opens the vault.")
        here.console.event("summary", outcome="ok", added=new, removed=old)


@command.command("export", short_help="Write the key onto a sheet to print and keep.")
@click.argument("file", metavar="FILE")
@shared(locks=False)
@click.pass_obj
def export(common: Common, file: str) -> None:
    """Write what opens the vault into the new FILE, with how to use it; - prints it.

    Print the sheet and keep it somewhere else: a backup whose key burns with the disk is lost. The state folder
    remembers which key was exported, not the key; 'holdfast health' warns as long as it was not.
    """
    from holdfast.app.export_key import export_key

    if file == "-" and common.json:
        raise click.UsageError("- and --json would both go to standard output.")
    with session(common) as here:
        sheet = export_key(here.context, file)
        if sheet.path is None:
            here.console.line(sheet.text.rstrip("\n"))
        else:
            here.console.remark(f"Written: {text.name(str(sheet.path))}")
            here.console.remark("Print it or move it to another place, then delete it here: it opens the vault.")
        if sheet.unnoted:
            here.console.warn(sheet.unnoted)
        where = None if sheet.path is None else clean(str(sheet.path))
        here.console.event("summary", outcome="ok", file=where, key=sheet.key_id, vault=sheet.vault_id)
