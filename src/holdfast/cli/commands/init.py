"""``holdfast init``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.options import Common, from_password, shared
from holdfast.cli.session import Session, session
from holdfast.config.secrets import PasswordChoice

if TYPE_CHECKING:
    from holdfast.app.init import NewVault

CHUNKER_REMARK = (
    "This installation has no compiled chunker, so files are cut by a simpler rule: the vault is valid for restic,\n"
    "but a file that restic and Holdfast both save is stored twice. Install a C compiler and reinstall to change that."
)


@click.command("init")
@click.argument("location", required=False)
@click.option("--new-key-file", metavar="FILE", help="Generate a key into the new FILE; it opens the vault.")
@click.option(
    "--also-password-file",
    "more",
    multiple=True,
    metavar="FILE",
    help="One more password that opens the vault. Repeatable.",
)
@click.option(
    "--cut-like",
    metavar="LOCATION",
    help="Cut files where that vault does: copies from it then share data with what is saved here.",
)
@click.option(
    "--kind",
    type=click.Choice(["archive", "mirror", "versioned"]),
    help="archive (the default): every version, encrypted. mirror: an exact copy as plain files. versioned: the same, "
    "with the history of every file.",
)
@click.option("--protect", is_flag=True, help="Keep the files of a mirror read-only.")
@from_password
@shared(locks=False)
@click.pass_obj
def command(
    common: Common,
    location: str | None,
    new_key_file: str | None,
    more: tuple[str, ...],
    cut_like: str | None,
    kind: str | None,
    protect: bool,
    from_password_file: str | None,
    from_password_command: str | None,
) -> None:
    """Make a new vault.

    Without LOCATION and --vault, the default vault is made, with a generated key file. Elsewhere the password comes
    from --password-file, --password-command, HOLDFAST_PASSWORD, or a question at the terminal. LOCATION may be the name
    of a configured vault: then the configuration says where, of which kind, and what opens it.
    """
    from holdfast.app.init import init, init_plain
    from holdfast.app.other import other_vault

    choice = PasswordChoice(from_password_file, from_password_command)
    if cut_like is None and choice != PasswordChoice():
        raise click.UsageError("--from-password-file and --from-password-command go with --cut-like.")
    with session(common) as here:
        here = here.at(location)
        if (named := here.context.named) is not None:
            here.context.check_kind(kind or named.kind)
            kind, protect = named.kind, protect or named.protect
        kind = kind or "archive"
        if kind != "archive" and (new_key_file or more or cut_like):
            raise click.UsageError("--new-key-file, --also-password-file and --cut-like are for archives.")
        if protect and kind != "mirror":
            raise click.UsageError("--protect goes with --kind mirror.")
        if kind != "archive":
            _tell(here, init_plain(here.context, kind, protect=protect))
            return
        like = None if cut_like is None else other_vault(here.context, cut_like, choice)
        made = init(here.context, new_key_file=new_key_file, more_password_files=more, cut_like=like)
        _tell(here, made)


def _tell(here: Session, made: NewVault) -> None:
    tell_new_vault(here, made)
    here.console.event(
        "summary",
        outcome="ok",
        location=made.location,
        kind=made.kind,
        id=made.id,
        keys=list(made.keys),
        key_file=str(made.key_file) if made.key_file else None,
        exact_chunker=made.exact_chunker,
    )


def tell_new_vault(here: Session, made: NewVault) -> None:
    """Say what was made, where its key is, and that losing the key loses the vault."""
    console = here.console
    if console.quiet or console.json:
        return
    if made.kind != "archive":
        console.line(f"New {made.kind if made.kind == 'mirror' else 'versioned vault'}: {made.location}")
        console.line("It is not encrypted: who can read the folder can read the files.")
        return
    console.line(f"New vault: {made.location}")
    if made.key_file is not None:
        console.line(f"Its key:   {made.key_file}")
        console.line("Keep a copy of the key somewhere safe: nobody can open the vault without it.")
    else:
        console.line("Remember the password: nobody can open the vault without it.")
    if not made.exact_chunker:
        console.line(CHUNKER_REMARK)
