"""``holdfast check``."""

from __future__ import annotations

from dataclasses import replace

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean
from holdfast.cli.errors import DAMAGE, OUTCOMES
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session
from holdfast.cli.values import READ_DATA, Part
from holdfast.kernel.events import Emit, Event, Fact
from holdfast.vaults.base import CheckOptions, CheckReport, Damage, Outcome, Subset

SHOWN_FILES = 10


@click.command("check")
@click.option(
    "--read-data",
    is_flag=False,
    flag_value="all",
    type=READ_DATA,
    metavar="[=5%|n/t]",
    help="Also read the data: all of it, a share picked at random, or part n of t.",
)
@click.option("--rebuild", is_flag=True, help="Make the index of a vault of plain files anew first.")
@click.option("--workers", type=click.IntRange(0, 256), metavar="N", help="Worker processes. [default: by the machine]")
@shared(no_lock=True)
@click.pass_obj
def command(common: Common, read_data: Part | None, rebuild: bool, workers: int | None) -> int:
    """Look for damage in a vault.

    Without --read-data it looks at keys, index, snapshots and folders, and whether every byte that they need is stored.
    With it, everything that is stored is read, decrypted and compared with its hash. Of a vault of plain files
    every file, and all its history, is read and compared in any case.
    """
    from holdfast.app.check import check

    subset = Subset(part=read_data.part, percent=read_data.percent) if read_data is not None else None
    with session(common) as here:
        context = replace(here.context, emit=_all_but_findings(here.console))
        report = check(context, CheckOptions(read_data=subset, rebuild=rebuild, workers=workers))
        return _show(here.console, report, data_read=subset is not None)


def _show(console: Console, report: CheckReport, *, data_read: bool) -> int:
    from holdfast.app.check import remedies

    errors = [damage for damage in report.damage if damage.severity == "error"]
    for damage in report.damage:
        _tell(console, damage)
    if not console.quiet:
        console.line(sentence(report, len(errors), data_read=data_read))
        for words in remedies(report):
            console.line(f"  {words}")
    console.event(
        "summary",
        outcome=str(report.outcome),
        kind=report.kind,
        damage=len(errors),
        hints=len(report.damage) - len(errors),
        snapshots=report.snapshots,
        trees=report.trees,
        files=report.files,
        packs=report.packs,
        packs_read=report.packs_read,
        bytes_read=report.bytes_read,
        unused_packs=report.unused_packs,
        remedies=remedies(report),
        seconds=round(report.seconds, 3),
    )
    if errors or report.outcome is Outcome.FAILED:
        return DAMAGE
    return OUTCOMES[report.outcome]


def _all_but_findings(console: Console) -> Emit:
    """For people, the list at the end tells what was found, and what it touches; not the facts as well."""

    def emit(event: Event) -> None:
        if console.json or not (isinstance(event, Fact) and event.kind == "damage.found"):
            console.emit(event)

    return emit


def _tell(console: Console, damage: Damage) -> None:
    console.event(
        "damage",
        kind=damage.kind,
        severity=damage.severity,
        message=clean(damage.message),
        snapshots=list(damage.snapshots),
        files=[clean(file) for file in damage.files],
        files_total=damage.files_total,
    )
    if damage.severity != "error" and console.quiet:
        return
    mark = console.paint("damage:", "red") if damage.severity == "error" else console.paint("note:", "yellow")
    console.line(f"{mark} {text.lines(damage.message)}")
    if damage.snapshots:
        console.line(f"  snapshots: {', '.join(damage.snapshots)}")
    for file in damage.files[:SHOWN_FILES]:
        console.line(f"  {text.name(file)}")
    more = max(damage.files_total, len(damage.files)) - SHOWN_FILES
    if more > 0:
        console.line(f"  ... and {more:,} more")


def sentence(report: CheckReport, errors: int, *, data_read: bool) -> str:
    """The result in one sentence."""
    begin = f"{text.plural(errors, 'damage', 'damages')} found" if errors else "No damage found"
    if report.kind != "archive":
        files = f"{text.plural(report.files, 'file')} read and compared ({text.size(report.bytes_read)})"
        return f"{begin}: {files} in {text.duration(report.seconds)}"
    looked = [text.plural(report.snapshots, "snapshot"), text.plural(report.files, "file")]
    packs = text.plural(report.packs, "pack")
    looked.append(f"{report.packs_read:,} of {packs} read ({text.size(report.bytes_read)})" if data_read else packs)
    if report.unused_packs:
        looked.append(f"{text.plural(report.unused_packs, 'pack')} unused")
    return f"{begin}: {', '.join(looked)} in {text.duration(report.seconds)}"
