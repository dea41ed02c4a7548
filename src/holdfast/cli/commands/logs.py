"""``holdfast logs``."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import text
from holdfast.cli.console import Console
from holdfast.cli.errors import FAILED, OK
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session
from holdfast.cli.values import WHEN

if TYPE_CHECKING:
    from holdfast.app.logview import LogView

_COLOURS = {"warning": "yellow", "error": "red", "critical": "red", "debug": "dim"}


def _pattern(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> re.Pattern[str] | None:
    if value is None:
        return None
    try:
        return re.compile(value, re.IGNORECASE)
    except re.error as error:
        raise click.BadParameter(f"{value!r} is not a regular expression: {error}.") from None


@click.command("logs")
@click.option("--run", default="", metavar="RUN", help="Only lines of this run: the first characters of its id.")
@click.option(
    "--level",
    type=click.Choice(["debug", "info", "warning", "error", "critical"]),
    default="debug",
    help="Only lines of this level or a graver one.",
)
@click.option("--since", type=WHEN, metavar="TIME", help="Only lines since then: a date, or an age such as 2h.")
@click.option("--until", type=WHEN, metavar="TIME", help="Only lines before that.")
@click.option("--role", metavar="NAME", help="Only the log of this program. [default: all]")
@click.option("--grep", callback=_pattern, metavar="REGEX", help="Only lines in which this is found.")
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0, 1_000_000_000),
    default=100,
    metavar="N",
    show_default=True,
    help="The newest N lines; 0: all.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@shared(vault=False, config=False)
@click.pass_obj
def command(
    common: Common,
    run: str,
    level: str,
    since: int | None,
    until: int | None,
    role: str | None,
    grep: re.Pattern[str] | None,
    count: int,
    follow: bool,
) -> int:
    """Show what was logged, and follow it.

    That is what runs came to, warnings, errors nobody foresaw, and what libraries said. The files are JSON lines in the
    folder logs of the state folder, one file a day for each role.
    """
    from holdfast.app.logview import make_follower, read_logs
    from holdfast.monitor.logread import LogFilter

    wanted = LogFilter(run, level, since, until, role, grep)
    with session(common, hard=True) as here:
        console = here.console
        follower = make_follower(here.context, wanted) if follow else None
        seen = read_logs(here.context, wanted, count=count, follower=follower)
        if seen.more:
            console.remark(f"(the newest {count} lines; -n 0 shows all)")
        for line in seen.lines:
            _show(console, line)
        _tell_unread(console, seen)
        if follower is not None:
            sys.stdout.flush()
            for line in follower.lines(wanted, here.context.clock, here.context.cancel):
                _show(console, line)
                sys.stdout.flush()
        elif not seen.lines and not seen.unreadable:
            console.remark("No line of the log fits.")
        console.event("summary", lines=len(seen.lines), more=seen.more, torn=seen.torn)
        return FAILED if seen.unreadable else OK


def _tell_unread(console: Console, seen: LogView) -> None:
    for path, why in seen.unreadable.items():
        console.warn(f"{path} cannot be read: {why}")
    if seen.torn:
        console.warn(f"{text.plural(seen.torn, 'line')} could not be read: torn by a full disk or a power failure")


def _show(console: Console, line: dict[str, Any]) -> None:
    if console.json:
        console.event("log", **{key: value for key, value in line.items() if key != "event"})
        return
    from holdfast.monitor.logline import pretty

    words = text.lines(pretty(line))
    colour = _COLOURS.get(str(line.get("level")))
    console.line(console.paint(words, colour) if colour else words)
