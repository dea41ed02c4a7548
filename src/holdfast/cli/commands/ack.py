"""``holdfast ack``."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.commands.notify import show_notices
from holdfast.cli.errors import OK
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session


@click.command("ack")
@click.argument("notice", required=False, default="", metavar="[NOTICE|all]")
@shared(vault=False)
@click.pass_obj
def command(common: Common, notice: str) -> int:
    """Say that you know of a notice.

    NOTICE is its id, or the beginning of it; without one, the only one that nobody knows of is meant. It is then
    neither repeated nor told to more people, unless it gets worse; that it is over is told all the same.
    """
    from holdfast.app.notices import acknowledge

    with session(common, hard=True) as here:
        known = acknowledge(here.context, notice)
        show_notices(here.console, known)
        here.console.remark(f"{text.plural(len(known), 'notice')} acknowledged.")
        here.console.event("summary", outcome="ok", notices=len(known))
    return OK
