"""``holdfast storage``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.console import clean
from holdfast.cli.errors import FAILED, OK
from holdfast.cli.options import Common, shared
from holdfast.cli.session import Session, session
from holdfast.cli.values import SIZE

if TYPE_CHECKING:
    from holdfast.storage.trial import Finding, TrialReport

SMALLEST, LARGEST = 1 << 10, 1 << 30
"""A vault's own files are never larger than some 128 MiB; the file of the trial is held in memory twice."""

_MARKS = {True: ("ok", "green"), False: ("NO", "red"), None: ("--", "yellow")}


@click.group("storage")
@shared(locks=False)
def command() -> None:
    """Try out places where vaults are kept."""


@command.command("test")
@click.argument("location", required=False)
@click.option("--size", type=SIZE, default="16MiB", show_default=True, help="How large a file is sent and fetched.")
@click.option(
    "-n", "--dry-run", is_flag=True, help="Write nothing: only reach the place, and read if a vault is there."
)
@shared(locks=False)
@click.pass_obj
def test(common: Common, location: str | None, size: int, dry_run: bool) -> int:
    """Prove that LOCATION can hold a vault. [default: the vault]

    Writes files, reads them back, lists and removes them; says what the place cannot do, and what that means for a
    vault. A vault that is there is not disturbed. The folder is made where there is none.
    """
    from holdfast.app.storage_test import test_storage

    if not SMALLEST <= size <= LARGEST:
        raise click.BadParameter("take something from 1 KiB to 1 GiB.", param_hint="--size")
    with session(common) as plain:
        here = plain.at(location)
        report = test_storage(here.context, size, lambda finding: _tell(here, finding), dry_run=dry_run)
        _sum_up(here, report, dry_run)
        return OK if report.ok else FAILED


def _tell(here: Session, finding: Finding) -> None:
    mark, colour = _MARKS[finding.ok]
    here.console.line(f"{here.console.paint(mark, colour)}  {finding.step:<12} {text.name(finding.message)}")
    if finding.means:
        here.console.line(f"    {'':<12} {finding.means}")
    here.console.event(
        "step", name=finding.step, ok=finding.ok, message=clean(finding.message), means=clean(finding.means)
    )


def _sum_up(here: Session, report: TrialReport, dry_run: bool) -> None:
    console = here.console
    measured = [
        f"{text.size(rate)}/s {way}" for rate, way in ((report.upload, "up"), (report.download, "down")) if rate
    ]
    if report.latency is not None:
        measured.insert(0, f"{report.latency * 1000:.2g} ms a call")
    if measured:
        console.line(f"    {'speed':<12} {', '.join(measured)}, one call at a time")
    if not report.ok:
        console.line("This place does not keep what a vault needs.")
    elif dry_run:
        console.remark("Nothing was written. Without --dry-run more is tried.")
    else:
        console.line("This place can hold a vault.")
    console.event(
        "summary",
        outcome="ok" if report.ok else "failed",
        has_vault=report.has_vault,
        latency_seconds=report.latency,
        upload_bytes_per_second=report.upload and round(report.upload),
        download_bytes_per_second=report.download and round(report.download),
        left=report.left,
        dry_run=dry_run,
    )
