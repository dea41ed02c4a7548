"""``holdfast report``."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.console import Console, clean_value
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session
from holdfast.cli.values import WHEN


@click.command("report")
@click.option("--since", type=WHEN, metavar="TIME", help="From TIME on: 2026-11-21, 36h, 2w. [default: a day]")
@click.option("--until", type=WHEN, metavar="TIME", help="Up to TIME. [default: now]")
@click.option("--week", is_flag=True, help="The last seven days, compared with the four weeks before.")
@click.option("--html", metavar="FILE", help="Write it as one HTML page with charts into FILE; - prints it.")
@click.option("--send", is_flag=True, help="Send it to whom the rule 'digest' names.")
@shared(vault=False)
@click.pass_obj
def command(common: Common, since: int | None, until: int | None, week: bool, html: str | None, send: bool) -> int:
    """Tell what the last day or week brought, and what did not happen.

    Runs, failures and what to do about them, drills, space, notices and health; and what should have happened, but did
    not. It is all from the journal: nothing is looked at anew ('holdfast health' does that).
    """
    from holdfast.app.report import ReportRequest, make_report, send_report, write_page

    if week and since is not None:
        raise click.UsageError("--week and --since are both given; take one of them.")
    if html == "-" and common.json:
        raise click.UsageError("--html - and --json would both go to standard output.")
    with session(common) as here:
        request = ReportRequest(since, until, 7 if week else 1)
        report = (send_report if send else make_report)(here.context, request)
        if html is not None and html != "-":
            write_page(here.context, report, Path(html).expanduser())
        offset = here.context.clock.utc_offset
        if html == "-":
            from holdfast.monitor.report.page import as_html

            here.console.line(as_html(report, offset).rstrip("\n"))
        elif html is None and not (send and common.quiet):
            from holdfast.monitor.report.plain import as_text

            here.console.line(as_text(report, offset).rstrip("\n"))
        elif html is not None:
            here.console.remark(f"Written: {html}")
        _tell(here.console, report, html)
        return 0


def _tell(console: Console, report: object, html: str | None) -> None:
    from holdfast.monitor.report.model import Report, as_json

    if console.json and isinstance(report, Report):
        console.event("summary", outcome="ok", file=html, report=clean_value(as_json(report)))
