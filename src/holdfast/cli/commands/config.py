"""``holdfast config``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import text
from holdfast.cli.console import clean_value
from holdfast.cli.options import Common, shared
from holdfast.cli.session import Session, session

if TYPE_CHECKING:
    from holdfast.app.config_file import NewFile


@click.group("config")
@shared(vault=False)
def command() -> None:
    """Write, check and show the configuration, holdfast.yaml.

    It is looked for at --config, $HOLDFAST_CONFIG, ./holdfast.yaml, then in the user's and the system's configuration
    folder.
    """


@command.command("init")
@click.option("-n", "--dry-run", is_flag=True, help="Print the file instead of writing it.")
@shared(vault=False)
@click.pass_obj
def init(common: Common, dry_run: bool) -> None:
    """Look around and write a first holdfast.yaml, with comments.

    It looks at the home folder for the usual folders, git repositories and SQLite files, and for running database
    servers. It goes to --config, $HOLDFAST_CONFIG or the user's configuration folder; a file that is there is never
    overwritten.
    """
    from holdfast.app.config_file import init_config

    with session(common, hard=True) as here:
        made = init_config(here.context, dry_run=dry_run)
        _tell_new(here, made)
        here.console.event("summary", outcome="ok", file=str(made.path), written=made.written, text=made.text)


def _tell_new(here: Session, made: NewFile) -> None:
    console = here.console
    if not made.written:
        console.line(made.text.rstrip("\n"))
        return
    console.line(f"Written: {made.path}")
    if not console.quiet:
        console.line("Read it and change what does not suit. Then:")
        console.line("  holdfast init home      makes its vault and the key that opens it")
        console.line("  holdfast backup home    saves for the first time")


@command.command("check", short_help="Look for mistakes, all of them at once.")
@shared(vault=False)
@click.pass_obj
def check(common: Common) -> None:
    """Look for mistakes in the configuration: all of them at once, with line and column."""
    from holdfast.app.config_file import check_config

    with session(common, hard=True) as here:
        found = check_config(here.context)
        console = here.console
        for note in found.notes:
            console.warn(note)
        if not console.quiet:
            vaults, plans = text.plural(len(found.vaults), "vault"), text.plural(len(found.plans), "plan")
            console.line(f"{found.path}: no mistakes; {vaults}, {plans}")
        console.event("summary", outcome="ok", file=str(found.path), vaults=list(found.vaults), plans=list(found.plans))


@command.command("show")
@shared(vault=False)
@click.pass_obj
def show(common: Common) -> None:
    """Show the configuration with its defaults and without any secret."""
    from holdfast.app.config_file import show_config

    with session(common, hard=True) as here:
        path, value = show_config(here.context)
        here.console.line(f"# {text.name(str(path))}")
        here.console.line(_yaml(value))
        here.console.event("summary", outcome="ok", file=str(path), configuration=clean_value(value))


@command.command("schema")
@shared(vault=False)
@click.pass_obj
def schema(common: Common) -> None:
    """Print the JSON Schema of holdfast.yaml, for editors."""
    from holdfast.config.schema import schema as made

    with session(common, hard=True) as here:
        value = made()
        here.console.line(json.dumps(value, indent=2, ensure_ascii=False))
        here.console.event("summary", outcome="ok", schema=value)


def _yaml(value: dict[str, Any]) -> str:
    import yaml

    dumped: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)
    return dumped.rstrip("\n")
