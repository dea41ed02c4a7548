"""``holdfast migrate``."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session


@click.command("migrate")
@click.option("-n", "--dry-run", is_flag=True, help="Only check the vault and tell what would be done.")
@shared()
@click.pass_obj
def command(common: Common, dry_run: bool) -> None:
    """Bring a vault of restic's old format to the current one.

    That is from version 1 to version 2, which can compress. The vault is checked first. Only its configuration is
    written anew; what is stored stays as it is, and prune --repack-uncompressed makes it smaller later. Programs
    older than restic 0.14 cannot open the vault afterwards.
    """
    from holdfast.app.migrate import migrate

    with session(common) as here:
        done = migrate(here.context, dry_run=dry_run)
        if done.before == done.after:
            here.console.remark(f"Nothing to do: the vault has format version {done.after} already.")
        elif dry_run:
            here.console.remark(f"The vault would go from format version {done.before} to {done.after}.")
        else:
            here.console.remark(
                f"The vault has format version {done.after} now (it had {done.before}).\n"
                f"Its former configuration was kept at {text.name(done.kept or '')}.\n"
                "'holdfast prune --repack-uncompressed' compresses what was stored before."
            )
        here.console.event(
            "summary", outcome="ok", before=done.before, after=done.after, kept=done.kept, dry_run=dry_run
        )
