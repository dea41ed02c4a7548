"""``holdfast stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.console import Console
from holdfast.cli.errors import DAMAGE, OK
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import session
from holdfast.cli.values import SNAPSHOT_ID
from holdfast.kernel.ids import short

if TYPE_CHECKING:
    from holdfast.vaults.stats import VaultStats


@click.command("stats")
@click.argument("snapshot", required=False, type=SNAPSHOT_ID)
@which_latest
@shared(no_lock=True)
@click.pass_obj
def command(
    common: Common, snapshot: str | None, hosts: tuple[str, ...], tags: tuple[str, ...], paths: tuple[str, ...]
) -> int:
    """Show sizes, savings and growth.

    Of the whole vault, or with SNAPSHOT of that one.
    """
    from holdfast.app.browse import stats
    from holdfast.app.selection import make_filter

    with session(common, hard=True) as here:
        found = stats(here.context, snapshot, make_filter(hosts, paths, tags))
        here.console.clear()
        if common.json:
            _events(here.console, found)
        else:
            _show(here.console, found)
        return DAMAGE if here.console.saw_damage else OK


def _show(console: Console, found: VaultStats) -> None:
    packs = next((part.files for part in found.stored if part.kind == "packs"), 0)
    files = sum(item.files for item in found.growth)
    rows = [
        (
            "Vault",
            f"{text.size(found.stored_bytes)} in {text.plural(packs, 'pack')}, format version {found.format_version}",
        ),
        ("Snapshots", f"{len(found.growth):,} with {text.plural(files, 'file')}"),
        ("Restored", f"{text.size(found.restore_bytes)} if each snapshot were written out"),
        ("Distinct", f"{text.size(found.used_bytes)} after deduplication (ratio {found.deduplication:.2f})"),
        ("Stored", f"{text.size(found.used_stored)} after compression (ratio {found.compression:.2f})"),
        ("Saving", f"ratio {found.saving:.2f} in all"),
        ("Blobs", f"{found.blobs:,}, of which {found.tree_blobs:,} are folders"),
        ("Chunker", "restic's own" if found.exact_chunker else "built-in fallback: no deduplication against restic's"),
    ]
    if found.missing:
        rows.append(("Missing", f"{text.plural(found.missing, 'blob')}: run 'holdfast check'"))
    for label, value in rows:
        console.line(f"{console.paint(f'{label:<10}', 'bold')} {value}")
    if not found.growth:
        return
    console.line()
    lines = [
        [
            short(item.snapshot.id),
            text.moment(item.snapshot.time_ns),
            f"{item.files:,}",
            text.size(item.restore_bytes),
            text.size(item.new_bytes),
            text.size(item.new_stored),
        ]
        for item in found.growth
    ]
    head = ["ID", "Time", "Files", "Size", "New", "Stored"]
    for line in text.table(head, lines, right=frozenset({2, 3, 4, 5})):
        console.line(line)


def _events(console: Console, found: VaultStats) -> None:
    for item in found.growth:
        console.event(
            "growth",
            snapshot=item.snapshot.id.hex(),
            time=item.snapshot.time,
            files=item.files,
            dirs=item.dirs,
            others=item.others,
            restore_bytes=item.restore_bytes,
            new_blobs=item.new_blobs,
            new_bytes=item.new_bytes,
            new_stored=item.new_stored,
        )
    console.event(
        "summary",
        snapshots=len(found.growth),
        stored={part.kind: {"files": part.files, "bytes": part.bytes} for part in found.stored},
        stored_bytes=found.stored_bytes,
        restore_bytes=found.restore_bytes,
        used_bytes=found.used_bytes,
        used_stored=found.used_stored,
        blobs=found.blobs,
        tree_blobs=found.tree_blobs,
        blob_bytes=found.blob_bytes,
        blob_stored=found.blob_stored,
        duplicate_stored=found.duplicate_stored,
        deduplication=round(found.deduplication, 3),
        compression=round(found.compression, 3),
        saving=round(found.saving, 3),
        missing=found.missing,
        format_version=found.format_version,
        exact_chunker=found.exact_chunker,
    )
