"""``holdfast notify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean, clean_value
from holdfast.cli.errors import FAILED, OK, TEMPORARY
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session

if TYPE_CHECKING:
    from holdfast.app.notices import Told
    from holdfast.monitor.notice import Notice

SECONDS = 300.0
_COLOURS = {"info": "green", "warning": "yellow", "error": "red", "critical": "red"}


@click.group("notify")
@shared(vault=False)
def command() -> None:
    """Tell people what went wrong, and try out how they are told.

    The channels and who hears of what stand in the configuration, under notify.
    """


@command.command("send")
@click.option("--now", is_flag=True, help="Try again at once what failed before.")
@shared(vault=False)
@click.pass_obj
def send(common: Common, now: bool) -> int:
    """Look at what happened, or did not, and send what is due.

    Every command that does work does so at its end; timers call this for what nobody's command finds out: that a plan
    is overdue, that a message has to be tried again, that quiet hours are over.
    """
    from holdfast.app.notices import send_notices

    with session(common) as here:
        common.afterwards = None
        told = send_notices(here.context, seconds=SECONDS, now=now)
        return _show_told(here.console, told)


def _show_told(console: Console, told: Told) -> int:
    failed = told.failed
    for attempt in told.attempts:
        sent = attempt.sent
        fields = {"channel": attempt.channel, "title": clean(attempt.title), "notices": list(attempt.notices)}
        console.event("attempt", **fields, ok=sent.ok, error=clean(sent.error), hint=clean(sent.hint))
        if not sent.ok:
            console.warn(f"{attempt.channel}: {sent.error}; it is tried again later")
        elif not console.quiet:
            console.line(f"{attempt.channel}: {text.lines(attempt.title)}")
    good = len(told.attempts) - len(failed)
    counts = {"sent": good, "failed": len(failed), "waiting": told.waiting, "open": len(told.open)}
    wait = f", {told.waiting:,} wait" if told.waiting else ""
    console.remark(f"{text.plural(good, 'message')} sent, {len(failed)} failed{wait}; {_open(len(told.open))}")
    console.event("summary", outcome="failed" if failed else "ok", **counts)
    return TEMPORARY if failed else OK


def _open(count: int) -> str:
    return "no notice is open" if not count else "1 notice is open" if count == 1 else f"{count:,} notices are open"


@command.command("test")
@click.argument("channels", nargs=-1, metavar="[CHANNEL]...")
@shared(vault=False)
@click.pass_obj
def test(common: Common, channels: tuple[str, ...]) -> int:
    """Send a test message through the named channels, or through all."""
    from holdfast.app.notices import try_channels

    with session(common) as here:
        console = here.console
        failed = tried = 0
        for name, sent in try_channels(here.context, channels):
            tried += 1
            failed += not sent.ok
            console.event("channel", channel=name, ok=sent.ok, error=clean(sent.error), hint=clean(sent.hint))
            mark = console.paint("sent", "green") if sent.ok else console.paint("failed", "red")
            console.line(f"{name}: {mark}" + (f": {text.lines(sent.error)}" if sent.error else ""))
            if sent.hint:
                console.line(f"  hint: {text.lines(sent.hint)}")
        console.event("summary", outcome="failed" if failed else "ok", channels=tried, failed=failed)
        return FAILED if failed else OK


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are over: the newest 50.")
@shared(vault=False)
@click.pass_obj
def show(common: Common, everything: bool) -> int:
    """List the notices that are open on this machine."""
    from holdfast.app.notices import list_notices

    with session(common, hard=True) as here:
        found = list_notices(here.context, everything=50 if everything else 0)
        show_notices(here.console, found)
        here.console.event("summary", outcome="ok", notices=len(found))
        if not found:
            here.console.line("No notice is known." if everything else "No notice is open.")
    return OK


def show_notices(console: Console, notices: list[Notice]) -> None:
    """A few lines each."""
    from holdfast.monitor.noticebook import notice_json

    for notice in notices:
        console.event("notice", **clean_value(notice_json(notice)))
        colour = "dim" if notice.resolved_ns is not None else _COLOURS.get(notice.level, "red")
        console.line(f"{notice.id[:6]}  {console.paint(notice.level, colour)}  {text.lines(notice.title)}")
        if not console.quiet:
            console.line(f"        {_history(notice)}")
            for line in notice.message.splitlines()[:3]:
                console.line(f"        {text.name(line)}")


def _history(notice: Notice) -> str:
    parts = [f"since {text.moment(notice.opened_ns)}"]
    if notice.times > 1:
        parts.append(f"{notice.times:,} times")
    if notice.acknowledged_ns is not None:
        parts.append(f"acknowledged by {text.name(notice.acknowledged_by)} at {text.moment(notice.acknowledged_ns)}")
    if notice.resolved_ns is not None:
        parts.append(f"over since {text.moment(notice.resolved_ns)}")
    return ", ".join(parts)
