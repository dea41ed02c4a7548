"""``holdfast ack``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.commands.notify import show_notices
from holdfast.cli.errors import OK
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session

if TYPE_CHECKING:
    from holdfast.monitor.noticebook import Acknowledged


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
        one = known.before if notice != "all" else ()  # that whoever names it wants to see
        show_notices(here.console, [*known.now, *one])
        here.console.remark(_sentence(known))
        here.console.event("summary", outcome="ok", notices=len(known.now), before=len(known.before))
    return OK


def _sentence(known: Acknowledged) -> str:
    before = text.plural(len(known.before), "notice was", "notices were")
    if known.now:
        more = f"; {before} acknowledged before" if known.before else ""
        return f"{text.plural(len(known.now), 'notice')} acknowledged{more}."
    return f"Nothing to do: {before} acknowledged before." if known.before else "No notice is open."
