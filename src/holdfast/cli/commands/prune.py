"""``holdfast prune``."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import text
from holdfast.cli.console import Console
from holdfast.cli.errors import DAMAGE, OUTCOMES
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session
from holdfast.cli.values import SIZE

if TYPE_CHECKING:
    from holdfast.vaults.archive.prune import Figures, PruneSummary, Tolerance


class _Tolerated(click.ParamType["Tolerance"]):
    """``5%``, a size such as ``200M``, or ``unlimited``."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Tolerance:
        from holdfast.vaults.archive.prune import Tolerance

        if isinstance(value, Tolerance):
            return value
        words = str(value).strip()
        if words == "unlimited":
            return Tolerance()
        share = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%", words)
        if share is not None and float(share[1]) <= 100:
            return Tolerance(percent=float(share[1]))
        try:
            return Tolerance(size=SIZE.convert(words, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is not an amount. Write for example 5%, 200M or unlimited.", param, ctx)


@click.command("prune")
@click.option(
    "--max-unused",
    type=_Tolerated(),
    default="5%",
    metavar="AMOUNT",
    help="How much unused data may stay where removing it means writing other data anew: a share (5%), a size (200M), "
    "'unlimited'. [default: 5%]",
)
@click.option("--max-repack-size", type=SIZE, metavar="SIZE", help="Write at most this much anew.")
@click.option("--repack-small", is_flag=True, help="Also merge small packs.")
@click.option("--repack-uncompressed", is_flag=True, help="Also compress what is stored uncompressed.")
@click.option("--repack-cacheable-only", is_flag=True, help="Write only packs with folders anew, none with data.")
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--workers", type=click.IntRange(0, 256), metavar="N", help="Worker processes. [default: by the machine]")
@shared()
@click.pass_obj
def command(
    common: Common,
    max_unused: Tolerance,
    max_repack_size: int | None,
    repack_small: bool,
    repack_uncompressed: bool,
    repack_cacheable_only: bool,
    dry_run: bool,
    workers: int | None,
) -> int:
    """Free the space of what no snapshot uses any more.

    Backups may go on meanwhile, until at the very end packs are deleted: then the vault must be free for a moment
    (--retry-lock waits for it).
    """
    from holdfast.app.prune import prune
    from holdfast.vaults.archive.prune import PruneOptions

    options = PruneOptions(
        max_unused=max_unused,
        max_repack_size=max_repack_size,
        repack_small=repack_small,
        repack_uncompressed=repack_uncompressed,
        repack_cacheable_only=repack_cacheable_only,
        dry_run=dry_run,
        workers=workers,
    )
    with session(common) as here:
        return show(here.console, prune(here.context, options))


def show(console: Console, summary: PruneSummary) -> int:
    """Tell the figures and what was done; the exit code."""
    if not console.quiet:
        for line in _table(summary.figures):
            console.line(line)
        console.line(sentence(summary))
    console.event(
        "summary",
        outcome=str(summary.outcome),
        dry_run=summary.dry_run,
        plan={**asdict(summary.figures), "freed_bytes": summary.figures.freed_bytes},
        new_packs=summary.new_packs,
        new_bytes=summary.new_bytes,
        removed_packs=summary.removed_packs,
        removed_bytes=summary.removed_bytes,
        rescued_packs=summary.rescued_packs,
        damaged_packs=summary.damaged_packs,
        index_files=summary.index_files,
        seconds=round(summary.seconds, 3),
    )
    return DAMAGE if summary.damaged_packs else OUTCOMES[summary.outcome]


def _table(plan: Figures) -> list[str]:
    """The plan, a line for each thing that there is any of."""
    rows = [
        ("used", plan.used_bytes, text.plural(plan.used_blobs, "blob")),
        ("unused", plan.unused_bytes, text.plural(plan.unused_blobs, "blob")),
        ("stored twice", plan.duplicate_bytes, text.plural(plan.duplicate_blobs, "blob")),
        ("in no index", plan.orphan_bytes, text.plural(plan.orphans, "pack")),
        ("to delete", plan.remove_bytes, text.plural(plan.remove_packs, "pack")),
        ("to write anew", plan.copied_bytes, f"from {text.plural(plan.repack_packs, 'pack')}"),
        ("unused after", plan.left_bytes, ""),
    ]
    lines = [f"{name:<14}{text.size(size):>12}  {what}".rstrip() for name, size, what in rows if size]
    if plan.gone_packs:
        lines.append(f"{text.plural(plan.gone_packs, 'pack')} without anything needed are named by the index only")
    return lines


def sentence(summary: PruneSummary) -> str:
    """The result in one sentence."""
    plan = summary.figures
    if summary.dry_run:
        return f"Would free {text.size(plan.freed_bytes)} of {text.size(plan.pack_bytes + plan.orphan_bytes)}"
    freed = summary.removed_bytes - summary.new_bytes
    if not summary.removed_packs and not summary.new_packs:
        words = "Nothing to free"
    else:
        words = f"{text.size(max(freed, 0))} freed: {text.plural(summary.removed_packs, 'pack')} deleted"
        words += f", {text.plural(summary.new_packs, 'pack')} written" if summary.new_packs else ""
    words += f", {text.plural(summary.rescued_packs, 'pack')} used again and kept" if summary.rescued_packs else ""
    if summary.damaged_packs:
        words += f", {text.plural(len(summary.damaged_packs), 'damaged pack')} kept"
    return f"{words} in {text.duration(summary.seconds)}"
